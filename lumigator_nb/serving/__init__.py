"""The served dashboard: every experiment, live while it goes on and compared when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lumigator_nb.errors import MissingExtraError

if TYPE_CHECKING:
    from lumigator_nb.serving.served import Served
    from lumigator_nb.workspace import Workspace


def serve(
    *,
    address: str = "127.0.0.1",
    port: int = 5006,
    show: bool = True,
    password_file: Path | None = None,
    token: str | None = None,
    allow_origin: Sequence[str] = (),
    prefix: str = "",
    behind_proxy: bool = False,
    certificate: Path | None = None,
    private_key: Path | None = None,
    secret_file: Path | None = None,
) -> None:
    """Serve the dashboard until interrupted.

    On loopback everybody on this machine may use it, unless a login is asked for; elsewhere it does not start without
    one. What is left out comes from the settings LUMIGATOR_DASHBOARD_…, OAuth only from there. docs/deploy.md shows
    how it stands behind proxies.

    Args:
        address: to listen on; "0.0.0.0" is all of this machine's.
        port: 0 takes a free one.
        show: open the browser.
        password_file: of those who may come in; ``lumigator-nb dashboard --add-user NAME FILE`` makes it.
        token: that lets in whoever has it, of at least 16 characters.
        allow_origin: further names under which browsers reach it, such as ``lumigator.example.org``.
        prefix: of all addresses, where a proxy passes it on, such as ``/lumigator``.
        behind_proxy: believe a proxy's headers about the browser's address and https.
        certificate, private_key: files in PEM, for https without a proxy.
        secret_file: signs the logins; default one in LUMIGATOR_HOME, made on first use.

    Raises:
        MissingExtraError: panel is not installed.
        ConfigurationError: anybody could come in, the port is taken, or a setting cannot be used.
    """
    _require_panel()
    from lumigator_nb.serving.gates import gate_of
    from lumigator_nb.serving.http import Serving, run
    from lumigator_nb.workspace import connect

    with connect() as workspace:
        serving = Serving(
            address=address, port=port, gate=gate_of(workspace.settings, password_file, token),
            origins=tuple(allow_origin), prefix=prefix, behind_proxy=behind_proxy, certificate=certificate,
            private_key=private_key, secret_file=secret_file,
        )  # fmt: skip
        run(workspace, serving, show=show)


def serve_here(workspace: Workspace) -> Served:
    """Serve the dashboard of a workspace on loopback, by a thread of this process; its path cannot be guessed.

    Raises:
        MissingExtraError: panel is not installed.
    """
    _require_panel()
    from lumigator_nb.serving.served import Served

    return Served(workspace)


def _require_panel() -> None:
    if find_spec("panel") is None or find_spec("panel_material_ui") is None:
        raise MissingExtraError("the dashboard", "dashboard")
