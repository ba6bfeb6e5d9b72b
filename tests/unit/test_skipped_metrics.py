"""Metrics that cannot be computed: skipped, with a reason wherever results are shown, and computed when they can be."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytest.importorskip("fastapi")


from lumigator_nb.cli import common
from lumigator_nb.display.progress import as_text
from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError, MissingFieldsError
from lumigator_nb.presentation.launch.metrics import metric_views
from lumigator_nb.presentation.progress.markup import act_words, static
from lumigator_nb.presentation.progress.view import perform_all, progress_view
from lumigator_nb.specs import Summarization, Translation
from lumigator_testing import ModelServer

API = "/api/v1"
EXTRA = "metric bertscore was skipped: metric 'bertscore' needs packages that are not installed; install them where"
GERMAN = {"task": "translation", "source_language": "en", "target_language": "de"}
JAPANESE = {**GERMAN, "target_language": "ja"}
ROWS = 6


@pytest.fixture
def no_bertscore(monkeypatch):
    """An installation without the extra; call it to install the packages."""
    monkeypatch.setattr("lumigator_nb.metrics.bertscore.BertScore.modules", ("no_such_package",))
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
        "metric meteor was skipped: metric 'meteor' counts words, and Japanese does not separate them by spaces"
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
    assert job["message"] == ("metric rouge was skipped: ground truth is needed for: rouge; the dataset has none")


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
    assert jobs == {("model", "ray_job_id"), ("model", "ray_job_id", "skipped_metrics")}
    shown = get(client, f"experiments/{experiment['id']}")["workflows"][0]
    assert shown["message"] == workflow["message"]


def test_what_was_skipped_is_computed_when_it_can_be(client, inline_ws, monkeypatch) -> None:
    monkeypatch.setattr("lumigator_nb.metrics.kernels.treebank._punkt", _missing)
    experiment = created(client, "experiments", {"name": "e", "dataset": uploaded(client), "metrics": ["rouge"]})
    workflow = launched(client, experiment["id"], ["meteor"])
    assert "meteor was skipped: no data" in workflow["message"]
    monkeypatch.undo()
    inline_ws.wait(inline_ws.evaluate("e"), progress=False, check=True)
    again = get(client, f"workflows/{workflow['id']}")
    assert again["message"] is None
    assert "meteor_meteor_mean" in again["metrics"]


def _missing(*_: object):
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
    with pytest.raises(InvalidInputError, match="Japanese does not separate them"):
        inline_ws.experiments.create("e", dataset=dataset, metrics=["meteor"], task=Translation("en", "ja"))
    with pytest.raises(MissingExtraError):
        inline_ws.jobs.evaluate(
            inline_ws.datasets.upload(pd.DataFrame({"example": ["a"], "ground_truth": ["b"], "predictions": ["b"]})),
            metrics=["bertscore"],
        )


@pytest.fixture
def uneven(inline_ws, monkeypatch):
    """An experiment of which only the first of two models has METEOR, and the second only was asked for length."""
    frame = pd.DataFrame({"example": [f"The dog runs to house {n}." for n in range(ROWS)]})
    frame["ground_truth"] = frame["example"].str.replace("runs", "ran")
    dataset = inline_ws.datasets.upload(frame, name="d")
    made = inline_ws.experiments.create("e", dataset=dataset, metrics=["bleu", "meteor"])
    inline_ws.wait(inline_ws.workflows.launch(made, ["baseline/copy"]), progress=False, check=True)
    made = inline_ws.experiments.add_metrics(made, ["length"])
    with monkeypatch.context() as patched:
        patched.setattr("lumigator_nb.metrics.meteor._tokenizer", _missing)
        inline_ws.wait(inline_ws.workflows.launch(made, ["baseline/lead-1"]), progress=False, check=True)
    return made


def test_a_metric_that_one_model_lacks_is_shown_apart_with_the_reason(inline_ws, uneven) -> None:
    comparison = inline_ws.compare(uneven)
    assert [info.name for info in comparison.scores] == ["bleu"]
    assert comparison.not_computed == {
        "meteor": {"baseline/lead-1": "no data"},
        "length": {"baseline/copy": "it joined the experiment later"},
    }
    assert set(comparison.uncompared) >= {"meteor", "words"}
    assert set(comparison.uncompared["meteor"]) == {"baseline/copy"}
    with pytest.raises(InvalidInputError, match=r"'meteor' from every model(.|\n)* meteor could"):
        comparison.best("meteor")


@pytest.mark.parametrize("ending", [".html", ".md"])
def test_it_stands_in_every_report(inline_ws, uneven, tmp_path, ending) -> None:
    comparison = inline_ws.compare(uneven)
    report = comparison.export(tmp_path / f"report{ending}").read_text().replace("\\", "")
    for shown in (report, comparison._repr_html_(), str(comparison).replace("\n", " ")):
        assert "meteor could not be computed for baseline/lead-1: no data." in shown
        assert "length was not computed for baseline/copy: it joined the experiment later." in shown
        assert "Not compared: scores that some models lack" in shown
        assert "ws.evaluate(experiment) computes what is missing" in shown


def test_it_stands_in_the_comparison_over_rest(client, inline_ws, uneven) -> None:
    found = get(client, f"experiments/{uneven.id}/comparison")
    assert found["not_computed"]["meteor"] == {"baseline/lead-1": "no data"}
    assert set(found["uncompared"]["meteor"]) == {"baseline/copy"}
    assert any(note.startswith("meteor could not be computed for") for note in found["notes"])


def test_models_that_lack_a_metric_for_one_reason_share_a_sentence(inline_ws, uneven, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("lumigator_nb.metrics.length.Length._score", _missing)
        models = ["baseline/lead-2", "baseline/lead-3"]
        inline_ws.wait(inline_ws.workflows.launch(uneven, models), progress=False, check=True)
    said = str(inline_ws.compare(uneven)).replace("\n", " ")
    assert "length could not be computed for baseline/lead-2 and baseline/lead-3:" in said


def test_how_far_models_are_says_what_was_skipped(inline_ws, uneven) -> None:
    line = "metric meteor was skipped: no data"
    rows = {row.label: row for row in inline_ws.workflows.progress(uneven)}
    assert (rows["baseline/copy"].skipped, rows["baseline/lead-1"].skipped) == ("", line)
    assert line in as_text(list(rows.values()))
    view = progress_view(inline_ws, uneven)
    assert {model.workflow.label: model.skipped for model in view.models} == {
        "baseline/copy": "", "baseline/lead-1": line
    }  # fmt: skip
    assert static(view).count("Metric meteor was skipped: no data") == 1
    job = next(job for job in inline_ws.workflows.jobs(uneven) if job.skipped)
    assert "skipped metric meteor" in str(job)


def test_the_command_line_says_it(inline_ws, uneven, capsys) -> None:
    common.print_workflows(inline_ws, inline_ws.workflows.of(uneven))
    common.compare_and_print(inline_ws, uneven, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "metric meteor was skipped" in said.replace("- ", "-")
    assert "meteor could not be computed for baseline/lead-1: no data." in said


def test_an_evaluation_later_completes_the_comparison(inline_ws, uneven) -> None:
    inline_ws.wait(inline_ws.evaluate(uneven), progress=False, check=True)
    comparison = inline_ws.compare(uneven)
    assert (comparison.not_computed, comparison.uncompared) == ({}, {})
    assert {info.name for info in comparison.scores} >= {"bleu", "meteor", "words"}
    assert "could not be computed" not in str(comparison)
    assert {row.skipped for row in inline_ws.workflows.progress(uneven)} == {""}


def test_where_the_models_share_no_score_the_reasons_are_named(inline_ws, monkeypatch) -> None:
    frame = pd.DataFrame({"example": ["a b", "c d"], "ground_truth": ["a b", "c"]})
    dataset = inline_ws.datasets.upload(frame, name="d")
    made = inline_ws.experiments.create("e", dataset=dataset, metrics=["meteor", "length"])
    for broken, model in (("meteor.Meteor._score", "copy"), ("length.Length._score", "lead-1")):
        with monkeypatch.context() as patched:
            patched.setattr(f"lumigator_nb.metrics.{broken}", _missing)
            inline_ws.wait(inline_ws.workflows.launch(made, [f"baseline/{model}"]), progress=False)
    with pytest.raises(InvalidInputError, match="meteor could not be computed for baseline/copy: no data"):
        inline_ws.compare(made)


def test_a_comparison_says_that_meteor_did_without_synonyms(inline_ws, tmp_path) -> None:
    frame = pd.DataFrame({"example": ["The house.", "The dog."], "ground_truth": ["Das Haus.", "Der Hund."]})
    dataset = inline_ws.datasets.upload(frame, name="d")
    made = inline_ws.experiments.create("e", dataset=dataset, task=Translation("en", "de"), metrics=["bleu", "meteor"])
    inline_ws.wait(inline_ws.workflows.launch(made, ["baseline/copy"]), progress=False, check=True)
    comparison = inline_ws.compare(made)
    report = comparison.export(tmp_path / "report.html").read_text()
    for shown in (report, comparison._repr_html_(), str(comparison).replace("\n", " ")):
        assert "METEOR without synonyms (equal words and English stems only)" in shown
    assert "synonyms:none" in report


def test_a_button_computes_what_was_skipped(inline_ws, uneven) -> None:
    view = progress_view(inline_ws, uneven)
    assert [model.act for model in view.models] == [None, "score"]
    assert act_words("score", view.able("score")) == "Compute skipped metrics"
    assert act_words("score", view.able("score"), alone=True) == "Score again"
    perform_all(inline_ws, "score", view.able("score"))
    inline_ws.wait(uneven, progress=False, check=True)
    assert [model.act for model in progress_view(inline_ws, uneven).models] == [None, None]
    assert [workflow.attempt for workflow in inline_ws.workflows.of(uneven)] == [1, 2]
    assert set(inline_ws.compare(uneven).not_computed) == {"length"}, "what joined later is no matter of this button"


def test_the_button_works_beside_a_judge_without_a_key(client, inline_ws, monkeypatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    experiment = created(client, "experiments", {"name": "e", "dataset": uploaded(client), "metrics": ["rouge"]})
    with monkeypatch.context() as patched:
        patched.setattr("lumigator_nb.metrics.meteor._tokenizer", _missing)
        launched(client, experiment["id"], ["g_eval_summarization", "meteor", "rouge"])
    view = progress_view(inline_ws, experiment["id"])
    assert "meteor" in view.models[0].skipped
    perform_all(inline_ws, "score", view.able("score"))
    inline_ws.wait(experiment["id"], progress=False, check=True)
    assert set(inline_ws.compare(experiment["id"]).not_computed) == {"g_eval_summarization"}


def test_a_workbook_has_a_sheet_of_what_was_not_computed(inline_ws, uneven, tmp_path) -> None:
    path = inline_ws.compare(uneven).export(tmp_path / "book.xlsx")
    sheet = pd.read_excel(path, sheet_name="Not computed")
    assert ["meteor", "baseline/lead-1", "no data"] in sheet.to_numpy().tolist()


def test_a_form_says_what_a_language_changes(inline_ws) -> None:
    frame = pd.DataFrame({"example": ["The house."], "ground_truth": ["Das Haus."]})
    dataset = inline_ws.datasets.upload(frame, name="d")
    german, japanese, unknown = (
        next(view for view in metric_views(inline_ws, dataset, task) if view.key == "meteor")
        for task in (Translation("en", "de"), Translation("en", "ja"), Summarization())
    )
    assert (german.problem, german.usual, "without synonyms" in german.text) == (None, True, True)
    assert japanese.problem == "Metric 'meteor' counts words, and Japanese does not separate them by spaces"
    assert (unknown.problem, "without synonyms" in unknown.text) == (None, False)
