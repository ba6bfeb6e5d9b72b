import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lumigator_nb.cluster import Cluster, LocalHead, connect_cluster
from lumigator_nb.cluster.api import RayApi, token_from_environment
from lumigator_nb.cluster.head import QUICK_START
from lumigator_nb.cluster.processes import MARK, end, marked
from lumigator_nb.cluster.shipping import PACKAGE, pack, ship
from lumigator_nb.config import Settings
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError
from lumigator_nb.specs import Status


class FakeRay(ThreadingHTTPServer):
    """Answers each `METHOD path` with what the test put there, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked = {}, []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        answers = self.server.answers.get(f"{self.command} {self.path.partition('gcs')[0]}", [(404, "unknown")])
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write((text if isinstance(text, str) else json.dumps(text)).encode())

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def fake_ray():
    server = FakeRay()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_ray_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name)


def settings(tmp_path, **values):
    return Settings(_env_file=None, lumigator_home=tmp_path, **values)


def closed_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def job(name, status="RUNNING", **fields):
    return {"submission_id": name, "status": status, "message": None, "start_time": 1000, "end_time": None, **fields}


@pytest.mark.parametrize("ask", [
    lambda c: c.statuses(["x"]), lambda c: c.logs("x"), lambda c: c.stop("x"), lambda c: c.info(),
    lambda c: c.submit("x", []),
])  # fmt: skip
def test_a_cluster_that_is_away_is_reported_at_once(ask):
    begin = time.monotonic()
    with pytest.raises(ClusterUnavailableError, match="does not answer"):
        ask(Cluster(closed_address()))
    assert time.monotonic() - begin < 2


def test_a_cluster_that_hangs_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = RayApi(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ClusterUnavailableError, match="Timeout"):
            api.call("GET", "/api/version", timeout=0.1)


def test_without_a_local_head_nothing_is_known_and_none_is_started(tmp_path):
    cluster = connect_cluster(settings(tmp_path))
    assert cluster.statuses(["a", "b"]) == {"a": None, "b": None}
    assert cluster.logs("a") == ""
    assert cluster.info() is None
    cluster.stop("a")
    assert list(tmp_path.rglob("*")) == []


def test_statuses_take_rays_words(fake_ray):
    states = ["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    fake_ray.answers["GET /api/jobs/"] = [(200, [job(word, word) for word in states] + [{"type": "DRIVER"}])]
    found = Cluster(fake_ray.address).statuses([*states, "UNKNOWN"])
    assert {name: state and state.status for name, state in found.items()} == {
        **{word: Status(word.lower()) for word in states},
        "UNKNOWN": None,
    }
    assert len(fake_ray.asked) == 1


def test_an_ended_job_carries_message_times_and_exit_code(fake_ray):
    ended = job("a/b", "FAILED", message="boom", end_time=3000, driver_exit_code=2)
    fake_ray.answers["GET /api/jobs/a%2Fb"] = [(200, ended)]
    state = Cluster(fake_ray.address).statuses(["a/b"])["a/b"]
    assert (state.message, state.exit_code) == ("boom", 2)
    assert (state.ended_at - state.submitted_at).total_seconds() == 2


def test_a_submission_waits_for_a_young_head_and_uploads_what_is_missing(fake_ray):
    fake_ray.answers["PUT /api/packages/"] = [(200, "")]
    fake_ray.answers["POST /api/jobs/"] = [(500, "No available agent to submit job"), (200, {"submission_id": "w1"})]
    Cluster(fake_ray.address, gpus=0.5).submit("w1", ["it's"], metadata={"a": "b"})
    assert [method for method, *_ in fake_ray.asked] == ["GET", "PUT", "POST", "POST"]
    sent = json.loads(fake_ray.asked[-1][2])
    assert sent["entrypoint"] == """exec python -P -m lumigator_nb.worker 'it'"'"'s'"""
    assert (sent["submission_id"], sent["metadata"]) == ("w1", {"a": "b"})
    assert (sent["entrypoint_num_cpus"], sent["entrypoint_num_gpus"]) == (1, 0.5)
    assert "env_vars" not in sent["runtime_env"]
    [uri] = sent["runtime_env"]["py_modules"]
    assert uri.startswith("gcs://_ray_pkg_")


def test_a_known_package_is_not_sent_again_and_a_known_id_is_submitted(fake_ray):
    fake_ray.answers["GET /api/packages/"] = [(200, "")]
    fake_ray.answers["POST /api/jobs/"] = [(500, "ValueError: Job with submission_id w1 already exists.")]
    Cluster(fake_ray.address).submit("w1", [])
    assert [method for method, *_ in fake_ray.asked] == ["GET", "POST"]


def test_a_refused_submission_says_why(fake_ray):
    fake_ray.answers["GET /api/packages/"] = [(200, "")]
    fake_ray.answers["POST /api/jobs/"] = [(400, "Traceback\n  File\nTypeError: no such field")]
    with pytest.raises(ClusterUnavailableError, match="answered 400: TypeError: no such field"):
        Cluster(fake_ray.address).submit("w1", [])


def test_a_wrong_token_is_a_wrong_setting(fake_ray):
    fake_ray.answers["GET /api/version"] = [(401, "Missing token")]
    with pytest.raises(ConfigurationError, match="Missing token"):
        RayApi(fake_ray.address).call("GET", "/api/version")
    assert not RayApi(fake_ray.address).answers()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_ADDRESS", "http://other:8265"),
        ("RAY_ADDRESS", "http://ray.example:9999"),
        ("RAY_ADDRESS", "ray://other:10001"),
        ("RAY_ADDRESS", "other:6379"),
        ("RAY_API_SERVER_ADDRESS", "http://other:8265"),
    ],
)
@pytest.mark.usefixtures("no_ray_variables")
def test_rays_own_variables_may_not_contradict_the_settings(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        connect_cluster(settings(tmp_path, ray_head_node_host="ray.example"))
    assert connect_cluster(settings(tmp_path)).head


@pytest.mark.parametrize("value", ["http://ray.example:8265", "ray://ray.example:10001", "ray.example:6379", "auto"])
@pytest.mark.usefixtures("no_ray_variables")
def test_rays_own_variables_may_repeat_the_settings(tmp_path, monkeypatch, value):
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert connect_cluster(settings(tmp_path, ray_head_node_host="Ray.example")).head is None


@pytest.mark.usefixtures("no_ray_variables")
def test_a_token_is_sent_only_where_the_mode_asks_for_one(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert token_from_environment() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert token_from_environment() == "from-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "direct")
    assert token_from_environment() == "direct"


def test_the_shipped_zip_holds_the_package_and_depends_on_content_only(tmp_path):
    package = tmp_path / "mine"
    for name in ("__init__.py", "data/x.yaml", "__pycache__/a.pyc", ".hidden"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    first = pack(package)
    os.utime(package / "__init__.py", (0, 0))
    assert pack(package) == first
    assert zipfile.ZipFile(io.BytesIO(first)).namelist() == ["mine/__init__.py", "mine/data/x.yaml"]
    (package / "__init__.py").write_text("changed")
    assert pack(package) != first


def test_a_package_is_shipped_as_it_is_at_that_moment(tmp_path, fake_ray):
    fake_ray.answers["GET /api/packages/"] = [(200, "")]
    (tmp_path / "module.py").write_text("first")
    first = ship(RayApi(fake_ray.address), tmp_path)
    assert ship(RayApi(fake_ray.address), tmp_path) == first
    (tmp_path / "module.py").write_text("second")
    second = ship(RayApi(fake_ray.address), tmp_path)
    (tmp_path / "another.py").write_text("")
    assert len({first, second, ship(RayApi(fake_ray.address), tmp_path)}) == 3


@pytest.fixture
def set_up(tmp_path):
    """Calls the stand-in for Ray's set-up with a context; gives what was printed by what it became."""
    worker = tmp_path / "worker.py"
    worker.write_text("import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['OURS']]))")
    own = tmp_path / "ray" / "_private" / "workers" / "setup_worker.py"
    own.parent.mkdir(parents=True)
    for folder in own.parents[:3]:
        (folder / "__init__.py").touch()
    own.write_text("print('by Ray itself')")

    def call(language="PYTHON", **context):
        command = [sys.executable, str(QUICK_START / "_set_up_worker.py"), str(worker), "--a=b c'd"]
        command += [f"--serialized-runtime-env-context={json.dumps(context)}", f"--language={language}"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "THERE": "x", "OURS": ""}
        return subprocess.check_output(command, env=environment, text=True).strip()

    return call


