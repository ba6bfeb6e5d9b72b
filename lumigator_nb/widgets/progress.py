"""A progress display that does not block the kernel."""

from __future__ import annotations

import threading
import time

import ipywidgets

from lumigator_nb.display.progress import as_html
from lumigator_nb.errors import LumigatorError
from lumigator_nb.services.workflows import POLL_INTERVAL_S, Target
from lumigator_nb.workspace import Workspace


def progress(ws: Workspace, target: Target) -> ipywidgets.HTML:
    """Show how far workflows are; updates by itself until they have ended, while the kernel stays free.

    Args:
        ws: workspace.
        target: experiment, workflow or workflows.

    Raises:
        NotFoundError: there is no such experiment or workflow.
    """
    workflows = ws.workflows.refresh(target)
    view = ipywidgets.HTML(as_html(ws.workflows.progress(workflows)))

    def follow() -> None:
        current = workflows
        while not all(workflow.status.ended for workflow in current):
            time.sleep(POLL_INTERVAL_S)
            try:
                current = ws.workflows.refresh(current)
                html = as_html(ws.workflows.progress(current))
            except LumigatorError:
                continue  # a service that does not answer now may answer the next time
            if html != view.value:
                view.value = html

    threading.Thread(target=follow, name="lumigator-progress", daemon=True).start()
    return view
