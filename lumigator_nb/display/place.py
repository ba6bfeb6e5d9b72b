"""The place where Python's values are shown, which decides how progress, messages and widgets are shown."""

from __future__ import annotations

import sys
from enum import StrEnum


class Place(StrEnum):
    """Where this process shows values.

    Attributes:
        NOTEBOOK: a Jupyter kernel, whose front end is JupyterLab, Notebook, VS Code or another one.
        COLAB: Colab's kernel. Colab does not show the widgets of ipywidgets 8 and forwards no WebSockets.
        MARIMO: a marimo notebook, which shows no widgets of ipywidgets but those of anywidget.
        IPYTHON: IPython in a terminal.
        PYTHON: a script, or Python's own prompt.
    """

    NOTEBOOK = "notebook"
    COLAB = "colab"
    MARIMO = "marimo"
    IPYTHON = "ipython"
    PYTHON = "python"

    @property
    def has_cells(self) -> bool:
        """Whether the code is in the cells of a notebook, which shows outputs as HTML."""
        return self in (Place.NOTEBOOK, Place.COLAB, Place.MARIMO)


def place() -> Place:
    """Return the place of this process.

    No package is imported to find out: one that is not loaded does not show anything.
    """
    marimo = sys.modules.get("marimo")
    if marimo is not None and marimo.running_in_notebook():
        return Place.MARIMO
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return Place.PYTHON
    if getattr(shell, "kernel", None) is None:
        return Place.IPYTHON
    return Place.COLAB if "google.colab" in sys.modules else Place.NOTEBOOK
