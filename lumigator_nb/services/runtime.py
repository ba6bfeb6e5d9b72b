"""The composition of a workspace: what every service works with. Only the workspace creates it."""

from __future__ import annotations

from dataclasses import dataclass

from lumigator_nb.cluster import Cluster
from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.storage.store import Store


@dataclass(frozen=True)
class Runtime:
    """One database, store and cluster, and the settings that name them."""

    settings: Settings
    database: Database
    store: Store
    cluster: Cluster

    @property
    def computes_here(self) -> bool:
        """Whether workers run on this machine, so that a package missing here is missing there, too."""
        return self.cluster.head is not None
