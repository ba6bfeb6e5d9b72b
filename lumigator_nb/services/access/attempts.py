"""Guessing is slowed down: how often an address has failed to prove who it is."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable


class Attempts:
    """Counts failed logins of each address.

    Args:
        most: within `seconds`; then the address has to wait.
        clock: in seconds.
    """

    def __init__(self, most: int = 10, seconds: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failed: dict[str, list[float]] = {}

    def wait(self, address: str) -> float:
        """Return the seconds until the address may try again; 0 where it may now."""
        times = self._recent(_network(address))
        return times[-self._most] + self._seconds - self._clock() if len(times) >= self._most else 0.0

    def begin(self, address: str) -> None:
        """Count an attempt as failed until it is known to be none: many at once must not slip through."""
        self._failed.setdefault(_network(address), []).append(self._clock())
        if len(self._failed) > 10_000:
            self._failed = {key: times for key in list(self._failed) if (times := self._recent(key))}

    def succeeded(self, address: str) -> None:
        """Take the latest attempt back."""
        self._failed.get(_network(address), [0.0]).pop()

    def _recent(self, key: str) -> list[float]:
        since = self._clock() - self._seconds
        return [each for each in self._failed.get(key, []) if each > since]


def _network(address: str) -> str:
    """Whoever has one address of IPv6 has 2⁶⁴ of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((int(found), 64), strict=False)) if found.version == 6 else address
