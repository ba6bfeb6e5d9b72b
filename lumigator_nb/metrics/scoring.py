"""``lm.score``: scoring as a plain function, without a workspace or a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.metrics.base import Metric, References, Scores
from lumigator_nb.metrics.judges.judge import Judging
from lumigator_nb.metrics.judges.jury import JuryMetric
from lumigator_nb.metrics.kernels import parallel
from lumigator_nb.metrics.registry import check, create, localized, parse
from lumigator_nb.specs import MetricSpec, Task, language_code

if TYPE_CHECKING:
    import pandas as pd

Texts = Sequence[str | None]
REASON_SUFFIX = ".reason"
DEFAULT_METRICS = ("rouge", "bleu", "chrf")


def score(
    predictions: Texts | Mapping[str, Texts],
    ground_truth: Sequence[References] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metadata: pd.DataFrame | None = None,
    metrics: Any = DEFAULT_METRICS,
    language: str | None = None,
    task: Task | None = None,
) -> pd.DataFrame:
    """Score texts, without a workspace or a cluster.

    Args:
        predictions: n texts; None (or NaN, as pandas writes it) for a missing one. An empty text is an answer. Or a
            mapping of model names to n texts each: scoring the models together computes what depends on the ground
            truth only once.
        ground_truth: n texts, or n lists of several references; most metrics need it.
        examples: n inputs, for metrics that use them: judges, the compression of "length".
        metadata: (n, columns) further columns, for functions as metrics.
        metrics: one or a list of: names, :class:`MetricSpec` for one with options, :class:`Judge`, functions decorated
            with ``@metric``.
        language: of predictions and ground truth, by code or name. It chooses BERTScore's model, METEOR's synonyms and
            the tokenizer of BLEU and ROUGE; a metric that does not support it is refused.
        task: the task that the models did, such as ``lm.Summarization()``. Judges are told, and labels come from it.

    Returns:
        One row per prediction and one column per score, NaN where a row cannot be scored; judges add their reasons
        as ``<score>.reason``. For a mapping the first column is `model`, and each model's rows follow those of another.
        In ``attrs``: "overall", the values over all rows (by model, for a mapping); "signatures", by metric, every
        setting that influences the scores; "notes", by metric, caveats; "unscored", the number of rows without a score,
        by score and reason; "errors", by metric, why it could not be computed at all (a warning says so too).

    Raises:
        InvalidInputError: the lengths differ, a value is not a text, or two metrics report the same score.
        UnknownMetricError: there is no such metric.
        MissingFieldsError: a metric needs ground truth, or a column that is not in `metadata`.
        LumigatorError: no metric could be computed; the error of the first one.

    Examples:
        >>> scores = lm.score(["The bus is late.", None], ["The bus came late.", "We walk."], metrics=["rouge", "chrf"])
        >>> scores[["rougeL", "chrf"]].round(2)
           rougeL   chrf
        0    0.75  46.49
        1     NaN    NaN
        >>> scores.attrs["unscored"]["rougeL"]
        {'no prediction': 1}
    """
    by_model = predictions if isinstance(predictions, Mapping) else {"": predictions}
    scoring = score_all(
        by_model, ground_truth, examples=examples, metadata=metadata, metrics=metrics, language=language, task=task
    )
    frame = _frame(scoring.scores, named=isinstance(predictions, Mapping))
    frame.attrs["signatures"] = scoring.signatures
    frame.attrs["notes"] = {metric.title: metric.note for metric in scoring.computed if metric.note}
    frame.attrs["errors"] = {title: str(error) for title, error in scoring.errors.items()}
    return frame


@dataclass(frozen=True)
class Scoring:
    """Scores of several models by several metrics.

    Attributes:
        metrics: what was to be computed, with the instances that did it.
        scores: per model, all scores of the metrics that could be computed.
        errors: by title of the metric that could not be computed.
    """

    metrics: Sequence[tuple[MetricSpec, Metric]]
    scores: Mapping[str, Sequence[Scores]]
    errors: Mapping[str, LumigatorError]

    @property
    def computed(self) -> list[Metric]:
        """The metrics that could be computed."""
        return [metric for _, metric in self.metrics if metric.title not in self.errors]

    @property
    def signatures(self) -> dict[str, str]:
        """By title, every setting that influences the scores."""
        return {metric.title: metric.signature for metric in self.computed}


def score_all(
    predictions: Mapping[str, Texts],
    ground_truth: Sequence[References] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metadata: pd.DataFrame | None = None,
    metrics: Any = DEFAULT_METRICS,
    language: str | None = None,
    task: Task | None = None,
) -> Scoring:
    """Score the texts of several models; arguments and errors as of :func:`score`, which makes a table of it."""
    if not predictions:
        raise InvalidInputError("there are no predictions", "give the texts of at least one model")
    answers = {model: _texts("predictions", texts) for model, texts in predictions.items()}
    n = len(next(iter(answers.values())))
    columns = [] if metadata is None else [str(name) for name in metadata.columns]
    specs = _checked_metrics(metrics, ground_truth is not None, language, columns, task)
    truth = _references(ground_truth, n)
    inputs = [""] * n
    if examples is not None:
        inputs = [text or "" for text in _texts("examples", examples)]
        _same_length("examples", len(inputs), n)
    others: list[dict[str, Any]] | None = None
    if metadata is not None:
        _same_length("rows of metadata", len(metadata), n)
        others = [{str(name): value for name, value in row.items()} for row in metadata.to_dict("records")]
    for model, texts in answers.items():
        _same_length(f"predictions of {model!r}", len(texts), n)
    # One instance per metric for all models: judges count their cost, and models are loaded once.
    chosen = [(spec, create(spec)) for spec in specs]
    for _, metric in chosen:
        if task is not None and isinstance(metric, (Judging, JuryMetric)):
            metric.set_task(task)
    scores, errors = _score_all(chosen, answers, truth, inputs, others)
    if len(errors) == len(chosen):
        raise next(iter(errors.values()))
    for title, error in errors.items():
        warnings.warn(f"metric {title!r} could not be computed: {error}", stacklevel=3)
    return Scoring(chosen, scores, errors)


def _checked_metrics(
    metrics: Any, has_ground_truth: bool, language: str | None, columns: Sequence[str], task: Task | None
) -> list[MetricSpec]:
    specs = [parse(metric) for metric in (metrics if isinstance(metrics, (list, tuple, set)) else [metrics])]
    if not specs:
        raise InvalidInputError("there are no metrics", "name at least one: metrics=['rouge']")
    code = None if language is None else language_code(language)
    specs = [localized(spec, code, task) for spec in specs]
    check(specs, has_ground_truth=has_ground_truth, language=code, columns=columns)
    return specs


def _score_all(
    chosen: Sequence[tuple[MetricSpec, Metric]],
    answers: Mapping[str, list[str | None]],
    truth: list[References],
    inputs: list[str],
    others: list[dict[str, Any]] | None,
) -> tuple[dict[str, list[Scores]], dict[str, LumigatorError]]:
    """Return the scores by model, and the errors by title of the metric that could not be computed."""
    scores: dict[str, list[Scores]] = {model: [] for model in answers}
    errors: dict[str, LumigatorError] = {}
    for model, texts in answers.items():
        for spec, metric in chosen:
            if metric.title in errors:
                continue
            try:
                scores[model] += parallel.score(spec, metric, texts, truth, inputs, others)
            except LumigatorError as error:  # one metric that fails must not cost the scores of the others
                errors[metric.title] = error
    return scores, errors


def _frame(scores: Mapping[str, Sequence[Scores]], *, named: bool) -> pd.DataFrame:
    """Return the rows of all models, with "overall" and "unscored" in its attrs; `named` adds the column `model`."""
    import pandas as pd

    frames, overall, unscored = [], {}, {}
    for model, of_model in scores.items():
        columns: dict[str, Any] = {}
        for score in of_model:
            columns[score.info.name] = score.values
            if score.explained:
                columns[score.info.name + REASON_SUFFIX] = list(score.reasons)
        frames.append(pd.DataFrame(columns))
        if named:
            frames[-1].insert(0, "model", model)
        overall[model] = {score.info.name: score.overall for score in of_model}
        unscored[model] = {score.info.name: dict(score.unscored) for score in of_model}
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["overall"] = overall if named else overall[""]
    frame.attrs["unscored"] = unscored if named else unscored[""]
    return frame


def _references(ground_truth: Sequence[References] | None, n: int) -> list[References]:
    """Return n references: a text, a tuple of texts, or None."""
    if ground_truth is None:
        return [None] * n
    if isinstance(ground_truth, str):
        raise InvalidInputError("ground_truth is a single text", "put it into a list: ground_truth=[…]")
    references: list[References] = []
    for row, value in enumerate(ground_truth):
        if isinstance(value, (list, tuple)):
            texts = [_text("ground_truth", row, item) for item in value]
            references.append(tuple(text for text in texts if text is not None))
        else:
            references.append(_text("ground_truth", row, value))
    _same_length("ground_truth", len(references), n)
    return references


def _same_length(name: str, length: int, n: int) -> None:
    if length != n:
        raise InvalidInputError(f"{n} predictions, but {length} {name}", "give one for each prediction, in its order")


def _texts(name: str, texts: Any) -> list[str | None]:
    if isinstance(texts, str):
        raise InvalidInputError(f"{name} is a single text", f"put it into a list: {name}=[…]")
    return [_text(name, row, value) for row, value in enumerate(texts)]


def _text(name: str, row: int, value: Any) -> str | None:
    import pandas as pd

    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    raise InvalidInputError(f"{name}, row {row}: {value!r} is not a text", "turn numbers into text with str()")
