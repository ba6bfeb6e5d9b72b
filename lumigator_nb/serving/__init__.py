"""The web server: serves the dashboard, alone, from a notebook's kernel, or together with the REST API."""

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

    On loopback, every user of this machine may use it, unless a login is configured. On other addresses, it does not
    start without a login. Defaults come from the settings LUMIGATOR_DASHBOARD_…; OAuth is configured only there.
    docs/deploy.md shows how to run it behind a proxy.

    Args:
        address: address to listen on; "0.0.0.0" listens on all interfaces.
        port: port to listen on; 0 picks a free one.
        show: open the dashboard in a browser.
        password_file: users and password hashes; ``lumigator-nb dashboard --add-user NAME FILE`` writes it.
        token: shared token for the login, of at least 16 characters.
        allow_origin: further host names under which browsers reach it, such as ``lumigator.example.org``.
        prefix: path prefix of all URLs if a proxy passes one on, such as ``/lumigator``.
        behind_proxy: trust a proxy's headers about the browser's address and HTTPS.
        certificate, private_key: PEM files, to serve HTTPS without a proxy.
        secret_file: file with the key that signs logins; default: one in LUMIGATOR_HOME, created on first use.

    Raises:
        MissingExtraError: panel is not installed.
        ConfigurationError: there is no login on a public address, the port is taken, or a setting is invalid.
    """
    _require_panel()
    from lumigator_nb.serving.auth_methods import auth_method_of
    from lumigator_nb.serving.http import Serving, run
    from lumigator_nb.workspace import connect

    with connect() as workspace:
        serving = Serving(
            address=address, port=port, auth_method=auth_method_of(workspace.settings, password_file, token),
            origins=tuple(allow_origin), prefix=prefix, behind_proxy=behind_proxy, certificate=certificate,
            private_key=private_key, secret_file=secret_file,
        )  # fmt: skip
        run(workspace, serving, show=show)


def serve_here(workspace: Workspace) -> Served:
    """Serve the dashboard of a workspace on loopback, in a thread of this process, under a path that is a secret.

    Raises:
        MissingExtraError: panel is not installed.
    """
    _require_panel()
    from lumigator_nb.serving.served import Served

    return Served(workspace)


def _require_panel() -> None:
    if find_spec("panel") is None or find_spec("panel_material_ui") is None:
        raise MissingExtraError("the dashboard", "dashboard")
