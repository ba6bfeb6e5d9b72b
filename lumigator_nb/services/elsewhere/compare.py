"""``lm.compare``: the comparison of answers, scores or files from anywhere, without a workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path as OsPath
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.display.text import joined
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.eval_logs import FORMATS, files_in, read
from lumigator_nb.eval_logs.base import Better, ModelResults, guessed_lower, plain_columns
from lumigator_nb.metrics import References, ScoreInfo, defaults
from lumigator_nb.metrics.scoring import DEFAULT_METRICS, Scoring, Texts, score_all
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.data import OPTIONS, ComparedExperiment, ComparedStep, ComparisonData
from lumigator_nb.services.elsewhere import lumi
from lumigator_nb.services.elsewhere.alignment import aligned
from lumigator_nb.services.elsewhere.frames import Names, of_columns, of_frame
from lumigator_nb.specs import Step, Task, is_ground_truth
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX

Path = str | PathLike[str]
Source = Path | Sequence[Path] | pd.DataFrame | Mapping[str, Any]


def compare(
    source: Source,
    ground_truth: Sequence[References] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metadata: pd.DataFrame | Names | None = None,
    metrics: Any = None,
    task: Task | None = None,
    language: str | None = None,
    model: str | None = None,
    item: str | None = None,
    score: Names | None = None,
    better: Mapping[str, Better] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    name: str = "",
    groups: str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare models by answers, scores or files from anywhere. It needs no workspace, and keeps nothing.

    Models are compared on the examples for which each of them has a score; what is missing is counted in the notes.
    Several rows of one model and example are repeats, and the example counts with their mean.

    Args:
        source: one of:

            - answers: a mapping of model names to one text per example, in the same order for all. None is a missing
              answer.
            - scores: a DataFrame, long (a row per model and item) or wide (a column per model); or a mapping of model
              names to one number per example.
            - files, or folders of files: one path, several, or a mapping of model names to the path or paths of each.
              Logs of Inspect (`.eval`, `.json`), samples of lm-evaluation-harness (`samples_*.jsonl`), details of
              lighteval (`details_*.parquet`), promptfoo's `output.json`, MLflow's evaluation tables, Every Eval Ever,
              Lumigator's result downloads, experiments of this package (`.lumi.zip`), and tables (`.csv`, `.parquet`,
              `.jsonl`) as a DataFrame would be read.
        ground_truth: one text per example, or several in a list; for answers.
        examples: the inputs; for answers.
        metadata: further columns of the examples, to divide them by: for answers, a DataFrame; for a table, the names
            of its columns (default in a long one: all other columns with one value per item).
        metrics: metrics to compute from the answers, as for :func:`score`; default for answers: those of the task, or
            "rouge", "bleu" and "chrf". For files, they are added to the scores in them.
        task: what the models were asked, such as ``lm.Summarization()``.
        language: of the answers; see :func:`score`.
        model, item, score: columns of a table: the model's name; the id of the example; one or several scores. Default
            "model", "item" or "id", and all other columns of numbers. In a wide table, `score` names what the numbers
            are.
        better: directions, such as ``{"cost": "lower", "words": None}``; None for a score that only describes. By
            default more is better, but for names such as "cost", "latency" or "error_rate"; notes say so.
        ranges: least and greatest possible values, such as ``{"stars": (1, 5)}``. Scores that are all 0 or 1 need none.
        name: of the comparison, for titles.
        groups: a metadata column; examples with the same value are resampled together, see :meth:`Workspace.compare`.
        confidence, n_resamples, seed: of the intervals, see :meth:`Workspace.compare`.

    Raises:
        InvalidInputError: lengths differ, a column is missing, a score is no number, the kind of a file is unknown, or
            no example has a score from every model.
        DamagedError: a file is not what its format promises.
        NotFoundError: there is no such file.

    Examples:
        >>> answers = {"terse": ["a cat sat", "it rains"], "chatty": ["well, a cat sat there", "oh, it rains again"]}
        >>> comparison = lm.compare(answers, ["a cat sat", "it rains"], metrics=["rouge"])
        >>> comparison.best("rougeL")
        'terse'
        >>> scores = pd.DataFrame({"id": [1, 2, 3, 1, 2, 3], "model": list("aaabbb"), "accuracy": [1, 1, 0, 0, 1, 0]})
        >>> comparison = lm.compare(scores)
        >>> comparison.summary()[["model", "overall", "n"]].round(2)
          model  overall  n
        0     a     0.67  3
        1     b     0.33  3
    """
    data = data_of(
        source, ground_truth, examples=examples, metadata=metadata, metrics=metrics, task=task, language=language,
        model=model, item=item, score=score, better=better, ranges=ranges, name=name,
    )  # fmt: skip
    return Comparison(data, groups=groups, confidence=confidence, n_resamples=n_resamples, seed=seed)


