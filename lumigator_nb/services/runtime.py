"""What the services of a workspace work with; put together once, by the workspace."""

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
        """Whether workers run with this machine's packages, so that a missing one is missed."""
        return self.cluster.head is not None
