"""What Lumigator's pages, SDK, notebooks and tests read in answers: names, scales, addresses, order."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("fastapi")

from test_rest import API, CSV, GENERATION, NOWHERE, ROWS, created, experiment, get, inference, uploaded, workflow

from lumigator_nb import metrics
from lumigator_nb.database.queries import writing
from lumigator_nb.metrics.base import Scores
from lumigator_nb.specs import MetricSpec, Step
from lumigator_nb.storage import results

WITHOUT_ONE = "example,ground_truth\nA cat sat on the mat.,A cat sat.\nA dog.,\nIt rains again.,It rains again.\n"
ONE_MODEL = {"model": "lead-1", "provider": "baseline", "generation_config": GENERATION}


def annotation(client, dataset: str) -> dict:
    return created(client, "jobs/annotate", {"name": "truth", "dataset": dataset, "job_config": ONE_MODEL})


def evaluation(client, dataset: str, *names: str) -> dict:
    body = {"name": "scores", "dataset": dataset, "job_config": {"metrics": list(names)}}
    return created(client, "jobs/evaluator", body)


def job_result(client, job: str) -> dict:
    return get(client, get(client, f"jobs/{job}/result/download").json()["download_url"]).json()


def compared(client, text: str = CSV, *names: str) -> dict:
    """The workflow of one model, when it has ended."""
    found = experiment(client, uploaded(client, text).json()["id"], metrics=names or ("rouge",))
    return get(client, f"workflows/{workflow(client, found['id'])['id']}").json()


def rescored(services, workflow_id: str, spec: MetricSpec, *columns, reasons=()) -> None:
    """Have a workflow's scores be those of a metric that cannot be computed here."""
    ws = services.ws
    found = metrics.create(spec)
    scores = [Scores.of(info, values, reasons) for info, values in zip(found.infos, columns, strict=True)]
    results.write_scores(ws.store, workflow_id, spec, 0, 0, scores)
    with writing(ws.database) as work:
        mine = work.workflows.get(workflow_id)
        work.experiments.get(mine.experiment_id).metrics = (spec,)
        job = next(each for each in work.jobs.of_workflows([workflow_id]) if each.step is Step.EVALUATION)
        job.scores = {each.info.name: each.overall for each in scores}


def test_jobs_say_what_lumigators_pages_show_of_them(client) -> None:
    dataset = uploaded(client, CSV.replace("part", "predictions")).json()
    asked = {
        "inference": inference(client, dataset["id"], max_samples=2),
        "annotate": annotation(client, dataset["id"]),
        "evaluator": evaluation(client, dataset["id"], "rouge"),
    }
    listed = {each["id"]: each for each in get(client, "jobs").json()["items"]}
    for kind, job in asked.items():
        shown = get(client, f"jobs/{job['id']}").json()
        for each in (job, shown, listed[job["id"]]):
            assert each["metadata"] == {"job_type": kind}
            assert each["config"]["dataset"] == {"id": dataset["id"], "name": "texts.csv"}
            assert each["config"]["hf_pipeline"]["task"] == "summarization"
            assert each["config"]["model_name_or_path"] == (None if kind == "evaluator" else "lead-1")
        assert shown["config"]["max_samples"] == (2 if kind == "inference" else -1)
        assert get(client, f"/api/jobs/{job['id']}").json()["metadata"] == {"job_type": kind}


def test_a_job_on_a_made_dataset_names_it_as_the_list_of_datasets_does(client) -> None:
    made = get(client, f"jobs/{annotation(client, uploaded(client).json()['id'])['id']}/dataset").json()
    task = {"task": "translation", "source_language": "en", "target_language": "de"}
    job = inference(client, made["id"], task_definition=task)
    for each in (get(client, f"jobs/{job['id']}").json(), get(client, "jobs").json()["items"][-1]):
        assert each["config"]["dataset"] == {"id": made["id"], "name": made["filename"]}
        assert each["config"]["hf_pipeline"]["task"] == "translation"


def test_a_workflow_names_its_jobs_as_lumigators_tracking_does(client) -> None:
    for job in compared(client)["jobs"]:
        assert {"name": "ray_job_id", "value": job["id"]} in job["parameters"]
        assert get(client, f"jobs/{job['id']}").json()["status"] == "succeeded"


def test_bleu_is_from_0_to_1_in_lumigators_results_and_ours_is_not(client) -> None:
    mine = compared(client, CSV, "bleu", "meteor")
    result = get(client, mine["artifacts_download_url"]).json()["metrics"]
    assert set(result["bleu"]) == {"bleu", "bleu_mean", "bleu_overall"}
    assert all(0 < value < 1 for value in result["bleu"]["bleu"])
    assert mine["metrics"]["bleu_bleu_mean"] == pytest.approx(result["bleu"]["bleu_mean"])
    assert mine["metrics"]["bleu_bleu_mean"] == pytest.approx(np.mean(result["bleu"]["bleu"]))
    assert mine["metrics"]["bleu_bleu_overall"] == result["bleu"]["bleu_overall"]
    assert mine["metrics"]["meteor_meteor_mean"] == pytest.approx(result["meteor"]["meteor_mean"])
    ours = get(client, f"experiments/{mine['experiment_id']}/comparison?score=bleu").json()
    assert ours["summary"][0]["overall"] == pytest.approx(100 * result["bleu"]["bleu_overall"])


