"""Widgets for JupyterLab, as ``lm.ui``. They draw and bind; every act is a call of the workspace."""

from lumigator_nb.widgets.progress import progress
from lumigator_nb.widgets.rating import rate

__all__ = ["progress", "rate"]
