"""A dashboard that a thread of this process serves, such as a notebook's kernel."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from tornado.ioloop import IOLoop

from lumigator_nb.serving.http import Serving, started
from lumigator_nb.workspace import Workspace


class Served:
    """A dashboard that is served by a thread, until :meth:`stop` or the end of the process.

    Attributes:
        port: port of the server.
        path: path of the dashboard, which contains a random secret.
    """

    def __init__(self, ws: Workspace) -> None:
        self.path = f"/{secrets.token_urlsafe(24)}/"
        self.port = 0
        self._server: Any = None
        self._error: BaseException | None = None
        ready = threading.Event()

        def serve() -> None:
            loop = IOLoop(make_current=False)
            # The secret path protects the dashboard: it is shown in a frame, to which browsers send no cookies, and
            # proxies of notebooks change the host name.
            serving = Serving(port=0, prefix=self.path, origins=("*",), embedded=True)
            try:
                self._server = started(ws, serving, loop=loop)
                self.port = self._server.port
            except BaseException as error:  # raised in the thread that waits
                self._error = error
                return
            finally:
                ready.set()
            loop.start()
            loop.close(all_fds=True)

        self._thread = threading.Thread(target=serve, name="lumigator-dashboard", daemon=True)
        self._thread.start()
        ready.wait()
        if self._error is not None:
            raise self._error

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop the server. Open browser windows keep what they show."""

        def stop_server() -> None:
            self._server.stop(wait=False)
            self._server.io_loop.stop()

        if self.running:
            self._server.io_loop.add_callback(stop_server)  # the loop belongs to the other thread
            self._thread.join(10)
