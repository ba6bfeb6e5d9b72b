"""The steps of a workflow, free of Ray: each works shard by shard, and skips what is finished."""

from __future__ import annotations

import logging
import platform
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

from lumigator_nb import metrics, models
from lumigator_nb._version import __version__
from lumigator_nb.engine import evaluation, inference, process_setup
from lumigator_nb.engine.evaluation import Scored
from lumigator_nb.errors import BudgetReachedError, ExecutionError, LumigatorError
from lumigator_nb.security.redaction import Redactor, redactor
from lumigator_nb.specs import MetricSpec, Model, Progress, Status, Step, StepResult, WorkflowSpec, now
from lumigator_nb.storage import results
from lumigator_nb.storage.results import ProgressWriter
from lumigator_nb.storage.store import Store

log = logging.getLogger(__name__)

Ended = Literal[Status.SUCCEEDED, Status.FAILED, Status.STOPPED]

# Packages whose versions every result records.
_ALWAYS = ("ray", "numpy", "pyarrow")


class Crew(Protocol):
    """A pool of processes that share a workflow, with the same results as one process alone."""

    def infer(self, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor) -> dict[str, Any]:
        """As :func:`lumigator_nb.engine.inference.infer`."""

    def score(
        self, asked: MetricSpec, spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor
    ) -> Scored:
        """As :func:`lumigator_nb.engine.evaluation.score_here`."""


@dataclass(frozen=True)
class _Outcome:
    n_failed: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    status: Ended = Status.SUCCEEDED
    error: str | None = None


def execute(
    step: Step,
    spec: WorkflowSpec,
    store: Store,
    redact: Redactor | None = None,
    report: Callable[[Progress], None] | None = None,
    crew: Crew | None = None,
    hung: Callable[[StepResult], None] | None = None,
) -> StepResult:
    """Work through one step and publish its result last; a failure is a result too, never an exception.

    Args:
        redact: takes secrets out of everything that is stored; default those of this process's environment.
        report: called whenever progress is published.
        crew: has several processes do the work; default this one alone.
        hung: called from another thread with the step's result, where its time is up and it does not end.
    """
    redact = redact or redactor()
    started_at = now()

    def ended(outcome: _Outcome) -> StepResult:
        return _result(step, spec, started_at, outcome)

    def give_up(error: ExecutionError) -> None:
        if hung:
            hung(ended(_Outcome(status=Status.FAILED, error=str(error))))

    log.info("%s of %s begins: %d examples", step, spec.model.label, spec.n_examples)
    try:
        with process_setup.bounded(spec.launch.timeout, give_up), ProgressWriter(store, spec, step, report) as progress:
            outcome = _STEPS[step](spec, store, progress, redact, crew)
    except BudgetReachedError as error:
        log.info("stopped: %s", error)
        outcome = _Outcome(status=Status.STOPPED, error=str(error))
    except Exception as error:
        log.exception("%s failed", step)
        trace = {} if isinstance(error, LumigatorError) else {"traceback": redact(traceback.format_exc(limit=-8))}
        message = str(error) if isinstance(error, LumigatorError) else f"{type(error).__name__}: {error}"
        outcome = _Outcome(details=trace, status=Status.FAILED, error=redact(message))
    result = ended(outcome)
    results.write_result(store, spec.workflow_id, result)
    log.info("%s ended: %s", step, result.status)
    return result


def _result(step: Step, spec: WorkflowSpec, started_at: datetime, outcome: _Outcome) -> StepResult:
    return StepResult(
        step=step,
        attempt=spec.attempt,
        status=outcome.status,
        started_at=started_at,
        finished_at=now(),
        n_examples=spec.n_examples,
        n_failed=outcome.n_failed,
        error=outcome.error,
        scores=outcome.scores,
        details=without_home({**outcome.details, **_surroundings(step, spec)}),
    )


def versions(asked: Iterable[Model], specs: Sequence[MetricSpec]) -> dict[str, str]:
    """Return the versions of the packages by which models answer and metrics score, as far as they are installed."""
    names = list(_ALWAYS)
    for model in [*asked, *metrics.models_of(specs)]:
        names += models.packages_of(model)
    names += [name for spec in specs for name in metrics.class_of(spec).packages]
    found = {}
    for name in dict.fromkeys(names):
        with suppress(PackageNotFoundError, ValueError):  # ValueError: an empty name
            found[name] = version(name)
    return found


