"""An experiment as one file, to hand to a colleague: :func:`export` writes it, :func:`load` imports it.

Both are imported when they are used: :mod:`lumigator_nb.services.elsewhere` reads such a file without a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lumigator_nb.services.sharing.loading import load
    from lumigator_nb.services.sharing.writing import export

__all__ = ["export", "load"]
_HOMES = {"export": "writing", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
