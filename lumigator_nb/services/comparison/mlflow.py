"""Logging of a comparison to an MLflow server: one run per workflow, found again by the workflow's id."""

from __future__ import annotations

import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lumigator_nb._version import __version__
from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError, UnavailableError
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.data import ComparedModel
from lumigator_nb.specs import PACE, digest
from lumigator_nb.storage import layout

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

WORKFLOW_TAG = "lumigator.workflow_id"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
ANSWERS_WITHIN_S = 10
# MLflow 3's limits, in characters.
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000


def to_mlflow(
    comparison: Comparison, *, tracking_uri: str | None = None, experiment_name: str | None = None
) -> dict[str, str]:
    """Log a comparison to MLflow, one run per workflow; runs that were logged before are updated.

    Args:
        comparison: its models, scores, costs and report are logged.
        tracking_uri: the server's address; default MLFLOW_TRACKING_URI of the environment.
        experiment_name: MLflow's experiment, created if it does not exist; default the experiment's name.

    Returns:
        The id of the run of each model, by the model's label.

    Raises:
        MissingExtraError: MLflow's client is not installed.
        ConfigurationError: no server is named.
        UnavailableError: nothing answers at the address, or it is not an MLflow server.
        InvalidInputError: MLflow refuses the values, for example because its experiment was deleted.
    """
    client = _connect(tracking_uri)
    with _explained(client.tracking_uri), TemporaryDirectory(prefix=layout.temporary("mlflow")) as folder:
        experiment_id = _experiment(client, experiment_name or comparison.experiment.name)
        report = comparison.export(Path(folder) / "report.html")
        rows, costs = comparison.to_pandas(), comparison.costs().set_index("model")
        run_ids = {}
        for workflow in comparison.workflows:
            # The id is in a tag, so that logging again updates the same run.
            query = f"tags.`{WORKFLOW_TAG}` = '{workflow.id}'"
            if runs := client.search_runs([experiment_id], query, max_results=1):
                run = client.get_run(runs[0].info.run_id)
            else:
                run = client.create_run(
                    experiment_id,
                    start_time=_milliseconds(workflow.created_at),
                    tags={WORKFLOW_TAG: workflow.id},
                    run_name=workflow.label,
                )
            table = Path(folder) / "predictions.csv"
            rows[rows["model"] == workflow.label].to_csv(table, index=False)
            _log(client, run, comparison, workflow, {**_scores(comparison, workflow), **costs.loc[workflow.label]})
            for artifact in (report, table):
                client.log_artifact(run.info.run_id, str(artifact))
            client.set_terminated(run.info.run_id, "FINISHED", _milliseconds(workflow.finished_at))
            run_ids[workflow.label] = str(run.info.run_id)
    return run_ids


def _connect(tracking_uri: str | None) -> MlflowClient:
    uri = tracking_uri or os.environ.get(URI_VARIABLE)
    if not uri:
        raise ConfigurationError(
            "no MLflow server is named", f"tracking_uri='http://host:5000', or {URI_VARIABLE} in the environment"
        )
    # By default MLflow's client reports usage to its makers. Must be set before the first import of mlflow.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise MissingExtraError("logging to MLflow", "mlflow") from None
    if uri.startswith(("http://", "https://")):
        _require_server(uri.rstrip("/"))
    with _explained(uri):
        return MlflowClient(tracking_uri=uri)


def _require_server(uri: str) -> None:
    """Raise UnavailableError unless an MLflow server answers. MLflow's client would retry for minutes first."""
    hint = f"start it (mlflow server), or correct tracking_uri or {URI_VARIABLE}"
    address = _without_password(uri)
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310 - http(s) only
            healthy = answer.read(100).strip() == b"OK"
    except urllib.error.HTTPError as error:
        # The server is up and asks for credentials, which MLflow's client has.
        healthy = error.code in (401, 403)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"no MLflow server answers at {address}: {reason}", hint) from None
    if not healthy:
        raise UnavailableError(f"the server at {address} is not an MLflow server", hint)


