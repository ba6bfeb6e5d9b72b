"""Scoring as a plain function: no workspace, no cluster."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
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


def score(
    predictions: Texts | Mapping[str, Texts],
    ground_truth: Sequence[References] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metadata: pd.DataFrame | None = None,
    metrics: Any = ("rouge", "bleu", "chrf"),
    language: str | None = None,
    task: Task | None = None,
) -> pd.DataFrame:
    """Score texts, without a workspace or a cluster.

    Args:
        predictions: n texts; None (or NaN, as pandas writes it) where there is none. An empty text is an answer. A
            mapping holds those of several models, which are then scored together: what belongs to the ground truth is
            worked out once.
        ground_truth: n texts, or n lists of several references; needed by most metrics.
        examples: n inputs, for metrics that look at them: judges, the compression of "length".
        metadata: (n, columns) further columns, for metrics of your own.
        metrics: names, :class:`MetricSpec` where one needs options, :class:`Judge`, functions made by ``@metric``; or
            one of these.
        language: of predictions and ground truth, by code or name; where it is known, a metric that cannot score it
            is refused, and BERTScore's model, METEOR's synonyms and the words of BLEU and ROUGE are chosen for it.
        task: what the models were asked to do, such as ``lm.Summarization()``; judges are shown it.

    Returns:
        One row per prediction and one column per score, NaN where a row cannot be scored; judges add their reasons
        as ``<score>.reason``. For a mapping the first column is `model`, and the rows of one follow those of another.
        In ``attrs``: "overall", the values over all rows (by model, for a mapping); "signatures", what makes them
        reproducible; "notes", by metric, what to know of its scores besides; "unscored", how many rows have no score,
        by score and reason; "errors", by metric, of those that could not be computed at all (a warning says so too).

    Raises:
        InvalidInputError: the lengths differ, a value is no text, or two metrics report the same score.
        UnknownMetricError: there is no such metric.
        MissingFieldsError: a metric needs ground truth, or a column that is not in `metadata`.
        LumigatorError: no metric could be computed; with one metric, why.

    Examples:
        >>> scores = lm.score(["The bus is late.", None], ["The bus came late.", "We walk."], metrics=["rouge", "chrf"])
        >>> scores[["rougeL", "chrf"]].round(2)
           rougeL   chrf
        0    0.75  46.49
        1     NaN    NaN
        >>> scores.attrs["unscored"]["rougeL"]
        {'no prediction': 1}
    """
    import pandas as pd

    by_model = predictions if isinstance(predictions, Mapping) else {"": predictions}
    if not by_model:
        raise InvalidInputError("there are no predictions", "give the texts of at least one model")
    answers = {model: _texts("predictions", texts) for model, texts in by_model.items()}
    n = len(next(iter(answers.values())))
    columns = [] if metadata is None else [str(name) for name in metadata.columns]
    specs = _specs(metrics, has_ground_truth=ground_truth is not None, language=language, columns=columns)
    truth = _references(ground_truth, n)
    inputs = [text or "" for text in _aligned("examples", examples, n)]
    others = _metadata(metadata, n)
    for model, texts in answers.items():
        _same_length(f"predictions of {model!r}", len(texts), n)
    chosen = [(spec, create(spec)) for spec in specs]
    for _, metric in chosen:
        if task is not None and isinstance(metric, (Judging, JuryMetric)):
            metric.set_task(task)
    errors: dict[str, LumigatorError] = {}
    found = {model: _score_all(chosen, texts, truth, inputs, others, errors) for model, texts in answers.items()}
    if len(errors) == len(chosen):
        raise next(iter(errors.values()))
    for title, error in errors.items():
        warnings.warn(f"metric {title!r} could not be computed: {error}", stacklevel=2)
    named = isinstance(predictions, Mapping)
    frame = pd.concat([_frame(model if named else None, scores) for model, scores in found.items()], ignore_index=True)
    overall = {model: {each.info.name: each.overall for each in scores} for model, scores in found.items()}
    unscored = {model: {each.info.name: dict(each.unscored) for each in scores} for model, scores in found.items()}
    frame.attrs["overall"] = overall if named else overall[""]
    frame.attrs["unscored"] = unscored if named else unscored[""]
    frame.attrs["signatures"] = {each.title: each.signature for _, each in chosen if each.title not in errors}
    frame.attrs["notes"] = {each.title: each.note for _, each in chosen if each.note and each.title not in errors}
    frame.attrs["errors"] = {title: str(error) for title, error in errors.items()}
    return frame


def _specs(metrics: Any, *, has_ground_truth: bool, language: str | None, columns: Sequence[str]) -> list[MetricSpec]:
    several = metrics if isinstance(metrics, (list, tuple, set)) else [metrics]
    specs: list[MetricSpec] = [parse(metric) for metric in several]
    if not specs:
        raise InvalidInputError("there is no metric", "name at least one: metrics=['rouge']")
    code = None if language is None else language_code(language)
    specs = [localized(spec, code) for spec in specs]
    check(specs, has_ground_truth=has_ground_truth, language=code, columns=columns)
    return specs


def _score_all(
    chosen: Sequence[tuple[MetricSpec, Metric]],
    texts: list[str | None],
    truth: list[References],
    inputs: list[str],
    others: list[dict[str, Any]] | None,
    errors: dict[str, LumigatorError],
) -> list[Scores]:
    found: list[Scores] = []
    for spec, metric in chosen:
        if metric.title in errors:
            continue
        try:
            found += parallel.score(spec, metric, texts, truth, inputs, others)
        except LumigatorError as error:  # what one metric lacks must not cost the scores of the others
            errors[metric.title] = error
    return found


def _frame(model: str | None, scores: Sequence[Scores]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {}
    for each in scores:
        columns[each.info.name] = each.values
        if each.explained:
            columns[each.info.name + REASON_SUFFIX] = list(each.reasons)
    frame = pd.DataFrame(columns)
    if model is not None:
        frame.insert(0, "model", model)
    return frame


def _references(given: Sequence[References] | None, n: int) -> list[References]:
    if given is None:
        return [None] * n
    if isinstance(given, str):
        raise InvalidInputError("ground_truth is a single text", "put it into a list: ground_truth=[…]")
    found = [_one_or_several(row, value) for row, value in enumerate(given)]
    _same_length("ground_truth", len(found), n)
    return found


def _one_or_several(row: int, value: Any) -> References:
    if isinstance(value, (list, tuple)):
        return tuple(text for text in (_text("ground_truth", row, each) for each in value) if text is not None)
    return _text("ground_truth", row, value)


def _aligned(name: str, given: Texts | None, n: int) -> list[str | None]:
    if given is None:
        return [None] * n
    texts = _texts(name, given)
    _same_length(name, len(texts), n)
    return texts


def _same_length(name: str, found: int, n: int) -> None:
    if found != n:
        raise InvalidInputError(f"{n} predictions, but {found} {name}", "give one for each prediction, in its order")


def _metadata(given: pd.DataFrame | None, n: int) -> list[dict[str, Any]] | None:
    if given is None:
        return None
    _same_length("rows of metadata", len(given), n)
    return [{str(name): value for name, value in row.items()} for row in given.to_dict("records")]


def _texts(name: str, given: Any) -> list[str | None]:
    if isinstance(given, str):
        raise InvalidInputError(f"{name} is a single text", f"put it into a list: {name}=[…]")
    return [_text(name, row, value) for row, value in enumerate(given)]


def _text(name: str, row: int, value: Any) -> str | None:
    import pandas as pd

    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    raise InvalidInputError(f"{name}, row {row}: {value!r} is no text", "turn numbers into text with str()")
