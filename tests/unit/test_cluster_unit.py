import io
import json
import os
import platform
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from waiting import PATIENCE_S

from lumigator_nb.cluster import Cluster, LocalHead, connect_cluster
from lumigator_nb.cluster.address import jobs_api
from lumigator_nb.cluster.api import RayApi, token
from lumigator_nb.cluster.head import QUICK_START
from lumigator_nb.cluster.processes import MARK, end, marked
from lumigator_nb.cluster.shipping import PACKAGE, pack, ship
from lumigator_nb.config import Settings
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError
from lumigator_nb.specs import Resources, Status
from lumigator_nb.workspace import doctor


class FakeRay(ThreadingHTTPServer):
    """Answers each `METHOD path` with what the test put there, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.tokens = {}, [], []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        self.server.tokens += filter(None, [self.headers.get("Authorization")])
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
    with pytest.raises(ClusterUnavailableError, match="does not answer"):
        ask(Cluster(closed_address()))


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
    Cluster(fake_ray.address).submit(
        "w1", ["it's"], resources=Resources(num_cpus=1.0, num_gpus=0.5), metadata={"a": "b"}
    )
    assert [method for method, *_ in fake_ray.asked] == ["GET", "PUT", "POST", "POST"]
    sent = json.loads(fake_ray.asked[-1][2])
    assert sent["entrypoint"] == """exec python -P -m lumigator_nb.engine.worker 'it'"'"'s'"""
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


def test_what_is_submitted_together_looks_once_for_the_package(fake_ray):
    fake_ray.answers["GET /api/packages/"] = [(200, "")]
    fake_ray.answers["POST /api/jobs/"] = [(200, "{}")]
    cluster, kept = Cluster(fake_ray.address), []
    with cluster.together():
        for name in "abc":
            cluster.submit(name, [], keep=kept.append)
    assert [path for _, path, *_ in fake_ray.asked] == [f"/api/packages/gcs/{cluster_package(kept)}"]
    cluster.post(kept)
    assert sorted(json.loads(body)["submission_id"] for method, _, body in fake_ray.asked if method == "POST") == [
        *"abc"
    ]
    fake_ray.asked.clear()
    assert cluster.has_package("gcs://x.zip")
    assert [path for _, path, *_ in fake_ray.asked] == ["/api/packages/gcs/x.zip"]


def cluster_package(jobs):
    (uri,) = {uri for job in jobs for uri in job["runtime_env"]["py_modules"]}
    return uri.removeprefix("gcs://")


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
    ("status", "body", "error", "words"),
    [
        (302, "", ConfigurationError, "is elsewhere"),
        (200, "<html>Please sign in</html>", ClusterUnavailableError, "no Ray cluster: '<html>Please sign in"),
    ],
)
def test_what_a_proxy_answers_itself_is_told_from_a_cluster(fake_ray, status, body, error, words):
    fake_ray.answers["GET /api/jobs/"] = [(status, body)]
    with pytest.raises(error, match=words) as caught:
        RayApi(fake_ray.address).jobs()
    assert "RAY_ADDRESS" in caught.value.hint


def test_a_path_of_the_address_stands_before_every_request(fake_ray):
    fake_ray.answers["GET /ray/api/version"] = [(200, {})]
    assert RayApi(f"{fake_ray.address}/ray/").answers()


@pytest.fixture
def certificate(tmp_path):
    """A file with a certificate for 127.0.0.1 that signs itself, and its key."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a cluster")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def test_https_is_trusted_by_the_file_that_the_settings_name(fake_ray, certificate, tmp_path, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    fake_ray.socket = context.wrap_socket(fake_ray.socket, server_side=True)
    fake_ray.answers["GET /api/jobs/x"] = [(200, job("x"))]
    address = fake_ray.address.replace("http:", "https:")
    with pytest.raises(ConfigurationError, match="cannot be trusted: self.signed") as caught:
        Cluster(address).statuses(["x"])
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
    given = settings(tmp_path, ray_address=address)
    given._env_file = tmp_path / ".env"
    given._env_file.write_text(f"REQUESTS_CA_BUNDLE={certificate}\n")
    assert connect_cluster(given).statuses(["x"])["x"].status is Status.RUNNING


def test_https_where_there_is_none_says_so(fake_ray):
    with pytest.raises(ConfigurationError, match="does not speak TLS") as caught:
        RayApi(fake_ray.address.replace("http:", "https:")).jobs()
    assert "http://" in caught.value.hint


def test_certificates_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE=.*nosuch cannot be read"):
        RayApi("https://127.0.0.1:1", certificates=str(tmp_path / "nosuch")).jobs()


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ({}, None),
        ({"ray_address": "http://Ray.example:8265"}, "http://ray.example:8265"),
        ({"ray_address": "HTTPS://ray.example/Team/ray/"}, "https://ray.example/Team/ray"),
        ({"ray_address": "http://[::1]:8265"}, "http://[::1]:8265"),
        ({"ray_address": "ray://ray.example:10001"}, None),
        ({"ray_address": "ray.example:6379"}, None),
        ({"ray_address": "auto"}, None),
        ({"ray_head_node_host": "ray.example"}, "http://ray.example:8265"),
        ({"ray_head_node_host": "::1", "ray_dashboard_port": 80}, "http://[::1]:80"),
        ({"ray_head_node_host": "ray.example", "ray_dashboard_port": 443, "ray_address": "https://ray.example/x"},
         "https://ray.example/x"),
        *(({"ray_head_node_host": "Ray.example", "ray_address": value}, "http://Ray.example:8265")
          for value in ("ray://ray.example:10001", "ray.example:6379", "auto")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_ray_variables")
def test_the_cluster_that_settings_name(tmp_path, values, address):
    assert jobs_api(settings(tmp_path, **values)) == address


@pytest.mark.parametrize(
    "value",
    [
        "http://",
        "http://ray.example:many",
        "http://ray.example:8265/?x=1",
        "https://me:hunter2@ray.example",
        "http://[::1",
    ],
)
@pytest.mark.usefixtures("no_ray_variables")
def test_a_malformed_address_is_refused_and_a_password_in_it_not_shown(tmp_path, value):
    with pytest.raises(ConfigurationError, match="RAY_ADDRESS") as caught:
        jobs_api(settings(tmp_path, ray_address=value))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_ADDRESS", "http://other:8265"),
        ("RAY_ADDRESS", "http://ray.example:9999"),
        ("RAY_ADDRESS", "https://ray.example"),
        ("RAY_ADDRESS", "ray://other:10001"),
        ("RAY_ADDRESS", "other:6379"),
        ("RAY_API_SERVER_ADDRESS", "http://other:8265"),
    ],
)
@pytest.mark.usefixtures("no_ray_variables")
def test_rays_own_variables_may_not_contradict_the_settings(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"{name}=.* contradicts RAY_HEAD_NODE_HOST=ray.example"):
        connect_cluster(settings(tmp_path, ray_head_node_host="ray.example"))


