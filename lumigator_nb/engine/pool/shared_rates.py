"""Rates that all workflows of a cluster share: one small process of the cluster gives out turns."""

from __future__ import annotations

import time
from collections.abc import Iterable

from lumigator_nb.engine.pool.ray_connection import connect
from lumigator_nb.models.pacing import rates
from lumigator_nb.specs import Model

# The number changes with what the actor understands, since one that runs already stays as it is.
_NAME = "rates-1"


class Rates:
    """Gives out turns by account. One for a whole cluster, and it outlives the workflow that began it."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def reserve(self, account: str, count: int, gap: float) -> float:
        """Set aside turns; return in how many seconds the first may begin. `gap` are seconds between two."""
        now = time.monotonic()
        first = max(now, self._free_at.get(account, now))
        self._free_at[account] = first + count * gap
        return first - now


def join(models: Iterable[Model]) -> None:
    """Share the rates of these models with the cluster's other processes, where any of them has one."""
    if any(map(rates.is_limited, models)):
        import ray

        connect()
        actor = (
            ray.remote(Rates)
            .options(name=_NAME, get_if_exists=True, lifetime="detached", num_cpus=0, max_restarts=-1)
            .remote()
        )
        rates.share(lambda account, count, gap: float(ray.get(actor.reserve.remote(account, count, gap))))
