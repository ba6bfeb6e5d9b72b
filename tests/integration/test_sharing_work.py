"""One workflow on several processes and nodes, some of which die."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from inferring import examples, server_model
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.specs import Status
from lumigator_testing import ModelServer
from lumigator_testing.nodes import Nodes

pytestmark = [pytest.mark.integration, pytest.mark.slow]

N = 400


@pytest.fixture(scope="module")
def nodes():
    """A head on which no worker computes, and two nodes."""
    with Nodes(cpus=0) as started:
        for _ in range(2):
            started.join(cpus=1)
        yield started


@pytest.fixture
def spread_ws(nodes, tmp_path, monkeypatch):
    for name, value in nodes.variables.items():
        monkeypatch.setenv(name, value)
    port = int(nodes.address.rpartition(":")[2])
    with lm.connect(lumigator_home=tmp_path, ray_head_node_host="127.0.0.1", ray_dashboard_port=port) as ws:
        yield ws


def experiment_of(ws, n: int = N):
    rows = pd.DataFrame({"example": examples(n), "ground_truth": [f"Case {i} came in." for i in range(n)]})
    dataset = ws.datasets.upload(rows, name="cases", progress=False)
    return ws.experiments.create("shared", dataset=dataset, metrics=["rouge", "bleu"])


def test_a_rate_holds_for_all_who_ask_together(spread_ws) -> None:
    ws = spread_ws
    experiment = experiment_of(ws, 80)
    with ModelServer(latency=0.01) as server:
        model = server_model(server, "lead-1", requests_per_minute=600)
        (workflow,) = ws.workflows.launch(experiment, model, workers=2)
        (workflow,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
        assert workflow.status is Status.SUCCEEDED, workflow.error
    job = ws.workflows.jobs(workflow)[0]
    # Ten a second; the first second's turns are given to both at once.
    assert (job.finished_at - job.started_at).total_seconds() > (80 - 20) / 10
    assert job.details["workers"] == 2


def test_a_node_dies_and_nothing_is_lost_or_done_twice(spread_ws, nodes) -> None:
    ws = spread_ws
    experiment = experiment_of(ws)
    with ModelServer(latency=0.05) as server:
        model = server_model(server, "lead-1", concurrency=4)
        (workflow,) = ws.workflows.launch(experiment, model, workers=2)
        until(lambda: ws.workflows.progress(workflow)[0].done >= N // 8, "some are answered")
        nodes.nodes[2].kill()
        (workflow,) = ws.wait(experiment, timeout=PATIENCE_S, progress=False)
        assert workflow.status is Status.SUCCEEDED, workflow.error
        calls = server.stats().calls
    found = ws.workflows.predictions(workflow)
    assert list(found["row"]) == list(range(N))
    assert list(found["prediction"]) == [f"Case {i} came in." for i in range(N)]
    # Lost with the node were at most what it was being asked, and the lots that it had.
    assert N <= calls <= N + 64
    details = ws.workflows.jobs(workflow)[0].details
    assert details["workers"] == 2
    assert details["workers_lost"] >= 1
    (alone,) = ws.workflows.launch(experiment, "baseline/lead-1", workers=1)
    assert ws.wait(alone, timeout=PATIENCE_S, progress=False)[0].status is Status.SUCCEEDED
    scores = ws.workflows.scores(workflow)
    assert scores.equals(ws.workflows.scores(alone))
    assert ws.workflows.jobs(workflow)[1].scores == ws.workflows.jobs(alone)[1].scores


def test_what_ends_every_process_ends_the_step_with_a_remedy(spread_ws) -> None:
    ws = spread_ws
    experiment = experiment_of(ws, 40)
    (workflow,) = ws.workflows.launch(experiment, lm.Model.from_function(sys.exit), workers=2)
    (workflow,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
    assert workflow.status is Status.FAILED
    assert "the same examples ended 3 processes" in workflow.error
    assert "batch_size" in workflow.error


def test_what_fails_all_examples_ends_it_at_once_and_a_resume_goes_on(spread_ws) -> None:
    ws = spread_ws
    experiment = experiment_of(ws)
    with ModelServer(latency=0.01, quota=150) as server:
        model = server_model(server, "lead-1", concurrency=4)
        (workflow,) = ws.workflows.launch(experiment, model, workers=2)
        (workflow,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
        assert workflow.status is Status.FAILED
        assert "takes no more requests from this account" in workflow.error
        server.configure(quota=None)
        ws.workflows.resume(workflow)
        (workflow,) = ws.wait(workflow, timeout=PATIENCE_S, progress=False)
        assert workflow.status is Status.SUCCEEDED, workflow.error
        answered = server.stats().answered
    assert answered == N  # what was paid for before is kept
    found = ws.workflows.predictions(workflow)
    assert list(found["prediction"]) == [f"Case {i} came in." for i in range(N)]
