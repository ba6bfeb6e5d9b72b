"""The whole dashboard in a notebook cell: served by the kernel, shown in a frame."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import fragment, tag
from lumigator_nb.display.place import Place, place
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.presentation.routes import Route
from lumigator_nb.widgets.kit import with_hint
from lumigator_nb.workspace import Workspace

if TYPE_CHECKING:
    from lumigator_nb.serving.served import Served

_LEAST, _MOST = 200, 10_000


def dashboard(
    ws: Workspace, experiment: Experiment | str | None = None, *, height: int = 800, address: str | None = None
) -> Dashboard:
    """Show the dashboard in a cell. It runs until the kernel ends, or until ``.stop()``.

    Its server is reachable from this machine only, on a free port, below a path that cannot be guessed. All calls for
    a workspace show the same server.

    Args:
        ws: workspace.
        experiment: record, name or id of the experiment to open; default the list.
        height: of the frame, in pixels.
        address: URL under which the browser reaches a port of the kernel's machine, with {port} in it, such as
            ``https://hub.example.org/user/ada/proxy/{port}``. Default: JupyterHub's, through jupyter-server-proxy,
            else http://127.0.0.1:{port}.

    Raises:
        MissingExtraError: panel is not installed.
        NotFoundError: there is no such experiment.
        InvalidInputError: `height` is out of range, or `address` has no {port}.

    Examples:
        >>> dashboard = lm.ui.dashboard(ws, height=600)
        >>> dashboard.running
        True
        >>> dashboard.stop()
    """
    if not _LEAST <= height <= _MOST:
        raise InvalidInputError(f"height is in pixels, from {_LEAST} to {_MOST}, got {height}")
    if address is not None and "{port}" not in address:
        raise InvalidInputError(f"address has no {{port}} in it: {address!r}", "https://HOST/proxy/{port}")
    route = Route(("experiments",))
    if experiment is not None:
        name = ws.experiments.get(experiment).name
        route = Route(("experiments", name))
    if address is None:
        # A browser reaches the kernel's machine of a JupyterHub only through the hub's proxy.
        prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
        address = f"{prefix.rstrip('/')}/proxy/{{port}}" if prefix else "http://127.0.0.1:{port}"
    return with_hint(Dashboard(_served(ws), route, height, address))


class Dashboard:
    """A dashboard that the kernel serves, shown in a frame.

    Attributes:
        url: address of the dashboard. It is a secret: anyone on this machine who has it can use the dashboard.
    """

    def __init__(self, served: Served, route: Route, height: int, address: str) -> None:
        self._served, self._height = served, height
        self.url = f"{address.replace('{port}', str(served.port)).rstrip('/')}{served.path}{route}"

    @property
    def running(self) -> bool:
        """Whether its server runs."""
        return self._served.running

    def stop(self) -> None:
        """Stop the server, for all cells that show it."""
        self._served.stop()

    @property
    def instead(self) -> str:
        """What to do where the dashboard cannot be shown, in one sentence."""
        if place() is Place.COLAB:
            return "Colab forwards no WebSockets, which the dashboard needs: call ws.compare(experiment) and the like."
        return "Open the address in .url in a browser until this process ends, or run lumigator-nb dashboard."

    def __repr__(self) -> str:
        return f"Dashboard(port={self._served.port}, {'served' if self.running else 'stopped'})"

    def _repr_html_(self) -> str:
        if place() is Place.COLAB:
            return fragment(tag("div", self.instead, class_="lm-note"))
        if not self.running:
            return fragment(tag("div", "The dashboard was stopped. Run the cell to start it again.", class_="lm-note"))
        frame = tag(
            "iframe", src=self.url, title="Lumigator dashboard", width="100%", height=self._height,
            style="border: 1px solid var(--lm-line); border-radius: 4px",
        )  # fmt: skip
        link = tag("a", "Open it in a new tab", href=self.url, target="_blank", rel="noopener")
        note = "If the frame is empty, run the cell again. If the kernel runs on another machine, pass address=…"
        return fragment(frame, tag("div", link, ". ", note, class_="lm-note"))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": f"{self!r}\n{self.instead}", "text/html": self._repr_html_()}


def _served(ws: Workspace) -> Served:
    # Imported here, since it needs Panel, which other widgets do not.
    from lumigator_nb.serving import serve_here

    return serve_here(ws)
