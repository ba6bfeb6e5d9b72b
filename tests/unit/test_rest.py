"""The REST API over workers that are called at once: routes, bodies, problems, repetitions, links."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlmodel import Session
from waiting import PATIENCE_S

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from lumigator_nb.cluster import JobState
from lumigator_nb.cluster.states import SUBMISSION_GRACE
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Removal
from lumigator_nb.errors import ClusterUnavailableError, StoreUnavailableError
from lumigator_nb.rest.app import make_app
from lumigator_nb.rest.routes import decisions
from lumigator_nb.rest.signed_links import Links
from lumigator_nb.rest.single_flight import Lists
from lumigator_nb.rest.state import Services
from lumigator_nb.rest.wire import schemas as api
from lumigator_nb.rest.wire.examples import EXAMPLES
from lumigator_nb.services.upkeep import garbage
from lumigator_nb.specs import Status, Step
from lumigator_nb.storage import layout
from lumigator_nb.workspace import connect

API = "/api/v1"
ROWS, MANY = 6, 24
CSV = "example,ground_truth,part\n" + "".join(f"Text {n} begins. It ends.,Sum {n},p{n % 2}\n" for n in range(ROWS))
GENERATION = {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0}
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def services(inline_ws):
    made = Services(inline_ws, Links(b"k" * 32))
    made.submit_soon = partial(helped, inline_ws)
    yield made
    made.races.close()


def helped(ws) -> None:
    """What the server's helper does in its thread."""
    ws.workflows.submit_waiting()
    ws.workflows.finish_deletions()


def uploaded(client, text: str = CSV, name: str = "texts.csv", code: int = 201, **headers: str):
    files = {"dataset": (name, text.encode() if isinstance(text, str) else text), "format": (None, "job")}
    answer = client.post(f"{API}/datasets/", files=files, headers=headers)
    assert answer.status_code == code, answer.text
    return answer


def created(client, path: str, body: dict, code: int = 201, **headers: str):
    # As Lumigator's SDK sends it: without a content type.
    answer = client.post(f"{API}/{path}", content=json.dumps(body), headers=headers)
    assert answer.status_code == code, answer.text
    return answer.json()


def inference(client, dataset: str, *, max_samples: int = -1, **config) -> dict:
    job = {"model": "lead-1", "provider": "baseline", "generation_config": GENERATION, **config}
    body = {"name": "mine", "dataset": dataset, "job_config": job, "max_samples": max_samples}
    return created(client, "jobs/inference/", body)


def get(client, path: str, code: int = 200):
    answer = client.get(path if path.startswith(("http", "/")) else f"{API}/{path}")
    assert answer.status_code == code, answer.text
    return answer


def experiment(client, dataset: str, **more) -> dict:
    return created(client, "experiments", {"name": "which", "dataset": dataset, "metrics": ["rouge"], **more})


def workflow(client, experiment_id: str, model: str = "lead-1", **more) -> dict:
    body = {"name": model, "model": model, "provider": "baseline", "experiment_id": experiment_id, **more}
    return created(client, "workflows", {"generation_config": GENERATION, **body})


def test_a_dataset_comes_goes_and_is_listed(client) -> None:
    answer = uploaded(client)
    dataset = answer.json()
    assert answer.headers["location"] == f"http://localhost{API}/datasets/{dataset['id']}"
    assert (dataset["filename"], dataset["size"], dataset["ground_truth"]) == ("texts.csv", len(CSV), True)
    assert uploaded(client, code=200).json()["id"] == dataset["id"]  # the same content is kept once
    other = uploaded(client, CSV + "One more.,One,p1\n").json()
    assert other["id"] != dataset["id"]
    for path in ("datasets", "datasets/", "datasets?skip=0&limit=2"):
        listed = get(client, path).json()
        assert (listed["total"], [each["id"] for each in listed["items"]]) == (2, [dataset["id"], other["id"]])
    assert get(client, "datasets?skip=1").json()["total"] == 2
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 204
    assert get(client, f"datasets/{dataset['id']}", 404).headers["content-type"] == "application/problem+json"


def test_files_are_loaded_by_signed_addresses_alone(client) -> None:
    dataset = uploaded(client).json()
    urls = get(client, f"datasets/{dataset['id']}/download").json()["download_urls"]
    names = [urlsplit(url).path.rsplit("/", 1)[-1] for url in urls]
    assert names == ["texts.csv", "texts.parquet", "texts.jsonl", "texts.arrow"]
    original, parquet, *_ = (get(client, url) for url in urls)
    assert original.text == CSV
    assert original.headers["content-disposition"].startswith("attachment")
    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == ROWS
    assert get(client, f"datasets/{dataset['id']}/download?extension=xlsx").json()["download_urls"] == []
    forged = urls[0].replace("signature=", "signature=x")
    assert get(client, forged, 404).json()["detail"] == "no file has this address"


def test_an_inference_job_and_its_dataset(client) -> None:
    dataset = uploaded(client).json()
    job = inference(client, dataset["id"], store_to_dataset=True, output_field="answers")
    assert (job["name"], job["job_type"], job["experiment_id"]) == ("mine", "inference", None)
    assert get(client, f"/api/jobs/{job['id']}").json()["status"] == "SUCCEEDED"
    assert get(client, f"jobs/{job['id']}").json()["status"] == "succeeded"
    assert get(client, f"jobs/{job['id']}/result").json() == {"id": job["id"], "job_id": job["id"]}
    result = get(client, get(client, f"jobs/{job['id']}/result/download").json()["download_url"]).json()
    assert set(result) == {"metrics", "parameters", "artifacts"}
    assert result["artifacts"]["predictions"] == [f"Text {n} begins." for n in range(ROWS)]
    assert result["artifacts"]["ground_truth"] == [f"Sum {n}" for n in range(ROWS)]
    assert result["parameters"]["model"] == "lead-1"
    made = get(client, f"jobs/{job['id']}/dataset").json()
    assert (made["run_id"], made["generated"], made["ground_truth"]) == (job["id"], False, True)
    (url,) = get(client, f"datasets/{made['id']}/download?extension=csv").json()["download_urls"]
    rows = list(csv.DictReader(io.StringIO(get(client, url).text)))
    assert rows[1] == {"examples": "Text 1 begins. It ends.", "ground_truth": "Sum 1", "part": "p1",
                       "answers": "Text 1 begins."}  # fmt: skip