def test_comet_has_lumigators_names(client, services) -> None:
    mine = compared(client)
    values = np.linspace(0.5, 0.9, ROWS)
    rescored(services, mine["id"], MetricSpec(name="comet"), values)
    shown = get(client, f"workflows/{mine['id']}").json()
    assert shown["metrics"]["comet_mean_score"] == pytest.approx(values.mean())
    result = get(client, shown["artifacts_download_url"]).json()["metrics"]
    assert result["comet"] == {"scores": pytest.approx(values), "mean_score": pytest.approx(values.mean())}


def test_what_a_judge_says_is_a_score_and_a_reason(client, services) -> None:
    mine = compared(client)
    said = [f"because {n}" for n in range(ROWS)]
    given = np.array([4.0] * (ROWS - 1) + [np.nan])
    rescored(services, mine["id"], MetricSpec(name="g_eval_translation"), given, given - 1, reasons=said)
    result = get(client, mine["artifacts_download_url"]).json()
    judged = result["metrics"]["g_eval_translation"]
    assert judged["consistency"][0] == {"score": 4.0, "reason": "because 0"}
    assert judged["consistency"][-1] == {"score": None, "reason": f"because {ROWS - 1}"}
    assert (judged["consistency_mean"], judged["fluency_mean"]) == (4.0, 3.0)


def test_an_example_without_a_score_leaves_the_others_to_be_shown(client) -> None:
    """Lumigator's pages call `toFixed` of each score, and show nothing of any model where one has none."""
    mine = compared(client, WITHOUT_ONE, "rouge", "bleu")
    answer = get(client, mine["artifacts_download_url"])
    result = answer.json()
    for name in ("rouge1", "rouge2", "rougeL"):
        values = result["metrics"]["rouge"][name]
        assert values[1] == -math.inf  # nobody's score
        assert all(0 <= value <= 1 for value in (values[0], values[2]))
        assert result["metrics"]["rouge"][f"{name}_mean"] == pytest.approx((values[0] + values[2]) / 2)
    assert "-1e999" in answer.text
    assert "Infinity" not in answer.text  # which is no JSON
    assert result["artifacts"]["unscored"]["rouge_rouge1"] == result["artifacts"]["unscored"]["bleu_bleu"] == [1]
    assert len(result["artifacts"]["examples"]) == len(result["artifacts"]["predictions"]) == 3
    assert isinstance(result["artifacts"]["inference_time"], float)
    assert isinstance(result["artifacts"]["evaluation_time"], float)


def test_a_metric_without_any_score_is_not_in_the_result(client, services) -> None:
    mine = compared(client)
    rescored(services, mine["id"], MetricSpec(name="comet"), np.full(ROWS, np.nan))
    assert get(client, mine["artifacts_download_url"]).json()["metrics"].keys().isdisjoint({"comet", "rouge"})


def test_an_inference_has_all_that_lumigators_has(client, services) -> None:
    job = inference(client, uploaded(client, "examples\nOne. Two.\nThree. Four.\n").json()["id"])
    artifacts = job_result(client, job["id"])["artifacts"]
    assert set(artifacts) == {
        "predictions", "reasoning", "examples", "ground_truth", "model", "inference_time", "inference_metrics",
    }  # fmt: skip
    assert (artifacts["predictions"], artifacts["ground_truth"]) == (["One.", "Three."], None)
    assert artifacts["reasoning"] == artifacts["inference_metrics"] == [None, None]


def test_tokens_are_counted_as_lumigator_does(client, services) -> None:
    job = inference(client, uploaded(client, "examples\nOne. Two.\nThree. Four.\n").json()["id"])
    get(client, f"jobs/{job['id']}")
    ws = services.ws
    spec = results.read_spec(ws.store, job["id"])
    counts = [
        {"prompt_tokens": prompt, "completion_tokens": completion, "reasoning_tokens": reasoning}
        for prompt, completion, reasoning in ((7, 5, 2), (9, 1, None))
    ]
    answers = results.read_predictions(ws.store, job["id"], 0)
    answers = [dataclasses.replace(answer, **each) for answer, each in zip(answers, counts, strict=True)]
    results.write_predictions(ws.store, spec, 0, answers)
    with writing(ws.database) as work:
        work.jobs.find(job["id"]).details = results.tally(ws.store, job["id"]).details
    result = job_result(client, job["id"])
    assert result["artifacts"]["inference_metrics"] == [
        {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "reasoning_tokens": 2, "answer_tokens": 3},
        {"prompt_tokens": 9, "total_tokens": 10, "completion_tokens": 1, "reasoning_tokens": 0, "answer_tokens": 1},
    ]
    assert result["metrics"]["avg_prompt_tokens"] == 8
    assert result["metrics"]["avg_answer_tokens"] == 2
    assert result["metrics"]["avg_total_tokens"] == 11


