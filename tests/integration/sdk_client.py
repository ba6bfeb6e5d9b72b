"""``python sdk_client.py HOST RAY_HOST MODEL``: every method of Lumigator's published SDK, against a running server.

Runs in an environment that holds lumigator-sdk and lumigator-schemas and nothing of this project.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from pathlib import Path

import requests
from loguru import logger
from lumigator_schemas.datasets import DatasetFormat
from lumigator_schemas.experiments import ExperimentCreate
from lumigator_schemas.jobs import (
    JobAnnotateConfig,
    JobCreate,
    JobEvalConfig,
    JobInferenceConfig,
    JobResultObject,
    JobStatus,
    JobType,
)
from lumigator_schemas.secrets import SecretUploadRequest
from lumigator_schemas.workflows import WorkflowCreateRequest, WorkflowStatus
from lumigator_sdk.lumigator import LumigatorClient

ROWS = 4
TEXT = "{0}: The heating in room {1} is broken.\n{0}: I call the plumber this afternoon, and we move until Thursday."
GENERATION = {"max_new_tokens": 12, "temperature": 0.0, "top_p": 1.0}


def main() -> None:
    host, ray_host, model = sys.argv[1:]
    provider, _, name = model.partition("/")
    logger.remove()
    assert importlib.util.find_spec("lumigator_nb") is None
    client = LumigatorClient(host, ray_host=ray_host)
    assert client.health.healthcheck().ok()
    dataset = uploaded(client)
    answered = inference(client, dataset.id, provider, name)
    annotation(client, dataset.id, provider, name)
    evaluation(client, answered.id)
    experiment = compared(client, dataset.id, provider, name)
    jobs(client)
    secrets(client.settings.secrets)
    models(client.models)
    deleted(client, dataset.id, answered.id, experiment)
    print("every method did what it says")


def uploaded(client):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rooms.csv"
        rows = "".join(f'"{TEXT.format("Nora", n)}","Room {n} is cold."\n' for n in range(ROWS))
        path.write_text("examples,ground_truth\n" + rows)
        with path.open("rb") as file:
            dataset = client.datasets.create_dataset(file, DatasetFormat.JOB)
    assert dataset.filename == "rooms.csv"
    assert dataset.ground_truth
    assert client.datasets.get_dataset(dataset.id) == dataset
    assert dataset == client.datasets.get_datasets().items[-1]
    link = client.datasets.get_dataset_link(dataset.id, "csv")
    (url,) = link.download_urls
    assert requests.get(url, timeout=600).text.startswith("examples,ground_truth\n")
    assert len(client.datasets.get_dataset_link(dataset.id).download_urls) == 4
    return dataset


def inference(client, dataset, provider, name):
    config = JobInferenceConfig(provider=provider, model=name, store_to_dataset=True, generation_config=GENERATION)
    job = client.jobs.create_job(JobCreate(name="answers", dataset=dataset, job_config=config))
    assert job.status in (JobStatus.CREATED, JobStatus.PENDING)
    assert client.jobs.wait_for_job(job.id, poll_wait=1)["status"] == "SUCCEEDED"
    found = client.jobs.get_job(job.id)
    assert (found.status, found.job_type, found.submission_id) == (JobStatus.SUCCEEDED, JobType.INFERENCE, str(job.id))
    assert (found.metadata["job_type"], found.config["dataset"]["name"]) == ("inference", "rooms.csv")
    assert client.jobs.get_job_result(job.id).job_id == job.id
    result = downloaded(client.jobs.get_job_download(job.id).download_url)
    assert len(result.artifacts["predictions"]) == ROWS
    assert all(result.artifacts["predictions"])
    made = client.jobs.get_job_dataset(job.id)
    assert made.run_id == job.id
    return made


def annotation(client, dataset, provider, name):
    config = JobAnnotateConfig(provider=provider, model=name, generation_config=GENERATION)
    job = client.jobs.create_job(JobCreate(name="truth", dataset=dataset, max_samples=2, job_config=config))
    assert client.jobs.wait_for_job(job.id, poll_wait=1)["status"] == "SUCCEEDED"
    result = downloaded(client.jobs.get_job_download(job.id).download_url)
    assert [len(result.artifacts["ground_truth"]), result.artifacts["predictions"]] == [2, None]
    made = client.jobs.get_job_dataset(job.id)
    assert (made.generated, made.generated_by, made.ground_truth) == (True, name, True)


def evaluation(client, dataset):
    config = JobEvalConfig(metrics=["rouge", "meteor"])
    job = client.jobs.create_job(JobCreate(name="scores", dataset=dataset, job_config=config))
    assert client.jobs.wait_for_job(job.id, poll_wait=1)["status"] == "SUCCEEDED"
    result = downloaded(client.jobs.get_job_download(job.id).download_url)
    assert set(result.metrics) == {"rouge", "meteor"}
    assert len(result.metrics["rouge"]["rouge1"]) == ROWS


def compared(client, dataset, provider, name):
    experiment = client.experiments.create_experiment(ExperimentCreate(name="rooms", dataset=dataset))
    common = {"experiment_id": experiment.id, "metrics": ["rouge"], "generation_config": GENERATION}
    asked = (("the model", provider, name), ("the first sentence", "baseline", "lead-1"))
    workflows = [
        client.workflows.create_workflow(WorkflowCreateRequest(name=label, provider=whose, model=model, **common))
        for label, whose, model in asked
    ]
    for workflow in workflows:
        deadline = time.monotonic() + 600
        while (found := client.workflows.get_workflow(workflow.id)).status not in (
            WorkflowStatus.SUCCEEDED, WorkflowStatus.FAILED,
        ):  # fmt: skip
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert found.status is WorkflowStatus.SUCCEEDED, found
        assert 0 <= found.metrics["rouge_rougeL_mean"] <= 1
        assert [len(found.jobs), found.experiment_id] == [2, experiment.id]
        assert {"name": "ray_job_id", "value": str(found.jobs[0].id)} in found.jobs[0].parameters
        result = downloaded(found.artifacts_download_url)
        assert len(result.metrics["rouge"]["rougeL"]) == len(result.artifacts["predictions"]) == ROWS
        assert "ended: succeeded" in client.workflows.get_workflow_logs(workflow.id).logs
    shown = client.experiments.get_experiment(experiment.id)
    assert {each.name for each in shown.workflows} == {"the model", "the first sentence"}
    assert client.experiments.get_experiments().total == 1
    # The SDK's own delete_workflow hands its client an argument that this does not take.
    error = raised(TypeError, client.workflows.delete_workflow, workflows[0].id)
    assert "params" in str(error)
    return experiment.id


def jobs(client):
    found = client.jobs.get_jobs()
    assert found.total == len(found.items) == 7
    assert all(each.status is JobStatus.SUCCEEDED for each in found.items)
    counts = {kind: client.jobs.get_jobs_per_type(kind).total for kind in JobType}
    assert counts == {JobType.INFERENCE: 3, JobType.EVALUATION: 3, JobType.ANNOTATION: 1}


def secrets(found):
    assert found.list_secrets() == []
    assert found.upload_secret("my_key", SecretUploadRequest(value="sk-0123456789", description="mine"))
    assert found.upload_api_key(found.APIKey.MISTRAL, "sk-9876543210")
    assert found.upload_api_key(found.APIKey.MISTRAL, "sk-9876543211")
    assert [each.name for each in found.list_secrets()] == ["mistral_api_key", "my_key"]
    assert [each.name for each in found.list_api_keys()] == ["mistral_api_key"]
    assert found.is_api_key_configured(found.APIKey.MISTRAL)
    assert found.is_secret_configured("MY_KEY")
    assert found.delete_secret("my_key")
    assert found.delete_api_key(found.APIKey.MISTRAL)
    assert found.list_secrets() == []


def models(found):
    everything, some = found.get_suggested_models(), found.get_suggested_models(["summarization", "translation"])
    assert 0 < some.total == len(some.items) <= everything.total


def deleted(client, dataset, answered, experiment):
    client.experiments.delete_experiment(experiment)
    assert client.experiments.get_experiments().total == 0
    before = client.datasets.get_datasets().total
    free = client.jobs.get_job_dataset(client.jobs.get_jobs_per_type(JobType.ANNOTATION).items[0].id)
    client.datasets.delete_dataset(free.id)
    assert client.datasets.get_datasets().total == before - 1
    for used in (dataset, answered):
        assert raised(requests.HTTPError, client.datasets.delete_dataset, used).response.status_code == 409


def raised(kind, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"{call.__name__} did not fail")


def downloaded(url):
    answer = requests.get(url, timeout=600)
    answer.raise_for_status()
    return JobResultObject.model_validate(answer.json())


main()
