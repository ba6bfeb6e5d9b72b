"""One dispatch for how a value shows itself: each room registers how its values are drawn.

A view draws a value, so it imports it. The value only inherits from :class:`Rendered` and never imports its view.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@singledispatch
def as_html(value: object) -> str:
    """Return what a notebook shows of a value."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_text(value: object) -> str:
    """Return what a terminal shows of a value."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_markdown(value: object) -> str:
    """Return a value for a wiki or a pull request."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_page(value: object) -> str:
    """Return a value as a whole HTML document that needs no other file."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_sheets(value: object) -> Iterable[tuple[str, pd.DataFrame]]:
    """Return what a workbook holds of a value: a name and a frame for each sheet."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


class Rendered:
    """A value that notebooks and terminals show as its view draws it. A dataclass keeps its own `repr` unless asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)
