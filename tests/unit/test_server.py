"""The server in this process, over workers that are called at once: who is slow, who goes away, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from waiting import PATIENCE_S

pytest.importorskip("fastapi")

import requests

from lumigator_nb.services.experiments import Experiments
from lumigator_nb.serving import asgi_bridge
from lumigator_nb.serving import http as dashboards
from lumigator_nb.serving.auth_methods import Token
from lumigator_nb.serving.http import Serving
from lumigator_nb.serving.rest_and_dashboard import JsonLines, Lines, Server, log_to_stderr

CSV = "example,ground_truth\nText one begins. It ends.,One\n"


@contextmanager
def running(ws, **options) -> Iterator[str]:
    """The address of a server that ends with the block."""
    ws.cluster.start = lambda: None  # it needs none
    made: queue.Queue[tuple[Server, asyncio.Event]] = queue.Queue()

    def serve() -> None:
        server, stopped = Server(ws, Serving(port=0, **options)), asyncio.Event()
        made.put((server, stopped))
        server.run(stopped)

    thread = threading.Thread(target=serve)
    thread.start()
    server, stopped = made.get(timeout=PATIENCE_S)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server._loop.call_soon_threadsafe(stopped.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def uploaded(address: str) -> str:
    answer = requests.post(f"{address}/api/v1/datasets", files={"dataset": ("x.csv", CSV)}, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize("sent", [
    "POST /api/v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Le",
    "POST /api/v1/experiments HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 100\r\n\r\n{{",
])  # fmt: skip
def test_whoever_sends_too_slowly_is_hung_up_on(inline_ws, monkeypatch, sent) -> None:
    monkeypatch.setattr(dashboards, "HEADER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(asgi_bridge, "CHUNK_TIMEOUT_S", 0.2)
    with running(inline_ws) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as slow:
            slow.sendall(sent.format(port=port).encode())
            assert slow.recv(100) == b""
        assert requests.get(f"{address}/api/v1/health", timeout=PATIENCE_S).ok


def test_programs_are_greeted_and_browsers_get_the_dashboard(inline_ws) -> None:
    with running(inline_ws) as address:
        for accepted in ("*/*", "application/json", ""):
            greeted = requests.get(f"{address}/", headers={"Accept": accepted}, timeout=PATIENCE_S)
            assert (greeted.status_code, greeted.json()) == (200, {"Hello": "Lumigator!🐊"})
            assert greeted.headers["Vary"] == "Accept"
        page = requests.get(f"{address}/", headers={"Accept": "text/html,*/*;q=0.8"}, timeout=PATIENCE_S)
        assert page.headers["Content-Type"].startswith("text/html")
        foreign = requests.get(f"{address}/", headers={"Host": "evil.example.org"}, timeout=PATIENCE_S)
        assert foreign.status_code == 403


def test_where_people_log_in_programs_are_led_there_too(inline_ws) -> None:
    with running(inline_ws, auth_method=Token("a-token-of-some-length")) as address:
        assert requests.get(f"{address}/", allow_redirects=False, timeout=PATIENCE_S).status_code == 302


def test_a_page_that_is_typed_without_its_sign_is_found(inline_ws) -> None:
    typed = ["/datasets", "/jobs/", "/experiments/a%20b%2Fc%25/comparison?tab=charts&score=x%2Fy", "/models/%3Cb%3E%22"]
    with running(inline_ws) as address:
        answers = [requests.get(address + each, allow_redirects=False, timeout=PATIENCE_S) for each in typed]
        assert [answer.status_code for answer in answers] == [302] * len(typed)
        assert [answer.headers["Location"] for answer in answers] == [f"/#{each}" for each in typed]
        for nothing in ("/nowhere", "/datasetsx"):
            assert requests.get(address + nothing, timeout=PATIENCE_S).status_code == 404


def test_progress_without_end_does_not_keep_the_server_from_ending(inline_ws, cluster) -> None:
    cluster.execute = False
    with running(inline_ws) as address:
        asked = {"name": "x", "dataset": uploaded(address), "metrics": ["rouge"]}
        experiment = requests.post(f"{address}/api/v1/experiments", json=asked, timeout=PATIENCE_S).json()["id"]
        model = {"name": "m", "provider": "baseline", "model": "lead-1", "experiment_id": experiment}
        assert requests.post(f"{address}/api/v1/workflows", json=model, timeout=PATIENCE_S).status_code == 201
        url = f"{address}/api/v1/experiments/{experiment}/events"
        lines = requests.get(url, stream=True, timeout=PATIENCE_S).iter_lines()
        assert next(lines) == b"event: progress"
    assert b"event: end" not in list(lines)  # it was closed whole: the last piece came


def test_who_goes_away_before_the_answer_gets_all_of_it_with_the_same_key(inline_ws, monkeypatch) -> None:
    begun, gone = threading.Event(), threading.Event()
    create = Experiments.create_unprompted

    def slowly(*arguments, **options):
        begun.set()
        assert gone.wait(PATIENCE_S)
        return create(*arguments, **options)

    with running(inline_ws) as address:
        asked = {"name": "once", "dataset": uploaded(address), "metrics": ["rouge"]}
        url, headers = f"{address}/api/v1/experiments", {"Idempotency-Key": "k"}
        monkeypatch.setattr(Experiments, "create_unprompted", slowly)
        content = json.dumps(asked)
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as leaving:
            head = f"POST /api/v1/experiments HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nIdempotency-Key: k\r\n"
            leaving.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
            assert begun.wait(PATIENCE_S)
        gone.set()
        answer = requests.post(url, data=content, headers=headers, timeout=PATIENCE_S)
        while answer.status_code == 409:  # the first is worked on still
            answer = requests.post(url, data=content, headers=headers, timeout=PATIENCE_S)
        assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")
        assert answer.json()["name"] == "once"
        assert inline_ws.experiments.count() == 1


@pytest.mark.parametrize("formatter", [JsonLines(), Lines("%(levelname)s %(message)s")])
def test_each_line_of_the_log_names_its_request(inline_ws, monkeypatch, caplog, formatter) -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(formatter.format(record))
    logger = logging.getLogger("lumigator_nb")
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "handlers", [handler])

    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(inline_ws.datasets, "list", broken)
    with running(inline_ws) as address:
        headers = {"X-Request-ID": "mine-1"}
        assert requests.get(f"{address}/api/v1/datasets", headers=headers, timeout=PATIENCE_S).status_code == 500
        assert requests.get(f"{address}/api/v1/jobs/%0aforged", timeout=PATIENCE_S).status_code == 422
    about = [line for line in lines if "mine-1" in line]
    assert any("RuntimeError: broken" in line for line in about)
    assert any("GET /api/v1/datasets 500" in line for line in about)
    assert any("GET /api/v1/jobs/%0Aforged 422" in line for line in lines)
    assert any("shutting down" in line for line in lines if "mine-1" not in line)


def handshake(address: str, host: str, **headers: str) -> str:
    """The first line that answers a websocket's handshake, over a socket of our own."""
    port = int(address.rpartition(":")[2])
    lines = {
        "Host": host.format(port=port), "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "bokeh, no-token",
        **{name.replace("_", "-"): value.format(port=port) for name, value in headers.items()},
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as opened:
        opened.sendall(f"GET /ws HTTP/1.1\r\n{head}\r\n".encode())
        return opened.recv(1000).split(b"\r\n")[0].decode()


def test_no_websocket_opens_under_a_foreign_name(inline_ws, caplog) -> None:
    foreign = "evil.example.org:{port}"
    with running(inline_ws) as address:
        for headers in (
            {"Origin": f"http://{foreign}"},
            {"Origin": f"http://{foreign}", "Sec_Fetch_Site": "same-origin"},
            {"Sec_Fetch_Site": "none"},
            {},
        ):
            assert handshake(address, foreign, **headers) == "HTTP/1.1 403 Forbidden", headers
        assert handshake(address, "127.0.0.1:{port}", Origin=f"http://{foreign}") == "HTTP/1.1 403 Forbidden"
        own = {"Origin": "http://127.0.0.1:{port}"}
        assert handshake(address, "127.0.0.1:{port}", **own) == "HTTP/1.1 101 Switching Protocols"
        assert handshake(address, "127.0.0.1:{port}", **own, Sec_WebSocket_Protocol="").startswith("HTTP/1.1 101")
        assert requests.get(f"{address}/api/v1/health", timeout=PATIENCE_S).ok
    assert "this server does not serve the host evil.example.org" in caplog.text
    assert "Uncaught exception" not in caplog.text


def test_answers_say_what_pages_may_do_and_are_not_kept(inline_ws) -> None:
    with running(inline_ws) as address:
        page, docs, api = (
            requests.get(f"{address}/{path}", timeout=PATIENCE_S) for path in ("", "api/v1/docs", "api/v1/jobs")
        )
    for answer in (page, docs, api):
        assert answer.ok
        assert "default-src" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
    assert "frame-ancestors 'self'" in page.headers["Content-Security-Policy"]
    for answer in (docs, api):
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"


def test_with_log_json_every_line_is_json(capsys, monkeypatch) -> None:
    for name in ("lumigator_nb", "py.warnings", "tornado"):
        logger = logging.getLogger(name)
        for field in ("handlers", "level", "propagate"):
            monkeypatch.setattr(logger, field, [] if field == "handlers" else getattr(logger, field))
    log_to_stderr(as_json=True)
    try:
        logging.getLogger("lumigator_nb.serving.rest_and_dashboard").info("begun")
        warnings.warn("the same content is already stored", stacklevel=1)
        logging.getLogger("tornado.application").error("two\nlines")
    finally:
        logging.captureWarnings(False)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in lines] == [
        "lumigator_nb.serving.rest_and_dashboard",
        "py.warnings",
        "tornado.application",
    ]
    assert "the same content is already stored" in lines[1]["message"]
