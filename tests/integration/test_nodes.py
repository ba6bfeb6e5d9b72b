"""A cluster elsewhere, as far as one machine can be elsewhere: a head without CPUs, and nodes that join it and die."""

from __future__ import annotations

import pandas as pd
import pytest
from waiting import PATIENCE_S, until

import lumigator_nb as lm
from lumigator_nb.errors import ClusterUnavailableError, ConfigurationError
from lumigator_nb.specs import Status
from lumigator_testing import ModelServer
from lumigator_testing.nodes import Nodes

pytestmark = pytest.mark.integration

FRAME = pd.DataFrame({"example": [f"It rains on day {n}. We walk." for n in range(32)], "ground_truth": "It rains."})


@pytest.fixture(scope="module")
def nodes():
    with Nodes(cpus=0) as started:
        started.join(cpus=1)
        yield started


@pytest.fixture
def settings(nodes, tmp_path, monkeypatch):
    """What `.env` says; the environment is silent."""
    lines = {"LUMIGATOR_HOME": tmp_path / "home", "RAY_ADDRESS": nodes.address, **nodes.variables}
    for name in lines:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return lines


def experiment(ws):
    dataset = ws.datasets.upload(FRAME, name="days")
    return ws.experiments.create("days", dataset=dataset, metrics=["rouge", "length"])


def where(ws, workflow) -> str:
    """The node that a workflow's worker was on."""
    return ws.cluster._api().call("GET", f"/api/jobs/{workflow.submission_id}").json()["driver_agent_http_address"]


def test_the_main_job_through_ray_address(nodes, settings) -> None:
    with lm.connect() as ws:
        launched = ws.workflows.launch(experiment(ws), ["baseline/lead-1"])
        assert [each.status for each in ws.wait("days", timeout=PATIENCE_S, check=True)] == [Status.SUCCEEDED]
        assert ws.compare("days").best("rougeL") == "baseline/lead-1"
        assert nodes.nodes[-1].ip in where(ws, launched[0])
        info = ws.cluster.info()
        assert (info.is_local, info.cpus) == (False, 1)
        assert settings["RAY_AUTH_TOKEN"] not in f"{ws!r} {info} {ws.workflows.logs(launched[0])}"


def test_a_wrong_token_and_a_wrong_address_launch_nothing(settings, free_port, monkeypatch) -> None:
    wrong = "f" * 64
    with lm.connect() as ws:
        experiment(ws)
        monkeypatch.setenv("RAY_AUTH_TOKEN", wrong)
        with pytest.raises(ConfigurationError, match="refuses the token: Forbidden") as caught:
            ws.workflows.launch("days", ["baseline/lead-1"])
        assert wrong not in str(caught.value)
        assert "RAY_AUTH_TOKEN" in caught.value.hint
    with lm.connect(ray_address=f"http://127.0.0.1:{free_port}") as ws:
        with pytest.raises(ClusterUnavailableError, match="does not answer.*refused") as caught:
            ws.workflows.launch("days", ["baseline/lead-1"])
        assert "RAY_ADDRESS" in caught.value.hint
        assert ws.workflows.list() == []


def test_a_workflow_whose_node_dies_says_so_and_goes_on_on_another(nodes, settings) -> None:
    with ModelServer(latency=0.2) as server, lm.connect() as ws:
        asked = lm.Model("lead-1", provider="openai", base_url=server.base_url, concurrency=1)
        (workflow,) = ws.workflows.launch(experiment(ws), [asked])
        until(lambda: server.stats().calls >= 8, "examples are being answered")
        nodes.nodes[-1].kill()
        (ended,) = ws.wait("days", timeout=PATIENCE_S)
        assert ended.status is Status.FAILED
        assert "the node that it ran on died; resume" in ended.error
        other = nodes.join(cpus=1)
        asked_before = server.stats().calls
        ws.workflows.resume("days")
        assert [each.status for each in ws.wait("days", timeout=PATIENCE_S, check=True)] == [Status.SUCCEEDED]
        assert other.ip in where(ws, ws.workflows.get(workflow.id))
        assert sorted(ws.workflows.predictions(workflow)["row"]) == list(range(len(FRAME)))
        # Of eight answers all but those on their way were kept; what was kept is not asked again.
        assert server.stats().calls < len(FRAME) + asked_before