def test_a_worker_of_the_local_head_gets_its_variables_and_arguments(set_up):
    variables = {"OURS": "${THERE}:${NOWHERE}:$"}
    printed = set_up(env_vars=variables, py_executable=sys.executable, command_prefix=[], java_jars=[])
    assert json.loads(printed) == [["--a=b c'd"], "x::$"]
    assert json.loads(set_up()) == [["--a=b c'd"], ""]


@pytest.mark.parametrize(
    "context", [{"command_prefix": ["nice"]}, {"py_executable": "uv run python"}, {"language": "JAVA"}, {"new": 1}]
)
def test_what_is_more_than_variables_is_left_to_ray(set_up, context):
    assert set_up(**context) == "by Ray itself"


def test_the_real_package_is_small_enough_to_ship_with_every_job():
    assert len(pack(PACKAGE)) < 2_000_000


def test_a_damaged_state_file_is_no_head(tmp_path):
    head = LocalHead(tmp_path, {})
    head._state_file.write_text("{half")
    assert head.find() is None
    assert not head.stop()


def test_marked_processes_end_even_if_they_refuse_and_others_go_on():
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deaf!r}])"
    ours_mark, other_mark = uuid.uuid4().hex, uuid.uuid4().hex
    ours, other = (
        subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE)
        for mark in (ours_mark, other_mark)
    )
    try:
        ours.stdout.readline(), other.stdout.readline()
        assert len(marked(ours_mark)) == 2
        assert end(ours_mark, grace=0.2)
        assert marked(ours_mark) == []
        assert not end(ours_mark)
        assert len(marked(other_mark)) == 2
    finally:
        end(other_mark, grace=0.1)
        ours.communicate()
        other.communicate()


def test_importing_the_cluster_loads_no_ray():
    code = "import sys, lumigator_nb.cluster; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
