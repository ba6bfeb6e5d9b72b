"""Generic functions that render a value. Each package registers views for its values.

A view imports the value that it renders. The value only inherits from :class:`Rendered`, and never imports its view, so
there are no circular imports.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@singledispatch
def as_html(value: object) -> str:
    """Return a value as HTML, for a notebook."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_text(value: object) -> str:
    """Return a value as text, for a terminal."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_markdown(value: object) -> str:
    """Return a value as Markdown, for a wiki or a pull request."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_page(value: object) -> str:
    """Return a value as a self-contained HTML document."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


@singledispatch
def as_sheets(value: object) -> Iterable[tuple[str, pd.DataFrame]]:
    """Return a value as the sheets of a workbook: pairs of name and frame."""
    raise NotImplementedError(f"no view of {type(value).__name__} is registered")


class Rendered:
    """Base of values that notebooks and terminals show by their views.

    A dataclass needs `repr=False` to inherit this `__repr__`.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return as_text(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)
