"""A dashboard that is served beside other work of this process, such as a notebook's kernel."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from tornado.ioloop import IOLoop

from lumigator_nb.serving.http import Serving, started
from lumigator_nb.workspace import Workspace


class Served:
    """A dashboard that is served by a thread of this process, for as long as that lives.

    Attributes:
        port: on which it listens.
        path: of its address, which nobody can guess.
    """

    def __init__(self, ws: Workspace) -> None:
        self.path = f"/{secrets.token_urlsafe(24)}/"
        self.port = 0
        self._server: Any = None
        self._problem: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ws, ready), name="lumigator-dashboard", daemon=True)
        self._thread.start()
        ready.wait()
        if self._problem is not None:
            raise self._problem

    def _serve(self, ws: Workspace, ready: threading.Event) -> None:
        loop = IOLoop(make_current=False)
        # The path is the proof: browsers keep cookies from frames, and proxies change the names of hosts.
        serving = Serving(port=0, prefix=self.path, origins=("*",), embedded=True)
        try:
            self._server = started(ws, serving, loop=loop)
            self.port = self._server.port
        except BaseException as error:  # told to whoever waits
            self._problem = error
            return
        finally:
            ready.set()
        loop.start()
        loop.close(all_fds=True)

    @property
    def running(self) -> bool:
        """Whether it is served still."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it; browsers keep what they show."""
        if self.running:
            self._server.io_loop.add_callback(self._stop)
            self._thread.join(10)

    def _stop(self) -> None:
        self._server.stop(wait=False)
        self._server.io_loop.stop()