@pytest.mark.usefixtures("no_ray_variables")
def test_two_addresses_of_jobs_apis_contradict_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://ray.example:8265")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    with pytest.raises(ConfigurationError, match="contradicts RAY_ADDRESS"):
        connect_cluster(settings(tmp_path))


@pytest.mark.parametrize("value", ["ray://other:10001", "other:6379", "auto"])
@pytest.mark.usefixtures("no_ray_variables")
def test_what_names_no_jobs_api_is_nothing_to_the_local_head(tmp_path, monkeypatch, value):
    monkeypatch.setenv("RAY_ADDRESS", value)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:8265")
    assert connect_cluster(settings(tmp_path)).head


def test_a_token_is_sent_only_where_the_mode_asks_for_one(tmp_path):
    file = tmp_path / "token"
    file.write_text("from-file\n")
    variables = {"RAY_AUTH_TOKEN_PATH": str(file)}
    assert token(variables.get) is None
    variables["RAY_AUTH_MODE"] = "token"
    assert token(variables.get) == "from-file"
    variables["RAY_AUTH_TOKEN"] = "direct"
    assert token(variables.get) == "direct"


@pytest.mark.parametrize("wrong", ["hunter2 \nX-Evil: 1", "hunter2 ü"])
def test_a_token_that_is_none_is_not_shown(wrong):
    with pytest.raises(ConfigurationError, match="characters") as caught:
        token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": wrong}.get)
    assert "hunter2" not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="nosuch"):
        token({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "nosuch")}.get)


@pytest.mark.usefixtures("no_ray_variables")
def test_a_token_of_the_env_file_is_sent(fake_ray, tmp_path):
    given = settings(tmp_path, ray_address=fake_ray.address)
    given._env_file = tmp_path / ".env"
    given._env_file.write_text("RAY_AUTH_MODE=token\nRAY_AUTH_TOKEN=of-the-file\n")
    cluster = connect_cluster(given)
    assert cluster.statuses(["x"]) == {"x": None}
    assert fake_ray.tokens == ["Bearer of-the-file"]
    assert "of-the-file" not in f"{cluster!r} {vars(cluster)} {given!r}"


