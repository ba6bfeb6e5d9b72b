"""The server with dashboard and REST API: one process, one port."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.util import find_spec

import anyio.to_thread
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from lumigator_nb.errors import ConfigurationError, LumigatorError
from lumigator_nb.rest.app import CURRENT, make_app
from lumigator_nb.rest.signed_links import Links
from lumigator_nb.rest.state import Services
from lumigator_nb.services.access.idempotency import Replies
from lumigator_nb.serving.asgi_bridge import Bridge
from lumigator_nb.serving.http import KEY_FILE, Serving, alone, derived_key, http_options, is_loopback, started
from lumigator_nb.specs import now
from lumigator_nb.workspace import Workspace

log = logging.getLogger(__name__)

# Another process needs less time between reserving a workflow and submitting it. Older reservations are abandoned.
OTHERS_GRACE = timedelta(seconds=20)
POLL_INTERVAL_S, RETRY_INTERVAL_S, TIDY_INTERVAL_S = 1.0, 5.0, 3600.0
# Threads that answer requests. More of them compete for the interpreter, and the slowest responses come later.
THREADS = 16
# Time for unfinished requests to end at shutdown.
GRACE_S = 20.0
# Imported at the first use of models with an API. That takes seconds, and on a busy machine longer than the 10 s that
# Lumigator's SDK waits for a response.
SLOW_IMPORTS = ("any_llm",)


@dataclass(frozen=True)
class Api:
    """Options of the REST API, in addition to those of :class:`Serving`.

    Attributes:
        ray_port: second port of the API, at which Lumigator's SDK looks for Ray; None for no second port.
        tokens: whether clients on loopback need a token, too.
    """

    ray_port: int | None = None
    tokens: bool = False


class Server:
    """The server of a workspace's dashboard and API. Listens from its construction on.

    Raises:
        ConfigurationError: a port is taken, or a file cannot be used.
    """

    def __init__(self, ws: Workspace, serving: Serving, api: Api = Api()) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self.helper = Helper(ws)
        key = derived_key(serving.secret_file or ws.settings.home / KEY_FILE, b"files")
        allowed_origins = ws.settings.api_cors_allowed_origins or ""
        origins = [origin.strip().rstrip("/") for origin in allowed_origins.split(",") if origin.strip()]
        _ = ws.settings.rest_keys  # raises now, and not at a request, if the setting is malformed
        services = Services(
            ws=ws,
            links=Links(key),
            open=is_loopback(serving.address) and serving.auth_method is None and not api.tokens,
            local=serving.local,
            submit_soon=self.helper.wake,
            max_upload=ws.settings.lumigator_max_upload_mb * 10**6,
        )
        self._services = services
        # With a login, programs are redirected to it like browsers.
        hello = {"Hello": "Lumigator!🐊"} if serving.auth_method is None else None
        arguments = {"app": make_app(services, origins), "max_upload": services.max_upload, "prefix": serving.path}
        path = r"/(?:api|metrics)(?:/.*)?"
        self._server = started(ws, serving, routes=[(path, Bridge, arguments)], hello=hello, loop=IOLoop.current())
        self.port: int = self._server.port
        allowed = serving.allowed(self.port)
        hosts = [allowed, *([serving.allowed(api.ray_port)] if api.ray_port is not None else [])]
        services.knows_host = lambda host: any(port_hosts.know(host) for port_hosts in hosts)
        services.admits_origin = lambda origin, host: allowed.admit(origin, host) or origin in origins or "*" in origins
        self._ray: HTTPServer | None = None
        if api.ray_port is not None:
            files = {"certfile": str(serving.certificate), "keyfile": str(serving.private_key)}
            self._ray = HTTPServer(
                alone([(serving.path + path, Bridge, arguments)]),
                ssl_options=files if serving.certificate else None, **http_options(serving),
            )  # fmt: skip
            try:
                self._ray.listen(api.ray_port, serving.address)
            except OSError as error:
                raise ConfigurationError(
                    f"cannot listen on port {api.ray_port}: {error.strerror or error}",
                    "choose another --ray-port, or none",
                ) from None

    def run(self, stopped: asyncio.Event | None = None) -> None:
        """Serve until a signal (SIGINT, SIGTERM) arrives or `stopped` is set; then finish running requests."""
        stopped = stopped or asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            if threading.current_thread() is threading.main_thread():
                self._loop.add_signal_handler(number, stopped.set)
        self.helper.start()  # only now: a server whose port is taken must not submit anything
        # Imported modules stay for ever. Without freeze(), each full collection looks through them, and stops all
        # requests for 0.2 s.
        gc.collect()
        gc.freeze()
        # Not `run_forever`: AnyIO's threads, which answer requests, end with the task that started them.
        self._loop.run_until_complete(self._serve_until(stopped))

    async def _serve_until(self, stopped: asyncio.Event) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await stopped.wait()
        log.info("shutting down: running requests are finished, new ones refused")
        self._services.ending = True
        http = self._server._http
        http.stop()
        if self._ray is not None:
            self._ray.stop()
        deadline = time.monotonic() + GRACE_S
        while any(request.is_answering for request in Bridge.under_way) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._services.races.close()
        await asyncio.to_thread(self.helper.stop)
        self._server.stop(wait=False)
        await http.close_all_connections()


class Helper:
    """A thread for work that no request should wait for: the cluster may take long to start or to answer.

    It submits queued workflows, also those that a killed server left behind; records the status of workflows; creates
    the datasets that jobs produce; and completes deletions. Several servers may share a database, each with a helper.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="lumigator-helper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next round now: a workflow was queued, or something was deleted."""
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread after its current round."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(GRACE_S)

    def _work(self) -> None:
        tidied_at = 0.0
        self._try(self._ws.workflows.renew_waiting)
        # The head takes some seconds to start; so the first job does not have to wait for it.
        self._try(self._ws.cluster.start)
        self._try(self._ws.workflows.submit_waiting)
        for name in SLOW_IMPORTS:
            if find_spec(name) is not None:
                self._try(partial(importlib.import_module, name))
        while not self._ending.is_set():
            # Without a wake-up call, only submit what another process seems to have abandoned.
            older_than = timedelta(0) if self._wake.is_set() else OTHERS_GRACE
            self._wake.clear()
            ok = self._try(partial(self._ws.workflows.submit_waiting, older_than=older_than))
            ok = self._try(self._ws.workflows.finish_deletions) and ok
            ok = self._try(self._ws.workflows.refresh) and self._try(self._ws.jobs.settle) and ok
            if time.monotonic() - tidied_at > TIDY_INTERVAL_S:
                tidied_at = time.monotonic()
                self._try(Replies(self._ws.database).tidy)
            self._wake.wait(POLL_INTERVAL_S if ok else RETRY_INTERVAL_S)

    def _try(self, work: Callable[[], object]) -> bool:
        """Do some work and return whether it succeeded. A failure is logged; the next round tries again."""
        try:
            work()
        except LumigatorError as error:
            log.warning("%s; it is retried", error.message)
            return False
        except Exception:
            log.exception("the helper thread failed; it retries")
            return False
        return True


class JsonLines(logging.Formatter):
    """Formats each log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": now().isoformat(), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), "request_id": CURRENT.get(),
        }  # fmt: skip
        if hasattr(record, "request"):
            fields["request"] = record.request
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class Lines(logging.Formatter):
    """Formats each log record as a line of text, with the id of its request at the end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - named by the base
        """Return the line."""
        request_id = CURRENT.get()
        return f"{super().formatMessage(record)}{f' [{request_id}]' if request_id else ''}"


def log_to_stderr(*, as_json: bool) -> None:
    """Write the package's log (one line per request) and warnings to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else Lines("%(asctime)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    for name, level in (("lumigator_nb", logging.INFO), ("py.warnings", logging.WARNING), ("tornado", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def serve(ws: Workspace, serving: Serving, api: Api = Api()) -> None:
    """Serve until SIGINT or SIGTERM. Prints the address."""
    server = Server(ws, serving, api)
    scheme = "https" if serving.certificate else "http"
    host = serving.address if serving.address not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 - compared
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}{serving.path}/"
    print(f"Lumigator is at {url}, its API at {url}api/v1/docs (Ctrl+C stops it)", flush=True)  # noqa: T201
    server.run()
