"""Widgets for JupyterLab, as ``lm.ui``. They draw and bind; every act is a call of the workspace."""

from lumigator_nb.widgets.progress import progress

__all__ = ["progress"]
