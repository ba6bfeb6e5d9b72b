"""Comparisons in an MLflow server: one run per workflow, found again by the workflow's id."""

from __future__ import annotations

import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lumigator_nb._version import __version__
from lumigator_nb.database.records import Workflow
from lumigator_nb.errors import ConfigurationError, InvalidInputError, MissingExtraError, UnavailableError
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.specs import PACE, digest
from lumigator_nb.storage import layout

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

WORKFLOW_TAG = "lumigator.workflow_id"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
ANSWERS_WITHIN_S = 10
# What MLflow 3 takes at most.
_LONGEST_PARAM, _LONGEST_TAG = 6000, 8000


def to_mlflow(
    comparison: Comparison, *, tracking_uri: str | None = None, experiment_name: str | None = None
) -> dict[str, str]:
    """Log a comparison to MLflow, one run per workflow; what was logged before is brought up to date.

    Args:
        comparison: what is logged: its models, scores, costs, and its report.
        tracking_uri: the server's address; default MLFLOW_TRACKING_URI of the environment.
        experiment_name: MLflow's experiment, made where it is not there; default the experiment's name.

    Returns:
        The id of the run of each model, by its label.

    Raises:
        MissingExtraError: MLflow's client is not installed.
        ConfigurationError: no server is named.
        UnavailableError: nothing answers at the address, or it is no MLflow server.
        InvalidInputError: MLflow does not take what it is given; its experiment was deleted, for example.
    """
    client = _connected(tracking_uri)
    with _explained(client.tracking_uri), TemporaryDirectory(prefix=layout.temporary("mlflow")) as folder:
        experiment_id = _experiment(client, experiment_name or comparison.experiment.name)
        report = comparison.export(Path(folder) / "report.html")
        rows, costs = comparison.to_pandas(), comparison.costs().set_index("model")
        found = {}
        for workflow in comparison.workflows:
            run = _run(client, experiment_id, workflow)
            table = Path(folder) / "predictions.csv"
            rows[rows["model"] == workflow.label].to_csv(table, index=False)
            _log(client, run, comparison, workflow, {**_scores(comparison, workflow), **costs.loc[workflow.label]})
            for artifact in (report, table):
                client.log_artifact(run.info.run_id, str(artifact))
            client.set_terminated(run.info.run_id, "FINISHED", _milliseconds(workflow.finished_at))
            found[workflow.label] = str(run.info.run_id)
    return found


def _connected(tracking_uri: str | None) -> MlflowClient:
    uri = tracking_uri or os.environ.get(URI_VARIABLE)
    if not uri:
        raise ConfigurationError(
            "no MLflow server is named", f"tracking_uri='http://host:5000', or {URI_VARIABLE} in the environment"
        )
    # Nobody who logs to a server of their own expects the client to report to its makers.
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
    """Ask once: the client would try for minutes before it gives up."""
    hint = f"start it (mlflow server), or correct tracking_uri or {URI_VARIABLE}"
    shown = _shown(uri)
    try:
        with urllib.request.urlopen(f"{shown}/health", timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310 - http(s) only
            healthy = answer.read(100).strip() == b"OK"
    except urllib.error.HTTPError as error:
        # A server that wants to know who asks is there; the client knows the credentials.
        healthy = error.code in (401, 403)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"no MLflow server answers at {shown}: {reason}", hint) from None
    if not healthy:
        raise UnavailableError(f"what answers at {shown} is no MLflow server", hint)


def _shown(uri: str) -> str:
    """The address without the password that it may hold."""
    return re.sub(r"://[^/@]*@", "://", uri)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        told, shown = str(error).splitlines()[0], _shown(uri)
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE") or "Max retries" in told:
            raise UnavailableError(f"MLflow at {shown} failed: {told}", "look at the server's log") from error
        raise InvalidInputError(f"MLflow at {shown} refuses: {told}", "correct the name, or the credentials") from error


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name))
    if found.lifecycle_stage != "active":
        raise InvalidInputError(
            f"the experiment {name!r} was deleted in MLflow", "restore it there, or give another experiment_name="
        )
    return str(found.experiment_id)


