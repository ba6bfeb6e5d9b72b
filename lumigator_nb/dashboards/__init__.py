"""The served dashboard: every experiment, live while it goes on and compared when it has ended."""

from __future__ import annotations

from importlib.util import find_spec

from lumigator_nb.errors import MissingExtraError


def serve(*, port: int = 5006, show: bool = True) -> None:
    """Serve the dashboard on this machine's loopback address until interrupted.

    Args:
        port: 0 takes a free one.
        show: open the browser.

    Raises:
        MissingExtraError: panel is not installed.
    """
    if find_spec("panel") is None:
        raise MissingExtraError("the dashboard", "dashboard")
    from lumigator_nb.dashboards.app import page, serve_pages
    from lumigator_nb.workspace import connect

    workspace = connect()
    serve_pages(lambda: page(workspace), port=port, show=show)
