"""Rates of requests that all processes which ask a provider with one key have in common."""

from __future__ import annotations

from collections.abc import Callable

from lumigator_nb.models.pacing.throttle import Reserve
from lumigator_nb.specs import Model

_reserving: Callable[[str, int, float], float] | None = None


def share(reserving: Callable[[str, int, float], float]) -> None:
    """From now on take turns where other processes take theirs.

    Args:
        reserving: as :data:`Reserve`, for the account that is its first argument.
    """
    global _reserving
    _reserving = reserving


def shared(account: str) -> Reserve | None:
    """Return what reserves turns for an account; None where this process shares its rate with nobody."""
    found = _reserving
    return None if found is None else lambda count, gap: found(account, count, gap)


def account_of(model: Model, key_name: str | None) -> str:
    """Return a name of what a provider counts requests by, as far as can be told: the address, and the key's name."""
    return f"{model.base_url or model.provider} {key_name or ''}".strip()


def is_limited(model: Model) -> bool:
    """Whether a model's settings name a rate."""
    return model.options.get("requests_per_minute") is not None