def data_of(
    source: Source,
    ground_truth: Sequence[References] | None = None,
    *,
    examples: Sequence[str] | None = None,
    metadata: pd.DataFrame | Names | None = None,
    metrics: Any = None,
    task: Task | None = None,
    language: str | None = None,
    model: str | None = None,
    item: str | None = None,
    score: Names | None = None,
    better: Mapping[str, Better] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    name: str = "",
    compute: bool = True,
) -> ComparisonData:
    """Return the data of a comparison; arguments and errors as of :func:`compare`.

    With `compute=False` no metric is computed, so that answers have no scores yet.
    """
    results, kind = _results(source, ground_truth, examples, metadata, metrics, model, item, score, better, ranges)
    notes = _guesses(results, better)
    data = aligned(results, name, explicit=isinstance(source, Mapping), notes=notes)
    if metrics is None and kind == "answers":
        metrics = defaults(task.kind) if task else list(DEFAULT_METRICS)
    if metrics is not None and compute:
        data = _with_metrics(data, metrics, language, task)
    return replace(data, experiment=replace(data.experiment, task=task), recipe=_recipe(source, kind, metrics))


def _results(
    source: Source,
    ground_truth: Sequence[References] | None,
    examples: Sequence[str] | None,
    metadata: pd.DataFrame | Names | None,
    metrics: Any,
    model: str | None,
    item: str | None,
    score: Names | None,
    better: Mapping[str, Better] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> tuple[list[ModelResults], str]:
    """The results of each model, and what they were made of: "answers", "scores" or "files"."""
    if isinstance(source, Mapping) and not source:
        raise InvalidInputError("there is nothing to compare", "give the answers or scores of at least one model")
    if isinstance(source, Mapping) and not _are_paths(source):
        if ground_truth is None and metrics is None and _are_numbers(source):
            source = of_columns(source)
        else:
            others = metadata if isinstance(metadata, pd.DataFrame) else None
            if metadata is not None and others is None:
                raise InvalidInputError("metadata of answers is a DataFrame", "one row per example, in their order")
            return _of_answers(source, ground_truth, examples, others), "answers"
    if ground_truth is not None or examples is not None:
        given = "ground_truth" if ground_truth is not None else "examples"
        raise InvalidInputError(f"{given} is for answers", "files and tables have columns of their own for it")
    if isinstance(metadata, pd.DataFrame):
        raise InvalidInputError("metadata of a table is named by its columns", "join the table, and name its columns")
    columns: dict[str, Any] = {"model": model, "item": item, "score": score, "metadata": metadata}
    if isinstance(source, pd.DataFrame):
        return of_frame(source, **columns, better=better, ranges=ranges), "scores"
    results = []
    for label, paths in (source if isinstance(source, Mapping) else {"": source}).items():
        for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
            found = _of_path(path, columns, better, ranges)
            if label and len({one.model for one in found}) > 1:
                models = joined(list(dict.fromkeys(one.model for one in found)))
                raise InvalidInputError(
                    f"{path} holds results of {models}, and cannot be {label!r} alone", "give the path without a label"
                )
            results += [replace(one, model=label or one.model) for one in found]
    return results, "files"


def _of_path(
    path: Path,
    columns: Mapping[str, Any],
    better: Mapping[str, Better] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
) -> list[ModelResults]:
    results = []
    for file in files_in(path):
        if file.name.endswith(lumi.SUFFIX):
            results += lumi.read(file)
            continue
        for log in read(file, in_folder=OsPath(path).expanduser().is_dir()):
            if isinstance(log, pd.DataFrame):
                own = of_frame(log, **columns, better=better, ranges=ranges)
                results += [replace(one, source=str(file)) for one in own]
            else:
                results.append(log)
    if not results:
        raise InvalidInputError(f"{path} holds no results", f"it should hold {FORMATS}")
    return [_corrected(one, better, ranges) for one in results]


def _corrected(
    one: ModelResults, better: Mapping[str, Better] | None, ranges: Mapping[str, tuple[float, float]] | None
) -> ModelResults:
    """Results with the directions and ranges that the caller states."""
    infos = dict(one.infos)
    for name in infos:
        if better is not None and name in better:
            direction = better[name]
            infos[name] = replace(infos[name], higher_is_better=None if direction is None else direction == "higher")
        if ranges is not None and name in ranges:
            infos[name] = replace(infos[name], range=ranges[name])
    return replace(one, infos=infos)


def _are_paths(by_model: Mapping[str, Any]) -> bool:
    """Whether a mapping's values are paths, or lists of paths that exist, rather than lists of answers."""
    return all(
        isinstance(value, (str, PathLike))
        or (isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(one, PathLike) for one in value))
        or (isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_file(one) for one in value))
        for value in by_model.values()
    )