def _without_password(uri: str) -> str:
    return re.sub(r"://[^/@]*@", "://", uri)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn MLflow's exceptions into errors with hints."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        message, address = str(error).splitlines()[0], _without_password(uri)
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or "Max retries" in message:
            raise UnavailableError(f"MLflow at {address} failed: {message}", "look at the server's log") from error
        hint = "correct the name, or the credentials"
        raise InvalidInputError(f"MLflow at {address} refuses: {message}", hint) from error


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of MLflow's experiment of that name, created if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name))
    if experiment.lifecycle_stage != "active":
        raise InvalidInputError(
            f"the experiment {name!r} was deleted in MLflow", "restore it there, or give another experiment_name="
        )
    return str(experiment.experiment_id)


def _log(
    client: MlflowClient, run: Run, comparison: Comparison, workflow: ComparedModel, numbers: Mapping[str, Any]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    # MLflow never changes a parameter of a run. Ours describe how the answers were made, which does not change either.
    params = {
        name: text[:_LONGEST_PARAM]
        for name, text in _params(comparison, workflow).items()
        if name not in run.data.params
    }
    values = {}
    for name, number in numbers.items():
        with suppress(TypeError, ValueError):
            values[name] = float(number)
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    # MLflow keeps the history of a metric: logging the same value again would add a point to it.
    changed = {name: value for name, value in values.items() if run.data.metrics.get(name) != value}
    at = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, at, 0) for name, value in changed.items()],
        params=[Param(name, text[:_LONGEST_PARAM]) for name, text in params.items()],
        tags=[RunTag(name, text[:_LONGEST_TAG]) for name, text in _tags(comparison, workflow).items()],
    )


def _params(comparison: Comparison, workflow: ComparedModel) -> dict[str, str]:
    model, task, dataset = workflow.model, comparison.experiment.task, comparison.dataset
    of_model: dict[str, Any] = {"model": workflow.label}
    if model is not None:
        settings = {**model.generation.model_dump(mode="json"), **model.options}
        of_model = {
            "model": f"{model.provider}/{model.name}",
            "base_url": _without_password(model.base_url) if model.base_url else None,
            "repeats": workflow.repeats if workflow.repeats > 1 else None,
            **{name: value for name, value in settings.items() if name not in PACE},
        }
    of_task: dict[str, Any] = {}
    if task is not None:
        of_task = {
            "task": task.kind,
            "task.languages": f"{task.source} to {task.target}" if task.target else None,
            "task.prompt": task.instruction if task.kind != "text_generation" or task.prompt else None,
            "task.hash": digest(task.model_dump(mode="json")),
        }
    params = {
        **of_model,
        **of_task,
        "dataset": dataset.name,
        "dataset.version": dataset.version,
        "dataset.sha256": dataset.content_hash,
        "dataset.examples": dataset.n_examples,
    }
    return {_name(name): _text(value) for name, value in params.items() if value is not None}


def _tags(comparison: Comparison, workflow: ComparedModel) -> dict[str, str]:
    signatures = {name: text for step in workflow.steps for name, text in step.details.get("signatures", {}).items()}
    tags = {
        "lumigator.experiment_id": comparison.experiment.id,
        "lumigator.experiment": comparison.experiment.name,
        "lumigator.dataset_id": comparison.dataset.id,
        "lumigator.version": __version__,
        "lumigator.fingerprint": workflow.fingerprint,
        "lumigator.main_score": comparison.main_score,
        **{f"signature.{_name(name)}": text for name, text in signatures.items()},
        # Earlier attempts may be longer than a tag.
        **{f"provenance.{_name(name)}": value for name, value in workflow.provenance.items() if name != "earlier"},
    }
    return {name: _text(value) for name, value in tags.items()}


def _scores(comparison: Comparison, workflow: ComparedModel) -> dict[str, Any]:
    summary = comparison.summary()
    own = summary[summary["model"] == workflow.label].set_index("score")
    scores = {_name(score): row["overall"] for score, row in own.iterrows()}
    bounds = {f"{_name(score)}.{end}": row[end] for score, row in own.iterrows() for end in ("low", "high")}
    return {**scores, **bounds, "examples": int(own["n"].max())}


def _name(name: object) -> str:
    """A name with the characters and the length that MLflow allows."""
    return re.sub(r"[^\w.\-/ ]", "_", str(name))[:200]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
