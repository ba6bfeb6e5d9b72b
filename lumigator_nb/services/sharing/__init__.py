"""An experiment as one file, for a colleague: written by :func:`export`, taken in by :func:`load`."""

from lumigator_nb.services.sharing.loading import load
from lumigator_nb.services.sharing.writing import export

__all__ = ["export", "load"]