def _is_file(value: Any) -> bool:
    # A long answer is no path, and asking the system about it is an error.
    return isinstance(value, str) and len(value) < 1000 and "\n" not in value and OsPath(value).expanduser().exists()


def _are_numbers(by_model: Mapping[str, Any]) -> bool:
    # Not pandas' own test of an array's type: lists of numbers may hold None.
    return all(
        not isinstance(values, str)
        and any(isinstance(value, (int, float, np.number)) and value == value for value in values)
        and all(value is None or isinstance(value, (int, float, bool, np.number)) for value in values)
        for values in by_model.values()
    )


def _of_answers(
    answers: Mapping[str, Texts],
    ground_truth: Sequence[References] | None,
    examples: Sequence[str] | None,
    metadata: pd.DataFrame | None,
) -> list[ModelResults]:
    """The answers as results without scores, which the metrics add."""
    first = next(iter(answers.values()))
    n = len(first)
    given: dict[str, Any] = {"ground_truth": ground_truth, "examples": examples, "rows of metadata": metadata}
    for title, values in {**given, **{f"answers of {model!r}": texts for model, texts in answers.items()}}.items():
        if isinstance(values, str):
            raise InvalidInputError(f"{title} is a single text", "put it into a list: […]")
        if values is not None and len(values) != n:
            raise InvalidInputError(
                f"{n} answers of {next(iter(answers))!r}, but {len(values)} {title}",
                "give one for each example, in the same order; None for a missing answer",
            )
    rows = pd.DataFrame({"item": range(n), "example": [""] * n if examples is None else list(examples)})
    if ground_truth is not None:
        rows["ground_truth"] = pd.Series(
            [tuple(value) if isinstance(value, (list, tuple)) else value for value in ground_truth], dtype=object
        )
    others = pd.DataFrame() if metadata is None else plain_columns(metadata.reset_index(drop=True))
    return [
        ModelResults(str(model), rows.assign(prediction=pd.Series(list(texts), dtype=object)), {}, {}, others)
        for model, texts in answers.items()
    ]


