"""The names of all objects in the store, and of temporary folders. Other modules take them from here."""

from __future__ import annotations

import os
import re
import unicodedata

from lumigator_nb.specs import MetricSpec, Step

# The beginning of a temporary folder's name, and the id of the process that made it.
TEMPORARY = re.compile(r"lumigator-(?:upload|spool|look|drop|export|mlflow)-(\d+)-")


def temporary(kind: str) -> str:
    """Return the beginning of a temporary folder's name.

    It contains the process id, so that `gc` can tell a killed process's folder from one in use.
    """
    return f"lumigator-{kind}-{os.getpid()}-"


def dataset_folder(dataset_id: str) -> str:
    return f"datasets/{dataset_id}"


def examples(dataset_id: str) -> str:
    """The normalised Parquet file."""
    return f"{dataset_folder(dataset_id)}/data.parquet"


def original(dataset_id: str, filename: str) -> str:
    """The bytes as uploaded, under a safe name."""
    return f"{dataset_folder(dataset_id)}/original/{safe_filename(filename)}"


def workflow_folder(workflow_id: str) -> str:
    return f"workflows/{workflow_id}"


def spec(workflow_id: str) -> str:
    return f"{workflow_folder(workflow_id)}/spec.json"


def step_folder(workflow_id: str, step: Step) -> str:
    return f"{workflow_folder(workflow_id)}/{step}"


def part(workflow_id: str, step: Step, index: int) -> str:
    """The file of shard `index` of a step: predictions, or scores."""
    return f"{step_folder(workflow_id, step)}/part-{index:05d}.parquet"


def scores_folder(workflow_id: str, metric: MetricSpec) -> str:
    """The folder of one metric: its scores, shard by shard, and its result."""
    return f"{step_folder(workflow_id, Step.EVALUATION)}/{metric.key}"


def scores_part(workflow_id: str, metric: MetricSpec, index: int) -> str:
    return f"{scores_folder(workflow_id, metric)}/part-{index:05d}.parquet"


def metric_result(workflow_id: str, metric: MetricSpec) -> str:
    return f"{scores_folder(workflow_id, metric)}/result.json"


def progress(workflow_id: str, step: Step) -> str:
    return f"{step_folder(workflow_id, step)}/progress.json"


def result(workflow_id: str, step: Step) -> str:
    return f"{step_folder(workflow_id, step)}/result.json"


ENDED = "ended"


def ended(workflow_id: str, step: Step) -> str:
    """An empty marker: this step has a result. It is removed once the result is in the database.

    All markers are in one folder, so that a single listing finds the new results of thousands of workflows.
    """
    return f"{ENDED}/{workflow_id}.{step}"


# The price list and the catalogue that `ws.models.refresh` took over, each with its origin.
PRICES = "catalogue/prices.json"
CATALOGUE = "catalogue/models.json"

QUEUE = "queue"


def waiting(submission_id: str) -> str:
    """A queued submission: what Ray receives when its turn comes."""
    return f"{QUEUE}/{submission_id}.json"


def ending(dispatcher: str) -> str:
    """An empty marker: this dispatcher found an empty queue, and ends unless it finds an entry at its last look."""
    return f"{QUEUE}/{dispatcher}.ending"


def answers(fingerprint: str) -> str:
    """The folder of one model's answers, shared by all workflows."""
    return f"predictions/{fingerprint}"


def own_answers(workflow_id: str, fingerprint: str | None = None) -> str:
    """The folder of a workflow's answers that no other workflow may use; with a fingerprint, of one of its models."""
    return f"{step_folder(workflow_id, Step.INFERENCE)}/answers{'' if fingerprint is None else f'-{fingerprint}'}"


def sealed_keys(workflow_id: str) -> str:
    """The API keys of a workflow, encrypted; removed when it ends."""
    return f"{workflow_folder(workflow_id)}/keys.sealed"


def batches(workflow_id: str) -> str:
    """The batches that a provider's batch service has accepted."""
    return f"{step_folder(workflow_id, Step.INFERENCE)}/batches.json"


def model_details(workflow_id: str) -> str:
    """Details of the model that answered, such as its revision."""
    return f"{step_folder(workflow_id, Step.INFERENCE)}/model.json"


def log(workflow_id: str, attempt: int) -> str:
    return f"{workflow_folder(workflow_id)}/log-{attempt}.txt"


def filename_of(name: str) -> str:
    """Return a safe filename for a dataset's or experiment's name, which may contain slashes."""
    return safe_filename(re.sub(r"[/\\]", "_", name))


def safe_filename(filename: str) -> str:
    """Return a name of letters, digits, ``.``, ``_`` and ``-`` without folders, at most 100 characters long.

    The end of a long name is kept, as the extension is there.
    """
    # A leading dot would hide the file, and ".." would be the parent folder.
    base = re.split(r"[/\\]", filename)[-1]
    ascii_name = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_name).lstrip("._")
    return cleaned[-100:].lstrip("._") or "upload"
