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
    import panel as pn

    from lumigator_nb.dashboards.shell import session
    from lumigator_nb.presentation.watcher import watcher_of
    from lumigator_nb.workspace import connect

    workspace = connect()
    watcher = watcher_of(workspace)
    origins = [f"{host}:{port}" if port else host for host in ("127.0.0.1", "localhost")]
    pn.serve(
        {"/": lambda: session(workspace, watcher)},
        port=port, address="127.0.0.1", websocket_origin=origins, show=show, title="Lumigator", location=False,
    )  # fmt: skip
