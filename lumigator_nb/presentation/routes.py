"""Addresses of the dashboard's pages: the part of a URL after #."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode


@dataclass(frozen=True)
class Route:
    """The address of a page: a path, such as ("experiments", "tickets"), and choices, such as {"page": "2"}."""

    path: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, fragment: str) -> Route:
        """Return the route of a URL's fragment, with or without its #. Any text has one."""
        path, _, query = fragment.removeprefix("#").partition("?")
        return cls(
            tuple(unquote(part) for part in path.split("/") if part),
            dict(parse_qsl(query, keep_blank_values=False)),
        )

    @property
    def head(self) -> str:
        """The first part of the path; empty for the start page."""
        return self.path[0] if self.path else ""

    def to(self, *path: str, **query: object) -> Route:
        """Return the route of another page."""
        return Route(path, _chosen(query))

    def with_(self, **query: object) -> Route:
        """Return the route of the same page with other choices; None removes one."""
        return Route(self.path, _chosen({**self.query, **query}))

    def number(self, name: str, default: int = 1, least: int = 1) -> int:
        """Return a choice as a whole number of at least `least`; the default if it is not a number."""
        try:
            return max(least, int(self.query.get(name, default)))
        except ValueError:
            return default

    def __str__(self) -> str:
        query = urlencode(self.query)
        return "#/" + "/".join(quote(part, safe="") for part in self.path) + (f"?{query}" if query else "")


def _chosen(query: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items() if value is not None and value != ""}
