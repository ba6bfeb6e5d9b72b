"""Widgets for JupyterLab, available as ``lm.ui``. They draw and bind; all work is done by the workspace."""

from lumigator_nb.widgets.compare import compare
from lumigator_nb.widgets.embedded import dashboard
from lumigator_nb.widgets.launch import launch
from lumigator_nb.widgets.progress import progress
from lumigator_nb.widgets.rating import rate
from lumigator_nb.widgets.settings import settings
from lumigator_nb.widgets.upload import upload

__all__ = ["compare", "dashboard", "launch", "progress", "rate", "settings", "upload"]