def test_the_ground_truth_of_an_annotation_is_what_the_model_wrote(client) -> None:
    job = annotation(client, uploaded(client).json()["id"])
    artifacts = job_result(client, job["id"])["artifacts"]
    assert artifacts["ground_truth"] == [f"Text {n} begins." for n in range(ROWS)]
    assert artifacts["predictions"] is None


def test_an_address_is_the_same_until_the_hour_is_over(client, monkeypatch) -> None:
    mine = compared(client)
    hour = time.time() // 3600 * 3600

    def at(seconds: float, path: str = f"workflows/{mine['id']}", code: int = 200) -> dict:
        monkeypatch.setattr("lumigator_nb.rest.signed_links.time.time", lambda: hour + seconds)
        return get(client, path, code).json()

    first = at(1)
    assert at(3599) == first
    assert at(3601)["artifacts_download_url"] != first["artifacts_download_url"]
    assert at(7199, first["artifacts_download_url"])["artifacts"]
    assert at(7201, first["artifacts_download_url"], 410)["hint"] == "request a new one"


def test_a_dataset_has_four_files_and_each_can_be_uploaded_again(client) -> None:
    text = CSV.replace("example", "examples")
    dataset = uploaded(client, text, "dataset.csv").json()
    urls = get(client, f"datasets/{dataset['id']}/download").json()["download_urls"]
    paths = [url.split("?")[0] for url in urls]
    assert [len(url.split("?")) for url in urls] == [2] * 4
    assert [path.rsplit(".", 1)[-1] for path in paths] == ["csv", "parquet", "jsonl", "arrow"]
    assert all("dataset.csv" in path for path in paths)
    original, parquet, lines, arrow = (get(client, url).content for url in urls)
    assert original.decode() == text
    assert pa.ipc.open_stream(arrow).read_all().column_names == ["examples", "ground_truth", "part"]
    assert json.loads(lines.splitlines()[1])["examples"] == "Text 1 begins. It ends."
    for name, content in (("a.parquet", parquet), ("b.jsonl", lines)):
        again = uploaded(client, content, name).json()
        (url,) = get(client, f"datasets/{again['id']}/download?extension=csv").json()["download_urls"]
        assert get(client, url).text.replace("\r\n", "\n") == text


def test_a_made_dataset_is_headed_as_lumigator_takes_it_back(client) -> None:
    job = inference(client, uploaded(client).json()["id"], store_to_dataset=True)
    made = get(client, f"jobs/{job['id']}/dataset").json()
    (url,) = get(client, f"datasets/{made['id']}/download?extension=csv").json()["download_urls"]
    content = get(client, url).content
    assert list(pd.read_csv(io.BytesIO(content))) == ["examples", "ground_truth", "part", "predictions"]
    again = uploaded(client, content, "again.csv").json()
    assert evaluation(client, again["id"], "rouge")["status"] == "created"


def test_lists_end_with_the_newest(client, services) -> None:
    datasets = [uploaded(client, f"{CSV}More {n}.,More,p\n", f"{n}.csv").json()["id"] for n in range(3)]
    jobs = [inference(client, each)["id"] for each in datasets]
    for path, ids in (("datasets", datasets), ("jobs", jobs)):
        assert [each["id"] for each in get(client, path).json()["items"]] == ids
        # So that a client that asks for no more than it is given sees what was made last.
        assert [each["id"] for each in get(client, f"{path}?limit=2").json()["items"]] == ids[1:]
        assert [each["id"] for each in get(client, f"{path}?skip=2&limit=2").json()["items"]] == ids[:1]
    assert [each.id for each in services.ws.datasets.list()] == datasets[::-1]


@pytest.mark.parametrize("kind", ["dataset", "experiment", "job", "workflow"])
def test_what_is_not_there_is_said_in_lumigators_words(client, kind) -> None:
    assert get(client, f"{kind}s/{NOWHERE}", 404).json()["detail"] == f"{kind.capitalize()} with ID {NOWHERE} not found"


def test_the_logs_of_a_workflow_end_with_what_programs_wait_for(client, cluster) -> None:
    logs = get(client, f"workflows/{compared(client)['id']}/logs").json()["logs"]
    said = ["inference ended: succeeded", "evaluation ended: succeeded", "Inference results stored at",
            "Storing evaluation results to", "Storing evaluation results for S3 to"]  # fmt: skip
    places = [logs.index(each) for each in said]
    assert places == sorted(places)
    cluster.execute = False
    waiting = compared(client, CSV + "More.,More,p\n")
    assert "stored at" not in get(client, f"{API}/workflows/{waiting['id']}/logs").json()["logs"]