def _with_metrics(data: ComparisonData, metrics: Any, language: str | None, task: Task | None) -> ComparisonData:
    """The data with the scores of metrics that are computed from its answers."""
    if not any(frame["prediction"].fillna("").ne("").any() for frame in data.predictions.values()):
        raise InvalidInputError("metrics need answers, and there are only scores", "leave metrics= out")
    examples = data.examples
    truths = [name for name in examples if is_ground_truth(str(name))]
    references = [
        tuple(text for text in row if isinstance(text, str)) or None
        for row in examples[truths].itertuples(index=False, name=None)
    ]
    scoring = score_all(
        {label: frame["prediction"].tolist() for label, frame in data.predictions.items()},
        references if truths else None,
        examples=examples["example"].tolist(),
        metadata=examples.drop(columns=["example", *truths]),
        metrics=metrics,
        language=language,
        task=task,
    )
    scores, infos = {}, dict(data.infos)
    for label, own in scoring.scores.items():
        scores[label] = data.scores[label].copy()
        for score in own:
            if score.info.name in data.infos:
                raise InvalidInputError(
                    f"the results have a score {score.info.name!r} already", "leave the metric out that computes it"
                )
            infos[score.info.name] = score.info
            scores[label][score.info.name] = score.values
            if score.statistics.shape[1] > 1:
                scores[label][score.info.name + STATISTICS_SUFFIX] = list(score.statistics)
            if any(score.reasons):
                scores[label][score.info.name + REASON_SUFFIX] = list(score.reasons)
    return replace(
        data,
        experiment=ComparedExperiment(data.experiment.name, task, tuple(spec for spec, _ in scoring.metrics)),
        models=tuple(replace(one, steps=_evaluated(one.steps, scoring, one.label)) for one in data.models),
        scores=scores,
        infos=infos,
    )


def _evaluated(steps: Sequence[ComparedStep], scoring: Scoring, label: str) -> tuple[ComparedStep, ...]:
    """A model's steps with what the metrics say about their scores."""
    details = {
        "signatures": scoring.signatures,
        "failed_metrics": {title: str(error) for title, error in scoring.errors.items()},
        "unscored": {score.info.name: dict(score.unscored) for score in scoring.scores[label]},
    }
    overall = {score.info.name: score.overall for score in scoring.scores[label]}
    return tuple(
        replace(step, scores={**step.scores, **overall}, details={**step.details, **details})
        if step.step == Step.EVALUATION
        else step
        for step in steps
    )


def _guesses(results: Sequence[ModelResults], better: Mapping[str, Better] | None) -> list[str]:
    """Which scores were taken for costs or errors because of their names."""
    infos: dict[str, ScoreInfo] = {name: info for one in results for name, info in one.infos.items()}
    guessed = [
        name
        for name, info in infos.items()
        if info.higher_is_better is False and name not in (better or {}) and guessed_lower(name)
    ]
    if not guessed:
        return []
    example = f"better={{{guessed[0]!r}: 'higher'}}"
    return [f"Of {joined(guessed)}, less is taken to be better, by the name; {example} says otherwise."]


def _recipe(source: Source, kind: str, metrics: Any) -> str:
    """Python code that repeats the comparison; with an ellipsis for what only the caller has."""
    if kind == "files":
        if isinstance(source, Mapping):
            shown: Any = {label: _plain(paths) for label, paths in source.items()}
        else:
            shown = _plain(source)
        given = repr(shown)
    else:
        given = "answers, ground_truth, examples=examples" if kind == "answers" else "scores"
    named = [spec for spec in (metrics if isinstance(metrics, (list, tuple)) else [metrics]) if isinstance(spec, str)]
    chosen = f", metrics={named!r}" if named else ""
    return f"import lumigator_nb as lm\n\nlm.compare({given}{chosen}, {OPTIONS})"


def _plain(paths: Any) -> Any:
    return str(paths) if isinstance(paths, (str, PathLike)) else [str(path) for path in paths]