def metadata(ray="2.60.0", python="3.12.3"):
    return [(200, {"data": {"rayVersion": ray, "pythonVersion": python}})]


@pytest.mark.parametrize("versions", [{"ray": "2.54.1"}, {"ray": "3.0.0.dev0"}, {"python": "3.14.0"}])
def test_other_versions_than_ours_go_together_and_are_asked_for_once(fake_ray, versions):
    fake_ray.answers["GET /api/v0/cluster_metadata"] = metadata(**versions)
    cluster = Cluster(fake_ray.address)
    cluster.check()
    cluster.check()
    assert len(fake_ray.asked) == 1


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"python": "3.10.12"}, "have Python 3.10.12, older than 3.11,"),
        ({"ray": "2.9.3"}, "have Ray 2.9.3, older than 2.54,"),
        ({"ray": "2.9.3", "python": "3.9.1"}, "have Python 3.9.1, older than 3.11 and Ray 2.9.3, older than 2.54,"),
    ],
)
def test_a_cluster_that_is_too_old_is_refused_with_the_image_to_use(fake_ray, versions, words):
    fake_ray.answers["GET /api/v0/cluster_metadata"] = metadata(**versions)
    with pytest.raises(ConfigurationError, match=words) as caught:
        Cluster(fake_ray.address).check()
    assert "rayproject/ray:2.54.0-py311" in caught.value.hint


def test_a_pickled_function_needs_the_same_python(fake_ray, tmp_path):
    mine = ".".join(platform.python_version_tuple()[:2])
    fake_ray.answers["GET /api/v0/cluster_metadata"] = metadata(python="3.99.1")
    cluster = Cluster(fake_ray.address)
    cluster.check({"3.99"})
    with pytest.raises(ConfigurationError, match=f"pickled by Python {mine}, and the cluster's nodes have 3.99.1"):
        cluster.check({mine})
    here = Cluster(LocalHead(tmp_path, {}))
    here.check({mine})
    with pytest.raises(ConfigurationError, match="pickled by Python 3.99"):
        here.check({"3.99"})


@pytest.mark.parametrize(
    ("python", "state", "words"),
    [
        (platform.python_version(), "ok", f"2 GPUs, 3 GiB; Ray 2.60.0, Python {platform.python_version()}$"),
        ("3.99.0", "note", f"metrics that are functions need Python {platform.python_version()} there"),
        ("3.9.1", "wrong", "Python 3.9.1, older than 3.11"),
    ],
)
def test_the_doctor_shows_a_clusters_versions_and_what_does_not_fit(fake_ray, python, state, words):
    node = {"node_ip": "127.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 4.0, "GPU": 2.0, "memory": 3 * 2**30}}
    fake_ray.answers["GET /api/v0/cluster_metadata"] = metadata(python=python)
    fake_ray.answers["GET /api/v0/nodes"] = [(200, {"data": {"result": {"result": [node]}}})]
    found = doctor._cluster(Cluster(fake_ray.address))
    assert found.state == state
    assert re.search(words, found.message)
    assert (found.hint is None) == (state == "ok")


@pytest.mark.parametrize(("ips", "shared"), [(["127.0.0.2"], True), (["127.0.0.1", "192.0.2.7"], False)])
def test_a_tunnel_to_a_cluster_elsewhere_shares_no_files(fake_ray, ips, shared):
    nodes = [{"node_ip": ip, "state": "ALIVE"} for ip in ips] + [{"node_ip": "192.0.2.9", "state": "DEAD"}]
    fake_ray.answers["GET /api/v0/nodes"] = [(200, {"data": {"result": {"result": nodes}}})]
    assert Cluster(fake_ray.address).shares_files is shared
    assert not Cluster("http://192.0.2.7:8265").shares_files


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


def test_nodes_end_with_the_process_that_started_them_however_it_ends(tmp_path):
    mark, folder = uuid.uuid4().hex, tmp_path / "nodes"
    folder.mkdir()
    node = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, MARK: mark})
    command = [sys.executable, "-m", "lumigator_testing.nodes", folder]
    undertaker = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    undertaker.stdin.write(f"{mark}\n")
    undertaker.stdin.flush()
    assert node.poll() is None
    undertaker.communicate()
    assert node.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    assert not folder.exists()


def test_importing_the_cluster_loads_no_ray():
    code = "import sys, lumigator_nb.cluster; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