def test_a_job_is_no_workflow_and_a_function_no_job(client, services) -> None:
    dataset = uploaded(client).json()
    job = inference(client, dataset["id"])
    assert get(client, f"workflows/{job['id']}", 404).json()["hint"].endswith(f"jobs/{job['id']}")
    config = {"model": "f", "provider": "function", "generation_config": GENERATION}
    created(client, "jobs/inference", {"name": "x", "dataset": dataset["id"], "job_config": config}, 422)
    assert services.ws.workflows.count() == 1


def test_whoever_makes_the_dataset_of_a_job_there_is_but_one(client, services, monkeypatch) -> None:
    dataset = uploaded(client).json()
    job = inference(client, dataset["id"], store_to_dataset=True)
    services.ws.workflows.refresh()
    owing = services.ws.jobs.get(job["id"]).experiment
    for _ in range(2):  # as two servers do that look at the same moment
        services.ws.jobs._settle(owing)
    assert services.ws.datasets.count() == 2


def test_an_annotation_writes_the_ground_truth(client) -> None:
    dataset = uploaded(client).json()
    config = {"model": "lead-1", "provider": "baseline"}
    job = created(client, "jobs/annotate", {"name": "truth", "dataset": dataset["id"], "job_config": config})
    made = get(client, f"jobs/{job['id']}/dataset").json()
    assert (made["generated"], made["generated_by"]) == (True, "lead-1")
    (url,) = get(client, f"datasets/{made['id']}/download?extension=csv").json()["download_urls"]
    assert next(csv.DictReader(io.StringIO(get(client, url).text)))["ground_truth"] == "Text 0 begins."


def test_a_dataset_takes_its_annotation_jobs_along_and_leaves_what_they_made(client) -> None:
    """Lumigator's UI deletes datasets, and no jobs."""
    dataset = uploaded(client).json()
    config = {"model": "lead-1", "provider": "baseline"}
    job = created(client, "jobs/annotate", {"name": "truth", "dataset": dataset["id"], "job_config": config})
    made = get(client, f"jobs/{job['id']}/dataset").json()
    inference(client, dataset["id"])
    refused = client.delete(f"{API}/datasets/{dataset['id']}")
    assert (refused.status_code, refused.json()["detail"]) == (409, "dataset 'texts' is used by: job 'mine'")
    alone = uploaded(client, "examples\nText one.\n", name="alone.csv").json()
    of_alone = created(client, "jobs/annotate", {"name": "truth", "dataset": alone["id"], "job_config": config})
    made_of_alone = get(client, f"jobs/{of_alone['id']}/dataset").json()
    assert client.delete(f"{API}/datasets/{alone['id']}").status_code == 204
    get(client, f"jobs/{of_alone['id']}", 404)
    for kept in (made, made_of_alone):
        assert get(client, f"datasets/{kept['id']}").json()["generated"] is True


def test_a_dataset_made_by_a_model_is_called_after_its_data(client, services) -> None:
    frame = pd.DataFrame({"example": ["a"], "ground_truth": ["b"]})
    made = services.ws.datasets.keep_generated(
        frame, name="texts, annotated by org/some-model", model="org/some-model", workflow_id=NOWHERE
    )
    assert get(client, f"datasets/{made.id}").json()["filename"] == "texts_annotated_by_org_some-model.csv"
    urls = get(client, f"datasets/{made.id}/download").json()["download_urls"]
    names = [urlsplit(url).path.rsplit("/", 1)[-1] for url in urls]
    assert names == [f"texts_annotated_by_org_some-model.{ending}" for ending in ("csv", "parquet", "jsonl", "arrow")]


@pytest.mark.parametrize(("answer", "column", "problem"), [
    ("a\0b", ["a\ufffdb"] * ROWS, None),  # no file of text can hold the character
    (None, None, "no example was answered"),
])  # fmt: skip
def test_a_dataset_is_made_of_whatever_was_answered_or_it_is_said_why_not(
    client, services, answer, column, problem
) -> None:
    dataset = uploaded(client).json()
    job = inference(client, dataset["id"], store_to_dataset=True)
    services.ws.workflows.refresh()
    name = layout.part(job["id"], Step.INFERENCE, 0)
    table = pq.read_table(io.BytesIO(services.ws.store.read(name)))
    answers = pa.array([answer] * ROWS, pa.string())
    table = table.set_column(table.column_names.index("prediction"), "prediction", answers)
    with services.ws.store.writing(name) as file:
        pq.write_table(table, file)
    found = get(client, f"jobs/{job['id']}/dataset", 200 if problem is None else 404).json()
    assert get(client, f"jobs/{job['id']}").json()["message"] == problem
    if problem is None:
        assert services.ws.datasets.to_pandas(found["id"])["predictions"].tolist() == column
    else:
        assert found["hint"] == problem


