"""Metrics that cannot be computed: skipped, with a reason wherever results are shown, and computed when they can be."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError, MissingFieldsError
from lumigator_nb.rest.app import make_app
from lumigator_nb.rest.links import Links
from lumigator_nb.rest.state import Services
from lumigator_nb.specs import Translation
from lumigator_nb.testing import ModelServer

API = "/api/v1"
EXTRA = "metric bertscore was skipped: metric 'bertscore' needs packages that are not installed; install them where"
GERMAN = {"task": "translation", "source_language": "en", "target_language": "de"}
JAPANESE = {**GERMAN, "target_language": "ja"}
ROWS = 6


@pytest.fixture
def client(inline_ws):
    services = Services(inline_ws, Links(b"k" * 32))
    services.submit_soon = inline_ws.workflows.submit_waiting
    with TestClient(make_app(services), base_url="http://localhost") as made:
        yield made
    services.races.close()


@pytest.fixture
def no_bertscore(monkeypatch):
    """An installation without the extra; call it to install the packages."""
    monkeypatch.setattr("lumigator_nb.metrics.bertscore.PACKAGES", ("no_such_package",))
    return monkeypatch.undo


def uploaded(client, *, truth: bool = True, predictions: bool = False) -> str:
    columns = ["example", *(["ground_truth"] if truth else []), *(["predictions"] if predictions else [])]
    rows = [",".join([f"Das ist Text {n}.", *[f"Dies ist Text {n}."] * (len(columns) - 1)]) for n in range(ROWS)]
    text = "\n".join([",".join(columns), *rows, ""])
    files = {"dataset": ("texts.csv", text.encode()), "format": (None, "job")}
    return client.post(f"{API}/datasets/", files=files).json()["id"]


def created(client, path: str, body: dict, code: int = 201) -> dict:
    answer = client.post(f"{API}/{path}", content=json.dumps(body))
    assert answer.status_code == code, answer.text
    return answer.json()


def get(client, path: str):
    return client.get(path if path.startswith("http") else f"{API}/{path}").json()


def scored(client, names: list[str], code: int = 201, **config) -> dict:
    truth = config.pop("truth", True)
    body = {
        "name": "score",
        "dataset": uploaded(client, truth=truth, predictions=True),
        "job_config": {"metrics": names, **config},
    }
    job = created(client, "jobs/evaluator", body, code)
    return get(client, f"jobs/{job['id']}") if code == 201 else job


def launched(client, experiment: str, names: list[str] | None = None, model: str = "lead-1") -> dict:
    body = {"name": model, "model": model, "provider": "baseline", "experiment_id": experiment, "metrics": names}
    made = created(client, "workflows", body)
    return get(client, f"workflows/{made['id']}")


def result(client, job: dict) -> dict:
    return get(client, get(client, f"jobs/{job['id']}/result/download")["download_url"])


def test_a_job_says_which_metric_it_skipped_and_why(client, no_bertscore) -> None:
    job = scored(client, ["rouge", "bertscore"])
    assert job["status"] == "succeeded"
    assert job["message"].startswith(EXTRA)
    assert "pip install 'lumigator-nb[bertscore]'" in job["message"]
    found = result(client, job)
    assert set(found["metrics"]) == {"rouge"}
    assert set(found["parameters"]["skipped_metrics"]) == {"bertscore"}
    assert get(client, "jobs")["items"][0]["message"] == job["message"]
    assert client.get(f"/api/jobs/{job['id']}").json()["message"] == job["message"]


def test_a_metric_that_the_language_rules_out_takes_no_other_with_it(client) -> None:
    job = scored(client, ["bleu", "meteor"], task_definition=JAPANESE)
    assert (job["status"], set(result(client, job)["metrics"])) == ("succeeded", {"bleu"})
    assert job["message"] == (
        "metric meteor was skipped: metric 'meteor' counts words, and Japanese puts no spaces between them"
    )


def test_meteor_of_another_language_is_computed_and_says_how(client) -> None:
    job = scored(client, ["bleu", "meteor"], task_definition=GERMAN)
    found = result(client, job)
    assert (job["status"], job["message"]) == ("succeeded", None)
    assert 0 < found["metrics"]["meteor"]["meteor_mean"] <= 1
    assert "without synonyms" in found["parameters"]["metric_notes"]["meteor"]


def test_ground_truth_that_is_not_there_costs_only_what_needs_it(client) -> None:
    job = scored(client, ["length", "rouge"], truth=False)
    assert (job["status"], set(result(client, job)["metrics"])) == ("succeeded", {"length"})
    assert job["message"] == (
        "metric rouge was skipped: ground truth is needed for: rouge; the dataset has none"
    )


def test_where_no_metric_can_be_computed_the_job_fails_with_all_reasons(client, no_bertscore) -> None:
    job = scored(client, ["bertscore", "rouge"], truth=False)
    assert job["status"] == "failed"
    assert "rouge: ground truth is needed" in job["message"]
    assert "bertscore: " in job["message"]


def test_a_judge_at_a_wrong_address_is_named(client) -> None:
    with ModelServer() as server:
        judge = {"model_name": "gemma", "model_base_url": server.base_url.removesuffix("/v1")}
        job = scored(client, ["g_eval_summarization", "rouge"], llm_as_judge=judge)
    assert (job["status"], set(result(client, job)["metrics"])) == ("succeeded", {"rouge"})
    assert job["message"].startswith("metric g_eval_summarization was skipped: ")
    assert "404" in job["message"]


def test_a_judge_without_a_key_is_named(client, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    experiment = created(client, "experiments", {"name": "e", "dataset": uploaded(client), "metrics": ["rouge"]})
    workflow = launched(client, experiment["id"], ["g_eval_summarization", "rouge"])
    assert workflow["status"] == "succeeded"
    assert "OPENAI_API_KEY" in workflow["message"]


def test_unknown_names_are_still_refused_with_the_nearest(client) -> None:
    refused = scored(client, ["rouge", "blue"], 422)
    assert "did you mean 'bleu'?" in refused["hint"]


def test_a_workflow_says_which_metrics_it_skipped(client, no_bertscore) -> None:
    experiment = created(
        client, "experiments",
        {"name": "e", "dataset": uploaded(client), "metrics": ["bleu", "bertscore"], "task_definition": JAPANESE},
    )  # fmt: skip
    workflow = launched(client, experiment["id"], ["meteor"])
    assert workflow["status"] == "succeeded"
    assert workflow["message"].splitlines()[0].startswith(EXTRA)
    assert workflow["message"].splitlines()[1].startswith("metric meteor was skipped: ")
    assert set(workflow["parameters"]["skipped_metrics"]) == {"bertscore", "meteor"}
    jobs = {tuple(each["name"] for each in job["parameters"]) for job in workflow["jobs"]}
    assert jobs == {("model",), ("model", "skipped_metrics")}
    shown = get(client, f"experiments/{experiment['id']}")["workflows"][0]
    assert shown["message"] == workflow["message"]


def test_what_was_skipped_is_computed_when_it_can_be(client, inline_ws, monkeypatch) -> None:
    monkeypatch.setattr("lumigator_nb.metrics.treebank._punkt", _missing)
    experiment = created(client, "experiments", {"name": "e", "dataset": uploaded(client), "metrics": ["rouge"]})
    workflow = launched(client, experiment["id"], ["meteor"])
    assert "meteor was skipped: no data" in workflow["message"]
    monkeypatch.undo()
    inline_ws.wait(inline_ws.evaluate("e"), progress=False, check=True)
    again = get(client, f"workflows/{workflow['id']}")
    assert again["message"] is None
    assert "meteor_meteor_mean" in again["metrics"]


def _missing():
    raise ConfigurationError("no data")


def test_who_types_a_metric_in_python_is_told_at_once(inline_ws, no_bertscore) -> None:
    dataset = inline_ws.datasets.upload(pd.DataFrame({"example": ["a"]}), name="d")
    refused = [
        (["bertscore"], None, MissingFieldsError),
        (["meteor", "length"], Translation("en", "ja"), MissingFieldsError),
    ]
    for names, task, error in refused:
        with pytest.raises(error):
            inline_ws.experiments.create("e", dataset=dataset, metrics=names, task=task)
    dataset = inline_ws.datasets.upload(pd.DataFrame({"example": ["a"], "ground_truth": ["b"]}), name="with")
    with pytest.raises(MissingExtraError):
        inline_ws.experiments.create("e", dataset=dataset, metrics=["bertscore"])
    with pytest.raises(InvalidInputError, match="Japanese puts no spaces"):
        inline_ws.experiments.create("e", dataset=dataset, metrics=["meteor"], task=Translation("en", "ja"))
    with pytest.raises(MissingExtraError):
        inline_ws.jobs.evaluate(
            inline_ws.datasets.upload(pd.DataFrame({"example": ["a"], "ground_truth": ["b"], "predictions": ["b"]})),
            metrics=["bertscore"],
        )