def without_home(value: Any) -> Any:
    """Write this user's home folder as ~ wherever texts name it, such as a model that lies there."""
    try:
        home = str(Path.home())
    except RuntimeError:  # a user without a name and HOME, as in some containers
        return value
    return _replaced(value, re.compile(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])")) if len(home) > 1 else value


def _replaced(value: Any, home: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return home.sub("~", value)
    if isinstance(value, Mapping):
        return {name: _replaced(inner, home) for name, inner in value.items()}
    return [_replaced(inner, home) for inner in value] if isinstance(value, list) else value


def _surroundings(step: Step, spec: WorkflowSpec) -> dict[str, Any]:
    infers = step is Step.INFERENCE
    return {
        "lumigator_nb": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions([spec.model], ()) if infers else versions((), spec.metrics),
    }


def _infer(spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor, crew: Crew | None) -> _Outcome:
    finished = len(results.finished_shards(store, spec.workflow_id, Step.INFERENCE))
    used = (crew.infer if crew else inference.infer)(spec, store, progress, redact)
    tally = results.tally(store, spec.workflow_id)
    n_failed = tally.errors.total()
    log.info("%d of %d examples answered", tally.answered, spec.n_examples)
    return _Outcome(
        n_failed=n_failed,
        details={"shards_reused": finished, **used, **tally.details},
        status=Status.FAILED if _too_many(n_failed, spec) else Status.SUCCEEDED,
        error=_unanswered(n_failed, spec, tally.errors) if _too_many(n_failed, spec) else None,
    )


def _too_many(n_failed: int, spec: WorkflowSpec) -> bool:
    return n_failed > 0 and (n_failed == spec.n_examples or n_failed > spec.launch.max_failed * spec.n_examples)


def _unanswered(n_failed: int, spec: WorkflowSpec, errors: Counter[str]) -> str:
    commonest = f"the commonest error: {errors.most_common(1)[0][0]}"
    if n_failed == spec.n_examples:
        return f"no example was answered; {commonest}"
    allowed = f"max_failed={spec.launch.max_failed:g} allows {int(spec.launch.max_failed * spec.n_examples)}"
    return f"{n_failed} of {spec.n_examples} examples have no answer, and {allowed}; {commonest}"


def _evaluate(
    spec: WorkflowSpec, store: Store, progress: ProgressWriter, redact: Redactor, crew: Crew | None
) -> _Outcome:
    metric_results = evaluation.evaluate(spec, store, progress, redact, crew.score if crew else evaluation.score_here)
    failed = {metric.title: metric.error for metric in metric_results if metric.error is not None}
    scores = {name: score for metric in metric_results for name, score in metric.scores.items()}
    costs = [metric.cost for metric in metric_results if metric.cost is not None]
    details: dict[str, Any] = {
        "signatures": {metric.title: metric.signature for metric in metric_results if metric.error is None},
        "means": {name: score.mean for name, score in scores.items() if score.mean is not None},
        "n_scored": {name: score.n_scored for name, score in scores.items()},
        "unscored": {name: score.unscored for name, score in scores.items() if score.unscored},
        "n_empty": max((metric.n_empty for metric in metric_results), default=0),
        "failed_metrics": failed,
        "cost": sum(costs) if costs else None,
    }
    none_left = metric_results and len(failed) == len(metric_results)
    return _Outcome(
        n_failed=max((spec.n_examples - score.n_scored for score in scores.values()), default=0),
        scores={name: score.overall for name, score in scores.items() if score.overall is not None},
        details={name: value for name, value in details.items() if value or name in ("signatures", "n_scored")},
        status=Status.FAILED if none_left else Status.SUCCEEDED,
        error="; ".join(f"{title}: {error}" for title, error in failed.items()) if none_left else None,
    )


_STEPS: dict[Step, Callable[[WorkflowSpec, Store, ProgressWriter, Redactor, Crew | None], _Outcome]] = {
    Step.INFERENCE: _infer,
    Step.EVALUATION: _evaluate,
}
