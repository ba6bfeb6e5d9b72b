"""Runs in a real MLflow server.

The server's package holds pandas back, so that it lives in an environment of its own. Building one takes one to two
minutes; LUMIGATOR_TEST_ENVIRONMENTS names a folder in which it is kept from one time to the next.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import venv
from pathlib import Path

import pandas as pd
import pytest
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb.errors import ConfigurationError, InvalidInputError, UnavailableError
from lumigator_nb.services.comparison.mlflow import WORKFLOW_TAG, to_mlflow

pytestmark = pytest.mark.integration
mlflow = pytest.importorskip("mlflow", reason="pip install 'lumigator-nb[mlflow]'")
REQUIREMENT = f"mlflow=={mlflow.__version__}"
ENVIRONMENTS = "LUMIGATOR_TEST_ENVIRONMENTS"


@pytest.fixture(scope="session")
def server_python(tmp_path_factory):
    """The Python of an environment with the whole of MLflow."""
    kept = os.environ.get(ENVIRONMENTS)
    folder = Path(kept) / REQUIREMENT if kept else tmp_path_factory.mktemp("mlflow") / "environment"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, symlinks=True)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", REQUIREMENT]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(
                f"NO PACKAGE INDEX CAN BE REACHED, so that pip cannot install {REQUIREMENT}: {done.stderr[-300:]}"
            )
        (folder / "ready").touch()
    yield python
    if not kept:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(server_python, tmp_path_factory):
    """The address of an MLflow server with SQLite."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(server_python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}", process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(address: str, process, log) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            if answer.read() == b"OK":
                return
        time.sleep(0.25)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def comparison(inline_ws):
    texts = [f"Ann: The bus {n} is late. Bob: Then we walk." for n in range(12)]
    frame = pd.DataFrame({"example": texts, "ground_truth": ["They walk because the bus is late."] * 12})
    dataset = inline_ws.datasets.upload(frame, name="tickets")
    experiment = inline_ws.experiments.create("summaries", dataset=dataset, metrics=["rouge", "bleu"])
    models = ["baseline/copy", lm.Model("baseline/lead-1", label="first: sentence")]
    inline_ws.workflows.launch(experiment, models)
    answers = pd.DataFrame({"prediction": ["They walk."] * 12, "seconds": 0.25, "cost": 0.001})
    inline_ws.workflows.record(experiment, name="elsewhere", predictions=answers)
    inline_ws.wait(experiment, progress=False, check=True)
    return inline_ws.compare(experiment)


@pytest.mark.slow
def test_a_run_for_each_workflow_is_updated_and_not_doubled(server, comparison, inline_ws) -> None:
    runs = to_mlflow(comparison, tracking_uri=server)
    client = mlflow.MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("summaries")
    assert set(runs) == set(comparison.models)
    summary = comparison.summary().set_index(["model", "score"])
    for workflow in comparison.workflows:
        run = client.get_run(runs[workflow.label])
        assert run.info.status == "FINISHED"
        assert run.info.run_name == workflow.label
        for score in ("rougeL", "bleu"):
            assert run.data.metrics[score] == summary.loc[(workflow.label, score), "overall"]
        assert run.data.metrics["answered"] == 12
        assert run.data.params["dataset.sha256"] == comparison.dataset.content_hash
        assert run.data.params["max_new_tokens"] == str(workflow.model.generation.max_new_tokens)
        assert run.data.tags[WORKFLOW_TAG] == workflow.id
        assert run.data.tags["signature.bleu"].startswith("bleu")
    costs = client.get_run(runs["elsewhere"]).data.metrics
    assert (costs["seconds_p95"], costs["dollars_per_1000"]) == (0.25, pytest.approx(1.0))
    again = to_mlflow(comparison, tracking_uri=server)
    assert again == runs
    assert len(client.search_runs([experiment.experiment_id])) == 3
    assert len(client.get_metric_history(runs["baseline/copy"], "rougeL")) == 1


@pytest.mark.slow
def test_what_is_new_joins_the_run_that_is_there(server, comparison, inline_ws) -> None:
    options = {"tracking_uri": server, "experiment_name": "joined"}
    runs = to_mlflow(comparison, **options)
    inline_ws.evaluate("summaries", "chrf")
    inline_ws.wait("summaries", progress=False, check=True)
    assert to_mlflow(inline_ws.compare("summaries"), **options) == runs
    client = mlflow.MlflowClient(tracking_uri=server)
    assert "chrf" in client.get_run(runs["baseline/copy"]).data.metrics


@pytest.mark.slow
def test_report_and_predictions_lie_beside_the_run(server, comparison, tmp_path) -> None:
    run = to_mlflow(comparison, tracking_uri=server, experiment_name="files")["baseline/copy"]
    client = mlflow.MlflowClient(tracking_uri=server)
    assert {each.path for each in client.list_artifacts(run)} == {"report.html", "predictions.csv"}
    table = pd.read_csv(client.download_artifacts(run, "predictions.csv", str(tmp_path)))
    assert table["prediction"].tolist() == comparison.examples()["baseline/copy"].tolist()
    report = Path(client.download_artifacts(run, "report.html", str(tmp_path))).read_text(encoding="utf-8")
    assert "summaries" in report


@pytest.mark.slow
def test_an_experiment_that_was_deleted_there_is_named(server, comparison) -> None:
    client = mlflow.MlflowClient(tracking_uri=server)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InvalidInputError, match=r"(?s)'gone' was deleted in MLflow.*restore it"):
        to_mlflow(comparison, tracking_uri=server, experiment_name="gone")


def test_no_server_is_said_at_once(comparison, free_port) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)no MLflow server is named.*MLFLOW_TRACKING_URI"):
        to_mlflow(comparison)
    with pytest.raises(UnavailableError, match=f"no MLflow server answers at http://127.0.0.1:{free_port}: .*refused"):
        to_mlflow(comparison, tracking_uri=f"http://me:secret@127.0.0.1:{free_port}")


def test_another_server_is_not_taken_for_mlflow(comparison, monkeypatch) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{other.server_port}")
        with pytest.raises(UnavailableError, match="is not an MLflow server"):
            to_mlflow(comparison)
        other.shutdown()
