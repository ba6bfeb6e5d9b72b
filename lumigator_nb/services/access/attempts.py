"""Login throttling: an address that failed too often has to wait."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable


class Attempts:
    """Counts the failed logins of each address.

    Args:
        most: failures within `seconds` after which the address has to wait.
        clock: returns seconds.
    """

    def __init__(self, most: int = 10, seconds: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failed: dict[str, list[float]] = {}

    def wait(self, address: str) -> float:
        """Return the seconds until the address may try again; 0 if it may try now."""
        times = self._recent(_network(address))
        return times[-self._most] + self._seconds - self._clock() if len(times) >= self._most else 0.0

    def begin(self, address: str) -> None:
        """Count an attempt as failed until it succeeds, so that many at the same time do not slip through."""
        self._failed.setdefault(_network(address), []).append(self._clock())
        # Bounds the memory: an attacker may come from many addresses.
        if len(self._failed) > 10_000:
            self._failed = {key: times for key in list(self._failed) if (times := self._recent(key))}

    def succeeded(self, address: str) -> None:
        """Take the latest attempt back."""
        self._failed.get(_network(address), [0.0]).pop()

    def _recent(self, key: str) -> list[float]:
        since = self._clock() - self._seconds
        return [time for time in self._failed.get(key, []) if time > since]


def _network(address: str) -> str:
    """Return the network that counts as one client: of IPv6 a /64, since one customer has 2⁶⁴ addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:  # not an IP address, such as a host name
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False)) if parsed.version == 6 else address