def test_a_dataset_goes_with_a_job_that_is_under_way(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    inference(client, dataset["id"])
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 409
    assert client.delete(f"{API}/datasets/{dataset['id']}?cascade=true").status_code == 204
    assert services.ws.jobs.count() == 0


@pytest.fixture
def working(cluster, monkeypatch):
    """The submissions that were asked to end: these workers go on until the test lets them end."""
    asked: list[str] = []
    cluster.execute = False

    def stop(submission_id: str, *, wait: bool = True) -> None:
        assert not wait
        asked.append(submission_id)

    monkeypatch.setattr(cluster, "stop", stop)
    return asked


def at_work(client, services, cluster) -> tuple[dict, dict, dict, dict]:
    """A dataset, an experiment, its workflow and a job of its own, of which both workers are at work."""
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"])
    mine, job = workflow(client, found["id"]), inference(client, dataset["id"], store_to_dataset=True)
    cluster.states = {key: JobState(Status.RUNNING, metadata=each.metadata) for key, each in cluster.states.items()}
    services.ws.workflows.refresh()
    return dataset, found, mine, job


def texts(ws) -> list[str]:
    return [name for name in ws.store.list("") if not name.startswith("predictions/")]


@pytest.mark.parametrize("what", ["workflow", "experiment", "dataset"])
def test_what_is_under_way_is_deleted_at_once_and_removed_when_its_worker_has_ended(
    client, services, cluster, working, what
) -> None:
    dataset, found, mine, job = at_work(client, services, cluster)
    path, query, code = {
        "workflow": (f"workflows/{mine['id']}", "?force=true", 200),
        "experiment": (f"experiments/{found['id']}", "", 200),
        "dataset": (f"datasets/{dataset['id']}", "?cascade=true", 204),
    }[what]
    gone = [mine["id"], *([found["id"]] if what != "workflow" else []),
            *([job["id"], dataset["id"]] if what == "dataset" else [])]  # fmt: skip
    assert client.delete(f"{API}/{path}{query}").status_code == code
    # Answered, while the workers are still at work.
    assert set(working) == {mine["id"], *([job["id"]] if what == "dataset" else [])}
    assert all(cluster.states[key].status is Status.RUNNING for key in working)
    get(client, path, 404)
    assert client.delete(f"{API}/{path}{query}").status_code == 404
    listed = get(client, "datasets").text + get(client, "experiments").text + get(client, "jobs").text
    assert [key for key in gone if key in listed] == []
    counted = sum(get(client, each).json()["total"] for each in ("datasets", "experiments", "jobs"))
    assert counted == {"workflow": 3, "experiment": 2, "dataset": 0}[what]
    running = get(client, "/metrics").text.split('lumigator_workflows{status="running"} ')[1].split()[0]
    assert float(running) == 2 - len(working)
    again = {
        "workflow": lambda: workflow(client, found["id"])["name"] == "lead-1",
        "experiment": lambda: experiment(client, dataset["id"])["name"] == "which",
        "dataset": lambda: uploaded(client).json()["filename"] == "texts.csv",
    }
    assert again[what](), "the name is free"
    # Files stay under those who may still write.
    assert [key for key in gone if key in str(texts(services.ws))] != []
    for key in set(working):
        services.ws.store.write(layout.log(key, 1), b"late")
        cluster.states[key] = JobState(Status.STOPPED)
    helped(services.ws)
    assert [key for key in gone if key in str(texts(services.ws))] == []
    assert garbage.find(services.ws.database, services.ws.store, timedelta(0)).orphans == ()
    with reading(services.ws.database) as work:
        assert work.removals.count() == 0


def test_a_deletion_waits_for_no_cluster_and_is_finished_later(client, services, cluster, working) -> None:
    _, found, mine, _ = at_work(client, services, cluster)
    services.submit_soon = lambda: None  # this server is killed now
    cluster.reachable = False
    assert client.delete(f"{API}/experiments/{found['id']}").status_code == 200
    with pytest.raises(ClusterUnavailableError):
        services.ws.workflows.finish_deletions()
    assert working == []
    cluster.reachable = True
    helped(services.ws)  # by another one
    assert working == [mine["id"]]
    cluster.states[mine["id"]] = JobState(Status.STOPPED)
    helped(services.ws)
    assert mine["id"] not in str(texts(services.ws))


def test_what_is_deleted_while_it_is_handed_over_is_ended(client, services, cluster, working, monkeypatch) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"])
    post = cluster.post

    def slowly(jobs) -> None:
        services.submit_soon = lambda: None
        assert client.delete(f"{API}/experiments/{found['id']}").status_code == 200
        with writing(services.ws.database) as work:  # and what it left was given up before this one goes on
            work.session.execute(sa.delete(Removal))
        post(jobs)

    monkeypatch.setattr(cluster, "post", slowly)
    mine = workflow(client, found["id"])
    helped(services.ws)
    assert set(working) == {mine["id"]}
    cluster.states[mine["id"]] = JobState(Status.STOPPED)
    helped(services.ws)
    assert mine["id"] not in str(texts(services.ws))


def test_what_no_cluster_knows_is_removed_once_it_cannot_be_handed_over_any_more(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"])
    services.submit_soon = lambda: None
    workflow(client, found["id"])
    assert client.delete(f"{API}/datasets/{dataset['id']}?cascade=true").status_code == 204
    helped(services.ws)
    assert texts(services.ws) != []
    with writing(services.ws.database) as work:
        (left,) = work.removals.list()
        left.created_at -= SUBMISSION_GRACE
    helped(services.ws)
    assert texts(services.ws) == []


def test_a_store_that_is_away_keeps_what_is_to_be_removed(client, services, monkeypatch) -> None:
    dataset = uploaded(client).json()

    def away(name: str) -> None:
        raise StoreUnavailableError("it does not answer")

    services.submit_soon = lambda: None
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 204
    with monkeypatch.context() as patched:
        patched.setattr(services.ws.store, "delete", away)
        with pytest.raises(StoreUnavailableError, match="it does not answer"):
            services.ws.workflows.finish_deletions()
    helped(services.ws)
    assert texts(services.ws) == []


def test_what_is_deleted_while_it_is_looked_at_is_not_there(client, services, cluster, monkeypatch) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    found = experiment(client, dataset["id"])
    mine = workflow(client, found["id"])
    record = services.ws.experiments.get(found["id"])

    def statuses(ids: list[str]) -> dict[str, JobState]:
        monkeypatch.undo()
        assert client.delete(f"{API}/datasets/{dataset['id']}?cascade=true").status_code == 204
        return dict.fromkeys(ids, JobState(Status.RUNNING))

    services.submit_soon = lambda: None
    monkeypatch.setattr(cluster, "statuses", statuses)
    assert get(client, f"workflows/{mine['id']}", 404).json()["detail"] == f"Workflow with ID {mine['id']} not found"
    assert decisions._progress(services, record) == ([], True)  # which ends the events


def test_no_dataset_is_made_of_a_job_that_was_deleted_meanwhile(client, services, monkeypatch) -> None:
    """Between reading its predictions and keeping them its dataset goes, and all texts with it."""
    ws, dataset = services.ws, uploaded(client).json()
    inference(client, dataset["id"], store_to_dataset=True)
    ws.workflows.refresh()
    keep = ws.datasets.keep_generated

    def late(*arguments, **options):
        assert client.delete(f"{API}/datasets/{dataset['id']}?cascade=true").status_code == 204
        return keep(*arguments, **options)

    monkeypatch.setattr(ws.datasets, "keep_generated", late)
    ws.jobs.settle()
    assert ws.datasets.count() == 0
    assert texts(ws) == []


def test_a_stopped_workflow_has_ended_for_all_who_ask(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    found = experiment(client, dataset["id"])
    mine = workflow(client, found["id"])
    services.ws.workflows.stop(services.ws.workflows.get(mine["id"]))
    details = get(client, f"workflows/{mine['id']}").json()
    assert details["status"] == "failed"  # Lumigator's workflows have no "stopped"; its jobs have
    for each in details["jobs"]:
        assert get(client, f"jobs/{each['id']}").json()["status"] == "stopped"
        shown = get(client, f"/api/jobs/{each['id']}").json()
        assert (shown["status"], shown["end_time"] is not None) == ("STOPPED", True)
    jobs = {each["job_type"]: each for each in get(client, "jobs").json()["items"]}
    assert jobs["evaluator"]["message"] == "the inference was stopped"


def test_an_evaluation_fails_with_its_inference_and_is_taken_up_again_with_it(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    found = experiment(client, dataset["id"])
    mine = workflow(client, found["id"])
    cluster.states[mine["id"]] = JobState(Status.FAILED, "no room")
    get(client, f"experiments/{found['id']}")
    for path in ("jobs", "jobs?job_types=evaluator"):
        shown = get(client, path).json()["items"]
        assert {each["status"] for each in shown} == {"failed"}
        (evaluation,) = [each for each in shown if each["job_type"] == "evaluator"]
        assert evaluation["message"] == "the inference failed: the worker ended without a result: no room"
    assert get(client, f"/api/jobs/{evaluation['id']}").json()["status"] == "FAILED"
    cluster.execute = True
    services.ws.workflows.resume(found["id"])
    services.ws.workflows.refresh()
    shown = get(client, "jobs").json()["items"]
    assert {(each["status"], each["message"]) for each in shown} == {("succeeded", None)}


def test_an_evaluation_scores_the_predictions_of_a_dataset(client) -> None:
    text = "example,ground_truth,predictions\nA b.,A b.,A b.\nC d.,C d.,nothing\n"
    dataset = uploaded(client, text).json()
    body = {"name": "score", "dataset": dataset["id"], "job_config": {"metrics": ["rouge", "bleu"]}}
    job = created(client, "jobs/evaluator/", body)
    assert get(client, f"jobs/{job['id']}").json()["status"] == "succeeded"
    result = get(client, get(client, f"jobs/{job['id']}/result/download").json()["download_url"]).json()
    assert result["metrics"]["rouge"]["rouge1"] == [1.0, 0.0]
    assert result["metrics"]["rouge"]["rouge1_mean"] == 0.5
    assert set(result["metrics"]["bleu"]) == {"bleu", "bleu_mean", "bleu_overall"}
    assert result["artifacts"]["predictions"] == ["A b.", "nothing"]
    without = uploaded(client, CSV).json()
    refused = created(client, "jobs/evaluator", {**body, "dataset": without["id"]}, 422)
    assert "no column 'predictions'" in refused["detail"]
    assert get(client, "jobs").json()["total"] == 1


def test_an_evaluation_checks_answers_by_rules(client) -> None:
    dataset = uploaded(client, "example,predictions\nA b.,A b c d.\nC d.,C d.\n").json()
    checks = [{"check": {"name": "brief", "max_words": 3}}, {"check": {"max_seconds": 2}}, "length"]
    body = {"name": "check", "dataset": dataset["id"], "job_config": {"metrics": checks}}
    job = created(client, "jobs/evaluator/", body)
    result = get(client, get(client, f"jobs/{job['id']}/result/download").json()["download_url"]).json()
    assert result["metrics"]["brief"]["brief"] == [0.0, 1.0]
    assert "the latency of the answer is not known" in get(client, f"jobs/{job['id']}").json()["message"]


def test_a_classification_over_rest(client) -> None:
    dataset = uploaded(client, "example,ground_truth\nA bill.,billing\nA van.,delivery\nA cart.,delivery\n").json()
    task = {"task": "classification", "labels": ["billing", "delivery"], "descriptions": {"billing": "money"}}
    body = {"name": "routing", "dataset": dataset["id"], "task_definition": task}
    found = created(client, "experiments", body)
    assert found["task_definition"] == {**task, "multi_label": False}
    scored = workflow(client, found["id"], "majority")
    metrics = get(client, f"workflows/{scored['id']}").json()["metrics"]
    assert metrics["classification_accuracy_mean"] == pytest.approx(2 / 3)
    alike = {**body, "name": "x", "task_definition": {"task": "classification", "labels": ["a", "A"]}}
    assert "differ at most in case" in created(client, "experiments", alike, 422)["detail"]


def test_jobs_are_listed_by_type_and_page(client, services) -> None:
    dataset = uploaded(client).json()
    single = [inference(client, dataset["id"])["id"] for _ in range(3)]
    found = experiment(client, dataset["id"])
    workflow(client, found["id"])
    services.ws.workflows.refresh()
    jobs = get(client, "jobs").json()
    assert jobs["total"] == 5  # the scoring of mere predictions is none
    assert {each["status"] for each in jobs["items"]} == {"succeeded"}
    assert get(client, "jobs?job_types=inference").json()["total"] == 4
    assert get(client, "jobs?job_types=evaluator").json()["total"] == 1
    assert get(client, "jobs?job_types=annotate&job_types=evaluator").json()["total"] == 1
    page = get(client, "jobs?skip=2&limit=2").json()
    assert (page["total"], [each["id"] for each in page["items"]]) == (5, single[1:])
    assert get(client, "experiments/all").json()["total"] == 1  # what holds a single job is none
    assert [each.name for each in services.ws.experiments.list()] == ["which"]


def test_a_list_is_made_once_for_all_who_asked_before_it_was_begun() -> None:
    begun, made = threading.Event(), []

    def make() -> bytes:
        begun.set()
        time.sleep(0.2)
        made.append(len(made))
        return str(made[-1]).encode()

    async def everybody() -> list[bytes]:
        lists = Lists()
        first = asyncio.ensure_future(lists.get("jobs", make))
        await asyncio.to_thread(begun.wait)
        later = [asyncio.ensure_future(lists.get("jobs", make)) for _ in range(3)]
        await asyncio.sleep(0)
        later.pop().cancel()  # who goes away takes it from nobody else
        return await asyncio.gather(first, *later, lists.get("others", make))

    # What was begun already is older than the later questions.
    assert asyncio.run(everybody()) == [b"0", b"1", b"1", b"2"]


def test_hints_speak_of_requests_and_name_nothing_else(client, services, cluster) -> None:
    """An answer about an id does not say what else there is."""
    dataset = uploaded(client).json()
    cluster.execute = False
    found = experiment(client, dataset["id"])
    mine = workflow(client, found["id"])
    inference(client, dataset["id"])
    refused = client.delete(f"{API}/workflows/{mine['id']}").json()
    assert refused["hint"] == "wait for it, or DELETE it with ?force=true"
    refused = client.delete(f"{API}/datasets/{dataset['id']}").json()
    assert refused["detail"] == "dataset 'texts' is used by: which, job 'mine'"
    assert refused["hint"] == "delete those first, or DELETE with ?cascade=true removes them too"
    text = experiment(client, dataset["id"], task_definition={"task": "text-generation"})
    body = {"name": "n", "model": "lead-1", "provider": "baseline", "experiment_id": text["id"]}
    assert created(client, "workflows", body, 422)["hint"] == "give it one as system_prompt"
    for path in ("datasets", "experiments", "workflows", "jobs"):
        assert get(client, f"{path}/{NOWHERE}", 404).json().get("hint") is None


def test_what_is_recorded_of_a_failure_speaks_of_requests(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    job = inference(client, dataset["id"])
    cluster.states[job["id"]] = JobState(Status.FAILED, "killed", exit_code=-9)
    said = get(client, f"jobs/{job['id']}").json()["message"]
    assert "give the model a smaller batch_size or the cluster's nodes more memory" in said


def test_an_experiment_with_its_workflows(client, services) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"], description="why not")
    first = workflow(client, found["id"], description="the first", system_prompt="Be brief.", job_timeout_sec=60)
    assert services.ws.workflows.get(first["id"]).launch.timeout == 60
    workflow(client, found["id"], "copy")
    shown = get(client, f"experiments/{found['id']}").json()
    assert (shown["name"], shown["description"], shown["dataset"]) == ("which", "why not", dataset["id"])
    assert [each["status"] for each in shown["workflows"]] == ["succeeded", "succeeded"]
    details = get(client, f"workflows/{first['id']}").json()
    assert (details["system_prompt"], details["description"]) == ("Be brief.", "the first")
    assert 0 < details["metrics"]["rouge_rougeL_mean"] < 1
    assert len(details["jobs"]) == 2
    url = get(client, f"workflows/{first['id']}/result/download").json()
    result = get(client, url).json()
    assert len(result["metrics"]["rouge"]["rougeL"]) == len(result["artifacts"]["predictions"]) == ROWS
    assert details["artifacts_download_url"].rsplit("/", 1)[1] == url.rsplit("/", 1)[1]
    assert get(client, f"workflows/{first['id']}/logs").json()["logs"].count("evaluation ended: succeeded\n") == 1
    assert client.delete(f"{API}/workflows/{first['id']}").json()["id"] == first["id"]
    assert get(client, f"workflows/{first['id']}", 404).json()["status"] == 404
    assert client.delete(f"{API}/experiments/{found['id']}").status_code == 200
    assert services.ws.workflows.count() == 0


def test_what_lumigator_lets_one_do_twice(client) -> None:
    dataset = uploaded(client).json()
    assert [experiment(client, dataset["id"])["name"] for _ in range(2)] == ["which", "which (2)"]
    found = get(client, "experiments").json()["items"][0]
    twice = [workflow(client, found["id"]) for _ in range(2)]
    assert [each["name"] for each in twice] == ["lead-1", "lead-1 (2)"]
    assert twice[0]["id"] != twice[1]["id"]


def test_a_sample_is_no_dataset_and_goes_with_what_it_was_drawn_from(client, services) -> None:
    """Neither an experiment nor a job on a part of a dataset leaves a copy of its texts anywhere."""
    ws, marker = services.ws, "SECRET-PATIENT"
    text = "example,ground_truth,predictions\n" + "".join(f"Text {n}. {marker} {n}.,Sum {n},Sum\n" for n in range(20))
    dataset = uploaded(client, text).json()["id"]
    found = experiment(client, dataset, max_samples=5)
    assert (found["max_samples"], found["dataset"]) == (5, dataset)
    mine = workflow(client, found["id"])
    jobs = [
        inference(client, dataset, max_samples=3),
        created(client, "jobs/evaluator", {"name": "b", "dataset": dataset, "max_samples": 4,
                "job_config": {"metrics": ["rouge"]}}),
    ]  # fmt: skip
    assert [get(client, f"jobs/{each['id']}").json()["config"]["dataset"]["id"] for each in jobs] == [dataset] * 2
    assert [each.id for each in ws.datasets.list()] == [dataset]
    assert get(client, "datasets").json()["total"] == 1
    ws.workflows.refresh()
    result = get(client, get(client, f"workflows/{mine['id']}").json()["artifacts_download_url"]).json()
    assert [len(result["artifacts"][name]) for name in ("examples", "predictions", "ground_truth")] == [5] * 3
    assert result["artifacts"]["ground_truth"] == [
        f"Sum {each.split()[1][:-1]}" for each in result["artifacts"]["examples"]
    ]
    path = f"{API}/datasets/{dataset}"
    assert client.delete(path).status_code == 409
    assert client.delete(f"{path}?cascade=true").status_code == 204
    assert [ws.experiments.count(), ws.workflows.count(), ws.jobs.count(), ws.datasets.count()] == [0] * 4
    assert [name for name in ws.store.list("") if marker.encode() in unpacked(ws.store.read(name))] == []


def unpacked(content: bytes) -> bytes:
    return repr(pq.read_table(io.BytesIO(content)).to_pylist()).encode() if content[:4] == b"PAR1" else content


def test_more_samples_than_examples_are_all(client) -> None:
    dataset = uploaded(client).json()
    assert experiment(client, dataset["id"], max_samples=100)["max_samples"] == 100


def test_text_generation_takes_its_prompt_from_the_workflow(client) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"], task_definition={"task": "text-generation"})
    body = {"name": "x", "model": "copy", "provider": "baseline", "experiment_id": found["id"]}
    assert "needs a prompt" in created(client, "workflows", body, 422)["detail"]
    assert created(client, "workflows", {**body, "system_prompt": "Answer."})["system_prompt"] == "Answer."


def test_a_comparison_an_estimate_a_race_predictions_and_events(client, services) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"])
    first, _ = workflow(client, found["id"]), workflow(client, found["id"], "copy")
    services.ws.workflows.refresh()
    base = f"experiments/{found['id']}"
    comparison = get(client, f"{base}/comparison").json()
    assert (comparison["main_score"], comparison["n_scored"]) == ("rougeL", ROWS)
    assert comparison["best"] in ("lead-1", "copy")
    assert {row["model"] for row in comparison["summary"]} == {"lead-1", "copy"}
    assert get(client, f"{base}/comparison?score=fame", 422).json()["hint"].startswith("Known: ")
    models = [{"model": name, "provider": "baseline"} for name in ("lead-1", "copy")]
    rows = created(client, f"{base}/estimate", {"models": models}, 200)
    assert [row["examples"] for row in rows] == [ROWS, ROWS]
    race = created(client, f"{base}/select", {"models": models}, 202)
    deadline = time.monotonic() + PATIENCE_S
    while (ended := get(client, f"{base}/select/{race['id']}").json())["status"] == "running":
        assert time.monotonic() < deadline
    assert ended["result"]["n_examples"] == ROWS
    assert (ended["result"]["population"], ended["result"]["conclusion"]) == ("dataset", "best")
    assert ended["result"]["beyond"] is False, "six examples show nothing of others"
    created(client, f"{base}/select", {"models": models, "population": "all"}, 422)
    assert get(client, f"{base}/select/{NOWHERE}", 404).json()["hint"].startswith("post it again")
    page = get(client, f"{base}/predictions?workflow={first['id']}&skip=4&limit=10").json()
    assert (page["total"], [row["row"] for row in page["items"]]) == (ROWS, [4, 5])
    table = get(client, f"{base}/predictions?workflow={first['id']}&format=parquet&limit=3").content
    assert pq.read_table(io.BytesIO(table)).num_rows == 3
    assert get(client, f"{base}/predictions?workflow={NOWHERE}", 404)
    events = get(client, f"{base}/events").text.split("\n\n")
    assert events[0].startswith("event: progress\ndata: [{")
    assert events[1] == "event: end\ndata: {}"


def test_what_runs_is_told_until_it_ends(client, services, cluster) -> None:
    dataset = uploaded(client).json()
    cluster.execute = False
    found = experiment(client, dataset["id"])
    mine = workflow(client, found["id"])
    assert get(client, f"workflows/{mine['id']}").json()["status"] == "created"
    assert client.delete(f"{API}/workflows/{mine['id']}").status_code == 409
    assert client.delete(f"{API}/datasets/{dataset['id']}").status_code == 409
    job = inference(client, dataset["id"])
    assert get(client, f"/api/jobs/{job['id']}").json()["status"] == "PENDING"
    assert get(client, f"jobs/{job['id']}/result", 404).json()["hint"] == "the job is pending"
    services.ws.workflows.stop([services.ws.workflows.get(job["id"])])
    assert get(client, f"/api/jobs/{job['id']}").json()["status"] == "STOPPED"
    assert client.delete(f"{API}/workflows/{mine['id']}?force=true").status_code == 200
    assert client.delete(f"{API}/datasets/{dataset['id']}?cascade=true").status_code == 204


def test_work_waits_for_a_cluster_that_is_away(client, services, cluster, inline_ws) -> None:
    dataset = uploaded(client).json()
    services.submit_soon = lambda: None  # the helper's, which finds no cluster
    cluster.reachable = False
    job = inference(client, dataset["id"], store_to_dataset=True)
    assert job["status"] == "created"
    assert get(client, f"/api/jobs/{job['id']}").json()["status"] == "PENDING"
    cluster.reachable = True
    inline_ws.workflows.renew_waiting()
    assert [each.id for each in inline_ws.workflows.submit_waiting()] == [job["id"]]
    inline_ws.workflows.refresh()
    assert inline_ws.jobs.get(job["id"]).status is Status.RUNNING  # it owes a dataset
    inline_ws.jobs.settle()
    assert inline_ws.jobs.get(job["id"]).status is Status.SUCCEEDED
    inline_ws.jobs.settle()
    assert inline_ws.datasets.count() == 2


def at_once(*calls) -> list:
    """Begin calls in threads at the same moment, and return what they return."""
    start = threading.Barrier(len(calls))

    def begun(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begun, calls))


def test_a_file_that_is_uploaded_many_times_at_once_is_kept_once(client, services) -> None:
    answers = at_once(*[partial(_uploaded_either_way, client, f"texts-{n % 2}.csv") for n in range(8)])
    assert len({answer["id"] for answer in answers}) == 1
    assert [each.version for each in services.ws.datasets.list()] == [1]
    folders = {name.split("/")[1] for name in services.ws.store.list("datasets")}
    assert folders == {answers[0]["id"]}, "the others left no files"


def _uploaded_either_way(client, name: str) -> dict:
    files = {"dataset": (name, CSV.encode()), "format": (None, "job")}
    answer = client.post(f"{API}/datasets/", files=files)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_experiments_and_workflows_of_one_name_at_once_are_numbered(client) -> None:
    dataset = uploaded(client).json()["id"]
    made = at_once(*[partial(experiment, client, dataset, name="same")] * MANY)
    assert sorted(each["name"] for each in made) == sorted(["same", *(f"same ({n})" for n in range(2, MANY + 1))])
    workflows = at_once(*[partial(workflow, client, made[0]["id"])] * 8)
    assert sorted(each["name"] for each in workflows) == ["lead-1", *(f"lead-1 ({n})" for n in range(2, 9))]


def test_a_job_is_there_whole_or_not_at_all(client, services, inline_ws) -> None:
    """Whoever is killed, or looks, between two commits finds no job that will never begin."""
    text = CSV.replace("part", "predictions")
    dataset = uploaded(client, text).json()["id"]
    halves = []

    def look(_session) -> None:
        with inline_ws.database.engine.connect() as connection:
            halves.append(connection.execute(WITHOUT_WORKFLOW).scalar_one())

    services.submit_soon = lambda: None
    sa.event.listen(Session, "after_commit", look)
    try:
        inference(client, dataset, store_to_dataset=True, output_field="mine")
        created(client, "jobs/annotate", {"name": "a", "dataset": dataset,
                "job_config": {"model": "lead-1", "provider": "baseline"}})  # fmt: skip
        created(client, "jobs/evaluator", {"name": "b", "dataset": dataset, "job_config": {"metrics": ["rouge"]}})
    finally:
        sa.event.remove(Session, "after_commit", look)
    assert halves
    assert set(halves) == {0}
    assert inline_ws.jobs.count() == 3


WITHOUT_WORKFLOW = sa.text(
    "SELECT count(*) FROM experiment WHERE NOT EXISTS (SELECT 1 FROM workflow WHERE experiment_id = experiment.id)"
)


def test_the_predictions_to_score_are_in_the_store_before_a_workflow_is_to_be_seen(client, services, inline_ws) -> None:
    dataset = uploaded(client, CSV.replace("part", "predictions")).json()["id"]
    other, early = experiment(client, dataset), []

    def look(_session) -> None:  # as the server's helper does at any moment, to hand over what it finds
        early.extend(each for each in inline_ws.workflows.list() if not inline_ws.store.list(f"workflows/{each.id}"))

    services.submit_soon = lambda: None
    sa.event.listen(Session, "after_commit", look)
    try:
        created(client, "jobs/evaluator", {"name": "b", "dataset": dataset, "job_config": {"metrics": ["rouge"]}})
        inline_ws.workflows.record(other["id"], name="mine", predictions="predictions")
    finally:
        sa.event.remove(Session, "after_commit", look)
    assert early == []


@pytest.mark.parametrize("owes", [True, False])
def test_what_held_a_job_that_is_gone_disturbs_no_other(client, services, inline_ws, owes) -> None:
    dataset = uploaded(client).json()["id"]
    lost, other = (inference(client, dataset, store_to_dataset=owes) for _ in range(2))
    inline_ws.workflows.refresh()
    holder = inline_ws.jobs.get(lost["id"]).experiment
    inline_ws.workflows.delete(lost["id"])  # as an earlier version left it, killed while it made the job
    inline_ws.jobs.settle()
    assert inline_ws.jobs.get(other["id"]).status is Status.SUCCEEDED
    assert inline_ws.experiments.find(holder.id) is not None, "another process may just be about to add its workflow"
    with writing(inline_ws.database) as work:
        work.experiments.get(holder.id).created_at -= timedelta(minutes=20)
    inline_ws.jobs.settle()
    assert inline_ws.experiments.find(holder.id) is None
    assert client.delete(f"{API}/datasets/{dataset}?cascade=true").status_code == 204


def test_secrets_never_come_back(client) -> None:
    path, value = f"{API}/settings/secrets/openai_api_key", "sk-never-again-0123456789"
    body = json.dumps({"value": value, "description": "for tests"})
    assert [client.put(path, content=body).status_code for _ in range(2)] == [201, 204]
    listed = get(client, "settings/secrets").text
    assert json.loads(listed) == [{"name": "openai_api_key", "description": "for tests"}]
    refused = client.put(path, content=json.dumps({"value": [value], "description": 1}))
    assert (refused.status_code, value in refused.text) == (422, False)
    assert [client.delete(path).status_code for _ in range(2)] == [204, 204]


def test_models_of_a_task(client) -> None:
    everything = get(client, "models").json()
    some = get(client, "models/?tasks=summarization&tasks=translation").json()
    assert 0 < get(client, "models?tasks=translation").json()["total"] < some["total"] <= everything["total"]
    assert "should be 'summarization'" in get(client, "models?tasks=poetry", 422).json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "code", "said"),
    [
        ("jobs/inference", {"name": "x"}, 422, "body.dataset: Field required"),
        ("jobs/inference", None, 422, "JSON"),
        ("experiments", {"name": "x", "dataset": NOWHERE}, 404, "Dataset with ID"),
        ("experiments", {"name": "x", "dataset": NOWHERE, "more": 1}, 404, "Dataset with ID"),
        ("experiments", {"name": "x\0", "dataset": NOWHERE}, 422, "body.name"),
    ],
)
def test_a_malformed_request_is_told_what_is_wrong(client, path, body, code, said) -> None:
    content = "{" if body is None else json.dumps(body)
    answer = client.post(f"{API}/{path}", content=content)
    assert answer.status_code == code
    problem = answer.json()
    assert said in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_models_that_cannot_work_are_refused(client) -> None:
    dataset = uploaded(client).json()
    found = experiment(client, dataset["id"])
    body = {"name": "x", "model": "lead-1", "provider": "baseline", "experiment_id": found["id"]}
    for more, said in (
        ({"provider": "nobody"}, "nobody"),
        ({"secret_key_name": "not_there"}, "no secret"),
        ({"metrics": ["fame"]}, "fame"),
        ({"metrics": [{"check": {"max_word": 3}}]}, "max_words"),
        ({"metrics": [{"check": {"max_words": -3}}]}, "max_words=-3"),
        ({"metrics": [{"name": "_function", "options": {}}]}, "check"),
        ({"generation_config": {"top_p": 2}}, "top_p"),
        ({"experiment_id": NOWHERE}, "Experiment with ID"),
    ):
        refused = client.post(f"{API}/workflows", json={**body, **more})
        assert refused.status_code in (404, 422), more
        assert said in refused.text, more
    assert get(client, f"experiments/{found['id']}").json()["workflows"] == []


def test_a_refused_upload_leaves_nothing(client, services) -> None:
    for name, content in (("x.csv", "no,such\n1,2\n"), ("x.csv", b"\x89PNG\r\n"), ("x.csv", ""), ("x.zip", b"PK\3\4")):
        refused = uploaded(client, content, name, 422).json()
        assert refused["detail"]
    assert services.ws.datasets.count() == 0
    assert services.ws.store.list("datasets") == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.csv", "..\\..\\x.csv", "/abs.csv", "a\tb.csv", "…/ü.csv", '"; rm.csv']
)
def test_no_file_name_leads_elsewhere(client, services, name) -> None:
    dataset = uploaded(client, name=name).json()
    assert all(each.startswith(f"datasets/{dataset['id']}/") for each in services.ws.store.list("datasets"))
    assert not any(".." in each.split("/") for each in services.ws.store.list("datasets"))
    for url in get(client, f"datasets/{dataset['id']}/download").json()["download_urls"]:
        get(client, url)


@pytest.mark.parametrize(("name", "shown"), [
    ("C:\\data\\x.csv", "x.csv"), ("../x.csv", "x.csv"), ("x\u202egpj.csv", "xgpj.csv"), ("x\u200b.csv", "x.csv"),
    (".", "upload"), ("..", "upload"), ("ü 1.csv", "ü 1.csv"),
])  # fmt: skip
def test_a_file_name_is_shown_without_folders_and_hidden_characters(client, name, shown) -> None:
    assert uploaded(client, name=name).json()["filename"] == shown


def test_the_same_key_creates_once(client, services) -> None:
    dataset = uploaded(client, **{"Idempotency-Key": "up-1"}).json()
    assert uploaded(client, **{"Idempotency-Key": "up-1"}).json() == dataset
    body = {"name": "once", "dataset": dataset["id"]}
    first = client.post(f"{API}/experiments", json=body, headers={"Idempotency-Key": "k"})
    again = client.post(f"{API}/experiments", json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post(f"{API}/experiments", json={**body, "name": "other"}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, "another request" in other.json()["detail"]) == (409, True)
    services.replies.begin("x", "y")
    assert services.ws.experiments.count() == 1
    assert client.post(f"{API}/experiments", json=body, headers={"Idempotency-Key": "k" * 300}).status_code == 422


def test_what_was_refused_may_be_tried_again_with_its_key(client) -> None:
    dataset = uploaded(client).json()
    body, key = {"name": "later", "dataset": NOWHERE}, {"Idempotency-Key": "k"}
    assert client.post(f"{API}/experiments", json=body, headers=key).status_code == 404
    assert client.post(f"{API}/experiments", json=body, headers=key).headers["idempotency-replayed"] == "true"
    assert client.post(f"{API}/experiments", json={**body, "dataset": dataset["id"]}).status_code == 201


def test_health_metrics_and_the_description(client) -> None:
    assert get(client, "health").json() == {"status": "OK", "deployment_type": "local"}
    ready = get(client, "health/ready").json()
    assert ready == {"status": "ok", "database": "ok", "store": "ok", "cluster": "starting"}
    get(client, f"jobs/{NOWHERE}", 404)
    counted = get(client, "/metrics").text
    assert 'lumigator_requests_total{method="GET",route="/api/v1/jobs/{job_id}",status="404"} 1.0' in counted
    described = get(client, "openapi.json").json()
    assert "requestBody" in described["paths"]["/api/v1/workflows"]["post"]
    page = get(client, "docs").text
    assert "curl -X POST 'http://localhost/api/v1/workflows'" in html.unescape(page)
    assert "src=" not in page  # nothing from elsewhere
    assert get(client, "no/such/path", 404).json()["title"] == "Not Found"
    assert client.patch(f"{API}/jobs").status_code == 405


def test_a_store_that_goes_away_is_said_to_and_the_server_lives(tmp_path) -> None:
    with (
        connect(lumigator_home=tmp_path / "home") as ws,
        TestClient(make_app(Services(ws, Links(b"k" * 32))), base_url="http://localhost") as client,
    ):
        assert get(client, "health/ready").json()["store"] == "ok"  # nothing was ever written
        dataset, folder = uploaded(client).json(), Path(ws.store.root)
        (url,) = get(client, f"datasets/{dataset['id']}/download?extension=csv").json()["download_urls"]
        folder.rename(tmp_path / "away")
        assert get(client, "health/ready", 503).json()["store"] == "failed"
        folder.write_text("not a folder")
        assert get(client, "health/ready", 503).json()["store"] == "failed"
        refused = get(client, url, 503)
        assert (refused.headers["retry-after"], "LUMIGATOR_STORE" in refused.json()["hint"]) == ("5", True)
        uploaded(client, CSV + "More.,More,p\n", code=503)
        folder.unlink()
        (tmp_path / "away").rename(folder)
        assert get(client, "health/ready").json()["store"] == "ok"
        assert get(client, url).text == CSV


def test_every_example_of_the_description_is_one(client) -> None:
    document = client.app.openapi()
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        model = getattr(api, name, None)
        if model is not None and "examples" in schema:
            model.model_validate(schema["examples"][0])
    assert set(EXAMPLES) <= set(schemas)
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for schema in (each["schema"] for body in bodies for each in body.get("content", {}).values()):
                name = schema.get("items", schema).get("$ref", "").removeprefix("#/components/schemas/")
                assert not name or name.startswith("Body_") or schemas[name]["examples"], (verb, path, name)


def test_a_mistake_of_ours_is_a_problem_without_its_words(client, services, monkeypatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("secret words")

    monkeypatch.setattr(services.ws.datasets, "list", broken)
    answer = get(client, "datasets", 500)
    assert "secret words" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_request_id_of_a_proxy_is_kept_where_it_is_harmless(client) -> None:
    assert client.get(f"{API}/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get(f"{API}/health", headers={"X-Request-ID": "a b\t"}).headers["x-request-id"] != "a b\t"