def _run(client: MlflowClient, experiment_id: str, workflow: Workflow) -> Run:
    known = client.search_runs([experiment_id], f"tags.`{WORKFLOW_TAG}` = '{workflow.id}'", max_results=1)
    if known:
        return client.get_run(known[0].info.run_id)
    return client.create_run(
        experiment_id,
        start_time=_milliseconds(workflow.created_at),
        tags={WORKFLOW_TAG: workflow.id},
        run_name=workflow.label,
    )


def _log(
    client: MlflowClient, run: Run, comparison: Comparison, workflow: Workflow, numbers: Mapping[str, Any]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    # A parameter is written once and for all; ours say what made the answers, and that does not change.
    params = {
        name: text[:_LONGEST_PARAM]
        for name, text in _params(comparison, workflow).items()
        if name not in run.data.params
    }
    # MLflow keeps all values of a metric, so that the same one again would be another point of its history.
    values = {name: float(value) for name, value in numbers.items() if _is_number(value)}
    changed = {name: value for name, value in values.items() if run.data.metrics.get(name) != value}
    at = int(time.time() * 1000)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, at, 0) for name, value in changed.items()],
        params=[Param(name, text[:_LONGEST_PARAM]) for name, text in params.items()],
        tags=[RunTag(name, text[:_LONGEST_TAG]) for name, text in _tags(comparison, workflow).items()],
    )


def _params(comparison: Comparison, workflow: Workflow) -> dict[str, str]:
    model, task, dataset = workflow.model, comparison.experiment.task, comparison.dataset
    settings = {**model.generation.model_dump(mode="json"), **model.options}
    known = {
        "model": f"{model.provider}/{model.name}",
        "base_url": _shown(model.base_url) if model.base_url else None,
        "repeat": model.repeat if model.repeat > 1 else None,
        **{name: value for name, value in settings.items() if name not in PACE},
        "task": task.kind,
        "task.languages": f"{task.source} to {task.target}" if task.target else None,
        "task.prompt": task.instruction if task.kind != "text_generation" or task.prompt else None,
        "task.hash": digest(task.model_dump(mode="json")),
        "dataset": dataset.name,
        "dataset.version": dataset.version,
        "dataset.sha256": dataset.content_hash,
        "dataset.examples": dataset.n_examples,
    }
    return {_name(name): _text(value) for name, value in known.items() if value is not None}


def _tags(comparison: Comparison, workflow: Workflow) -> dict[str, str]:
    details = [job.details for job in comparison.jobs if job.workflow_id == workflow.id]
    signatures = {name: text for each in details for name, text in each.get("signatures", {}).items()}
    known = {
        "lumigator.experiment_id": comparison.experiment.id,
        "lumigator.experiment": comparison.experiment.name,
        "lumigator.dataset_id": comparison.dataset.id,
        "lumigator.version": __version__,
        "lumigator.fingerprint": workflow.fingerprint,
        "lumigator.main_score": comparison.main_score,
        **{f"signature.{_name(name)}": text for name, text in signatures.items()},
        # Earlier attempts may be more than a tag takes.
        **{f"provenance.{_name(name)}": value for name, value in workflow.provenance.items() if name != "earlier"},
    }
    return {name: _text(value) for name, value in known.items()}


def _scores(comparison: Comparison, workflow: Workflow) -> dict[str, Any]:
    summary = comparison.summary()
    own = summary[summary["model"] == workflow.label].set_index("score")
    found = {_name(score): row["overall"] for score, row in own.iterrows()}
    ends = {f"{_name(score)}.{end}": row[end] for score, row in own.iterrows() for end in ("low", "high")}
    return {**found, **ends, "examples": int(own["n"].max())}


def _name(name: object) -> str:
    """As MLflow takes it."""
    return re.sub(r"[^\w.\-/ ]", "_", str(name))[:200]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
