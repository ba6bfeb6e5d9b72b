"""The server: dashboard and REST API, in one process and on one port."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio.to_thread
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import Application

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

# Between claiming a workflow and handing it over, others take less.
OTHERS_GRACE = timedelta(seconds=20)
LOOK_EVERY_S, RETRY_EVERY_S, TIDY_EVERY_S = 1.0, 5.0, 3600.0
# That answer requests. More of them only take the interpreter from each other: the slowest answers come later.
THREADS = 16
# Time that requests under way have to end when the server is told to.
GRACE_S = 20.0
# Imported when models with an API are first asked for. That takes seconds, and on a busy machine longer than the 10 s
# that Lumigator's SDK waits for an answer.
SLOW_IMPORTS = ("any_llm",)


@dataclass(frozen=True)
class Api:
    """How the REST API is served, beside what :class:`Serving` says of both.

    Attributes:
        ray_port: the API listens there, too, where Lumigator's SDK looks for Ray; None does not.
        tokens: ask for tokens on loopback, too.
    """

    ray_port: int | None = None
    tokens: bool = False


class Server:
    """Dashboard and API of a workspace; listens when made.

    Raises:
        ConfigurationError: a port is taken, or a file cannot be used.
    """

    def __init__(self, ws: Workspace, serving: Serving, api: Api = Api()) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self.helper = Helper(ws)
        key = derived_key(serving.secret_file or ws.settings.home / KEY_FILE, b"files")
        allowed_origins = ws.settings.api_cors_allowed_origins or ""
        origins = [each.strip().rstrip("/") for each in allowed_origins.split(",") if each.strip()]
        _ = ws.settings.rest_keys  # refused before anybody is served
        services = Services(
            ws=ws,
            links=Links(key),
            open=is_loopback(serving.address) and serving.gate is None and not api.tokens,
            local=serving.local,
            submit_soon=self.helper.wake,
            max_upload=ws.settings.lumigator_max_upload_mb * 10**6,
        )
        self._services = services
        # Where there is a login, programs are led to it, as everybody is.
        hello = {"Hello": "Lumigator!🐊"} if serving.gate is None else None
        arguments = {"app": make_app(services, origins), "max_upload": services.max_upload, "prefix": serving.path}
        path = r"/(?:api|metrics)(?:/.*)?"
        self._server = started(ws, serving, routes=[(path, Bridge, arguments)], hello=hello, loop=IOLoop.current())
        self.port: int = self._server.port
        allowed = serving.allowed(self.port)
        others = [serving.allowed(api.ray_port)] if api.ray_port is not None else []
        services.knows_host = lambda host: any(each.know(host) for each in (allowed, *others))
        services.admits_origin = lambda origin, host: allowed.admit(origin, host) or origin in origins or "*" in origins
        there = alone([(serving.path + path, Bridge, arguments)])
        self._ray = _listening(there, api.ray_port, serving) if api.ray_port is not None else None

    def run(self, stopped: asyncio.Event | None = None) -> None:
        """Serve until the process is told to end, or `stopped` is set; then end what was begun."""
        stopped = stopped or asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            if threading.current_thread() is threading.main_thread():
                self._loop.add_signal_handler(number, stopped.set)
        self.helper.start()
        # What was imported stays; to look through all of it again and again for garbage would stop everybody for 0.2 s.
        gc.collect()
        gc.freeze()
        # Not `run_forever`: the threads that answer requests end with the task that began them.
        self._loop.run_until_complete(self._until(stopped))

    async def _until(self, stopped: asyncio.Event) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await stopped.wait()
        log.info("ending: what is under way is answered, and nothing new is taken")
        self._services.ending = True
        http = self._server._http
        http.stop()
        if self._ray is not None:
            self._ray.stop()
        deadline = time.monotonic() + GRACE_S
        while any(each.is_answering for each in Bridge.under_way) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self._services.races.close()
        await asyncio.to_thread(self.helper.stop)
        self._server.stop(wait=False)
        await http.close_all_connections()


def _listening(application: Application, port: int, serving: Serving) -> HTTPServer:
    """Listen on another port, just as safely."""
    files = {"certfile": str(serving.certificate), "keyfile": str(serving.private_key)}
    found = HTTPServer(application, ssl_options=files if serving.certificate else None, **http_options(serving))
    try:
        found.listen(port, serving.address)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} cannot be listened on: {error.strerror or error}", "choose another --ray-port, or none"
        ) from None
    return found


class Helper:
    """A thread that does what no request should wait for.

    It hands workflows to the cluster, also those that a server which was killed had only noted down; keeps the
    record of how they stand; makes the datasets that jobs owe; and ends and removes what was deleted. Several servers
    on one database may each have one.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._asked, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="lumigator-helper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something waits for the cluster, or is to be removed."""
        self._asked.set()

    def stop(self) -> None:
        """End after what it is doing."""
        self._ending.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join(GRACE_S)

    def _work(self) -> None:
        tidied = 0.0
        self._tried(self._ws.workflows.renew_waiting)
        # The head takes some seconds to start, which the first job need not wait for.
        self._tried(self._ws.cluster.start)
        self._tried(self._ws.workflows.submit_waiting)
        self._tried(_import_slow)
        while not self._ending.is_set():
            asked = self._asked.is_set()
            self._asked.clear()
            well = self._tried(
                lambda asked=asked: self._ws.workflows.submit_waiting(
                    older_than=timedelta(0) if asked else OTHERS_GRACE
                )
            )
            well = self._tried(self._ws.workflows.finish_deletions) and well
            well = self._tried(self._ws.workflows.refresh) and self._tried(self._ws.jobs.settle) and well
            if time.monotonic() - tidied > TIDY_EVERY_S:
                tidied = time.monotonic()
                self._tried(Replies(self._ws.database).tidy)
            self._asked.wait(LOOK_EVERY_S if well else RETRY_EVERY_S)

    def _tried(self, work: Any) -> bool:
        """Do something that is done again anyway; what fails is logged, and the thread goes on."""
        try:
            work()
        except LumigatorError as error:
            log.warning("%s; it is tried again", error.message)
            return False
        except Exception:
            log.exception("the helper failed at something; it is tried again")
            return False
        return True


def _import_slow() -> None:
    for name in SLOW_IMPORTS:
        with suppress(ImportError):
            importlib.import_module(name)


class JsonLines(logging.Formatter):
    """Each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found = {
            "time": now().isoformat(), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), "request_id": CURRENT.get(),
        }  # fmt: skip
        found |= {"request": record.request} if hasattr(record, "request") else {}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False)


class Lines(logging.Formatter):
    """Each record as a line of text, with the id of its request at the end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - named by the base
        """Return the line."""
        request_id = CURRENT.get()
        return f"{super().formatMessage(record)}{f' [{request_id}]' if request_id else ''}"


def log_to_stderr(*, as_json: bool) -> None:
    """Have the package's log written, one line for each request; and warnings, of the web server, too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else Lines("%(asctime)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    for name, level in (("lumigator_nb", logging.INFO), ("py.warnings", logging.WARNING), ("tornado", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


def serve(ws: Workspace, serving: Serving, api: Api = Api()) -> None:
    """Serve until told to end; the first line printed is the address."""
    server = Server(ws, serving, api)
    scheme = "https" if serving.certificate else "http"
    host = serving.address if serving.address not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 - compared
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}{serving.path}/"
    print(f"Lumigator is at {url}, its API at {url}api/v1/docs (Ctrl+C ends it)", flush=True)  # noqa: T201
    server.run()
