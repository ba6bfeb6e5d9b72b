"""An experiment as one file, to hand to a colleague: :func:`export` writes it, :func:`load` imports it."""

from lumigator_nb.services.sharing.loading import load
from lumigator_nb.services.sharing.writing import export

__all__ = ["export", "load"]
