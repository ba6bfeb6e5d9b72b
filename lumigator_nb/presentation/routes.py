"""Where a reader of the dashboard is: what stands behind the # of the address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode


@dataclass(frozen=True)
class Route:
    """A place: a path, such as ("experiments", "tickets"), and what is chosen there, such as {"page": "2"}."""

    path: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, fragment: str) -> Route:
        """Return the place that an address's fragment names, with or without its #; never fails."""
        path, _, query = fragment.removeprefix("#").partition("?")
        return cls(
            tuple(unquote(part) for part in path.split("/") if part),
            dict(parse_qsl(query, keep_blank_values=False)),
        )

    @property
    def head(self) -> str:
        """The first part of the path; empty at the start page."""
        return self.path[0] if self.path else ""

    def to(self, *path: str, **query: object) -> Route:
        """Return another place."""
        return Route(path, _chosen(query))

    def with_(self, **query: object) -> Route:
        """Return the same place with other choices; None takes one out."""
        return Route(self.path, _chosen({**self.query, **query}))

    def number(self, name: str, default: int = 1, least: int = 1) -> int:
        """Return a choice that is a whole number; the default where it is none, or too small."""
        try:
            return max(least, int(self.query.get(name, default)))
        except ValueError:
            return default

    def __str__(self) -> str:
        query = urlencode(self.query)
        # A dot alone would be taken as a step in the path by whoever copies the address.
        return "#/" + "/".join(quote(part, safe="") for part in self.path) + (f"?{query}" if query else "")


def _chosen(query: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None and value != ""}
