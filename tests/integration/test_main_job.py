"""The main job on a live Ray head: as its user, and as its enemy."""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.specs import Status, Step
from lumigator_nb.storage import layout, results

pytestmark = pytest.mark.integration

N = 240  # fifteen shards, so that most are left when two are finished
FRAME = pd.DataFrame(
    {
        "example": [f"w{n} w{n + 1} w{n + 2} meets w{2 * n % 200}." for n in range(N)],
        "ground_truth": [f"w{n} meets." for n in range(N)],
    }
)


@pytest.fixture
def experiment(ws, request):
    name = request.node.name
    return ws.experiments.create(name, dataset=ws.datasets.upload(FRAME, name=name), metrics=["rouge", "length"])


@pytest.fixture
def slow(tiny_model) -> lm.Model:
    return lm.Model(tiny_model, label="tiny", max_new_tokens=80, batch_size=16)


def finished_shards(ws, workflow) -> int:
    return len(results.finished_shards(ws.store, workflow.id, Step.INFERENCE))


def worker_processes(workflow_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if "lumigator_nb.engine.worker" in arguments and workflow_id in arguments:
            found.append(process)
    return found


def uninterrupted(ws, slow: lm.Model) -> list[str]:
    """The predictions of the same model on the same examples when nothing disturbs it (once per session)."""
    experiment = ws.experiments.find("uninterrupted") or ws.experiments.create(
        "uninterrupted", dataset=ws.datasets.upload(FRAME, name="uninterrupted"), metrics=["length"]
    )
    ws.workflows.launch(experiment, [slow])
    (workflow,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False, check=True)
    return ws.workflows.predictions(workflow)["prediction"].tolist()


def test_a_dataset_from_the_web_through_three_models(ws, tmp_path, tiny_model) -> None:
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dataset = ws.datasets.upload(f"http://127.0.0.1:{server.server_port}/data.csv", name="web")
        server.shutdown()
    experiment = ws.experiments.create("web", dataset=dataset)
    ws.workflows.launch(
        experiment, ["baseline/copy", "baseline/lead-1", lm.Model(tiny_model, label="tiny", max_new_tokens=8)]
    )
    workflows = ws.wait(experiment, timeout=PATIENCE_S, check=True)
    assert [workflow.status for workflow in workflows] == [Status.SUCCEEDED] * 3
    comparison = ws.compare(experiment)
    assert set(comparison.models) == {"baseline/copy", "baseline/lead-1", "tiny"}
    assert comparison.best("rougeL") != "tiny"
    assert len(comparison.to_pandas()) == 3 * N


LAUNCHER = """
import sys, time, lumigator_nb as lm
ws = lm.connect(lumigator_home=sys.argv[1])
ws.workflows.launch(sys.argv[2], [lm.Model(sys.argv[3], label="tiny", max_new_tokens=80)], cache="off")
print("launched", flush=True)
time.sleep(600)
"""


def test_work_outlives_the_python_that_launched_it(ws, home, experiment, tiny_model) -> None:
    arguments = [sys.executable, "-c", LAUNCHER, str(home), experiment.name, tiny_model]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "launched\n"
        launcher.send_signal(signal.SIGKILL)
    with lm.connect(lumigator_home=home) as found:
        (workflow,) = found.wait(experiment.name, timeout=PATIENCE_S, progress=False, check=True)
        assert workflow.attempt == 1
        assert found.compare(experiment.name).models == ("tiny",)


def test_a_killed_worker_fails_and_resumes_where_it_was(ws, experiment, slow) -> None:
    expected = uninterrupted(ws, slow)
    (workflow,) = ws.workflows.launch(experiment, [slow], cache="off")
    until(lambda: finished_shards(ws, workflow) >= 2, "two finished shards")
    for process in worker_processes(workflow.id):
        process.kill()
    (failed,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False)
    assert failed.status is Status.FAILED
    before = finished_shards(ws, workflow)
    assert 2 <= before < N // 16
    stamps = {name: Path(ws.store.url(name).removeprefix("file://")).stat().st_mtime_ns for name in parts(ws, workflow)}
    ws.workflows.resume(failed)
    (done,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False, check=True)
    assert ws.workflows.predictions(done)["prediction"].tolist() == expected
    assert ws.workflows.jobs(done)[0].details["shards_reused"] == before
    for name, stamp in stamps.items():
        assert Path(ws.store.url(name).removeprefix("file://")).stat().st_mtime_ns == stamp


def parts(ws, workflow) -> list[str]:
    names = ws.store.list(layout.step_folder(workflow.id, Step.INFERENCE))
    return [name for name in names if name.endswith(".parquet")]


def test_a_restarted_head_loses_the_workflow_but_not_its_work(ws, experiment, slow) -> None:
    expected = uninterrupted(ws, slow)
    (workflow,) = ws.workflows.launch(experiment, [slow], cache="off")
    until(lambda: finished_shards(ws, workflow) >= 2, "two finished shards")
    assert ws.cluster.shutdown()
    assert worker_processes(workflow.id) == []
    ws.cluster.start()
    (failed,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False)
    assert failed.status is Status.FAILED
    before = finished_shards(ws, workflow)
    ws.workflows.resume(failed)
    (done,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False, check=True)
    assert ws.workflows.predictions(done)["prediction"].tolist() == expected
    assert ws.workflows.jobs(done)[0].details["shards_reused"] == before


@pytest.mark.slow
def test_a_stopped_workflow_ends_and_resumes(ws, experiment, slow) -> None:
    (workflow,) = ws.workflows.launch(experiment, [slow], cache="off")
    until(lambda: finished_shards(ws, workflow) >= 1, "a finished shard")
    (stopped,) = ws.workflows.stop(workflow)
    assert stopped.status is Status.STOPPED
    until(lambda: worker_processes(workflow.id) == [], "the worker is gone")
    ws.workflows.resume(stopped)
    assert ws.wait(experiment, timeout=PATIENCE_S, progress=False)[0].status is Status.SUCCEEDED


def test_no_text_reaches_a_shell(ws, tmp_path, tiny_model) -> None:
    trap = tmp_path / "sprung"
    nasty = f'it\'s "so"; $(touch {trap}) `touch {trap}` && touch {trap} | \n\r\t\x07\x1b[31m 🙂 \\ %s {{}} <b>\u2028'
    frame = pd.DataFrame({"example": [nasty, f"-- {nasty}"], "ground_truth": [nasty, nasty]})
    experiment = ws.experiments.create(
        f"$(touch {trap}) it's",
        dataset=ws.datasets.upload(frame, name=f"`touch {trap}`"),
        task=lm.Summarization(prompt=nasty),
        metrics=["rouge"],
    )
    tiny = lm.Model(tiny_model, label=f"$(touch {trap});'", max_new_tokens=4)
    ws.workflows.launch(experiment, ["baseline/copy", tiny])
    workflows = ws.wait(experiment, timeout=PATIENCE_S, progress=False, check=True)
    assert ws.workflows.predictions(workflows[0])["prediction"].tolist() == frame["example"].tolist()
    assert not trap.exists()


def test_a_model_that_cannot_load_fails_with_the_reason(ws, experiment, tmp_path) -> None:
    folder = tmp_path / "not-a-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    ws.workflows.launch(experiment, [f"hf/{folder}"])
    (failed,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False)
    assert failed.status is Status.FAILED
    assert "inference:" in failed.error
    assert "Traceback" in ws.workflows.logs(failed)
