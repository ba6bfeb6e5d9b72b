"""Results of several models, from any source, aligned by example: the data of a comparison.

Not pandas' own merge: items may be repeated and missing, both are counted, and a million scores take under a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.display.text import count, joined, listed
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.eval_logs.base import NUMBERS, ModelResults
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.services.comparison.data import (
    ComparedDataset,
    ComparedExperiment,
    ComparedModel,
    ComparedStep,
    ComparisonData,
)
from lumigator_nb.specs import Step
from lumigator_nb.storage.results import STATISTICS_SUFFIX

_NAMED = 5  # items that a note names
# Relative to the value: what two tools' sums of the same numbers may differ by.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Placed:
    """One model's results with the position of the example of each row.

    Attributes:
        codes: (rows,) positions of the examples.
        first: (items,) the first row of each example; -1 for none.
        repeat: (rows,) 0 for the first row of an example, 1 for the second, ….
    """

    results: ModelResults
    codes: np.ndarray
    first: np.ndarray
    repeat: np.ndarray

    @property
    def n_repeats(self) -> int:
        """The greatest number of rows of one example."""
        return int(self.repeat.max(initial=-1)) + 1

    def mean(self, values: FloatArray) -> FloatArray:
        """(items,) means of (rows,) values over the repeats that have one; NaN for none."""
        if self.n_repeats <= 1:
            spread = np.full(len(self.first), np.nan)
            spread[self.codes] = values
            return spread
        scored = ~np.isnan(values)
        n = len(self.first)
        counts = np.bincount(self.codes[scored], minlength=n)
        totals = np.bincount(self.codes[scored], weights=values[scored], minlength=n)
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def aligned(
    results: Sequence[ModelResults], name: str, *, explicit: bool = False, notes: Sequence[str] = ()
) -> ComparisonData:
    """Return the data of a comparison.

    Examples are the union of the models' items, in the order of their first appearance. Rows of one item and model are
    repeats: the example has the mean of their scores, and the text of the first.

    Args:
        results: per model, or per model and task.
        name: of the comparison; "" for the name of the task.
        explicit: whether the caller chose the models' labels; the same label then means the same model. Otherwise files
            with equal items and models are told apart by the names of the files.
        notes: facts that the caller has to say.

    Raises:
        InvalidInputError: there are no results, or no item is common to all models.
    """
    if not any(len(one.rows) for one in results):
        raise InvalidInputError("there are no results to compare", "give files or tables with at least one row")
    tasks = list(dict.fromkeys(one.task for one in results))
    said = list(notes)
    by_task = _shared_tasks(results)
    if len(tasks) > 1 and not by_task:
        said.append(f"The files name different tasks, {joined(tasks)}: their items were matched by id alone.")
    by_model, renamed = _by_model(results, by_task, explicit)
    said += renamed
    placed, items = _place(by_model)
    n = len(items)
    _check_common(placed, items, tasks)
    title = name or " and ".join(filter(None, tasks[:3])) or "results"
    has_texts = any("example" in one.results.rows for one in placed)
    examples = _examples(placed, items, has_texts)
    said += _missing(placed, items) + _repeats(placed) + _differing(placed, n) + _disagreeing(results)
    infos = {score: info for one in placed for score, info in one.results.infos.items()}
    return ComparisonData(
        ComparedExperiment(title),
        ComparedDataset(" and ".join(filter(None, tasks[:3])) or title, n),
        tuple(_model(one) for one in placed),
        examples,
        {one.results.model: _predictions(one) for one in placed},
        {one.results.model: _scores(one, infos) for one in placed},
        infos=_united(placed, infos),
        notes=tuple(said),
        repeats=_all_repeats(placed, list(infos), n),
        has_texts=has_texts,
        items=() if items == list(map(str, range(n))) else tuple(items),
    )


def _shared_tasks(results: Sequence[ModelResults]) -> bool:
    """Whether items are told apart by their task: several tasks, and one of them is not of a single model's alone."""
    by_task: dict[str, set[str]] = {}
    for one in results:
        by_task.setdefault(one.task, set()).add(one.model)
    models = {one.model for one in results}
    return len(by_task) > 1 and (len(models) == 1 or any(len(of_task) > 1 for of_task in by_task.values()))


def _by_model(
    results: Sequence[ModelResults], by_task: bool, explicit: bool
) -> tuple[dict[str, list[ModelResults]], list[str]]:
    """Results by label, with items that name their task if `by_task`; and notes on labels that were changed."""
    groups: dict[str, list[ModelResults]] = {}
    for one in results:
        if by_task:
            ids = one.task + "/" + one.rows["item"].astype(str)
            one = replace(one, rows=one.rows.assign(item=ids))
        groups.setdefault(one.model, []).append(one)
    notes: list[str] = []
    labelled: dict[str, list[ModelResults]] = {}
    for label, group in groups.items():
        if explicit or len(group) == 1 or _are_disjoint(group) or _are_repeats(group):
            labelled[label] = group
            continue
        names = _file_names([one.source for one in group])
        for one, file in zip(group, names, strict=True):
            labelled[f"{label} ({file})"] = [one]
        notes.append(
            f"{joined(names)} are all of {label}, on the same examples: they are compared as different models. To "
            f"count them as repeats of one, give {{{label!r}: [files]}}."
        )
    return labelled, notes


def _are_disjoint(group: Sequence[ModelResults]) -> bool:
    """Whether no item is in two of the results, such as those of one model on several tasks."""
    n_items = len(set(chain.from_iterable(one.rows["item"] for one in group)))
    return n_items == sum(one.rows["item"].nunique() for one in group)


def _are_repeats(group: Sequence[ModelResults]) -> bool:
    """Whether the file itself says that these are repeats of one model."""
    numbers = {one.spec.repeat for one in group if one.spec is not None}
    return len(numbers) == len(group) and len({one.source for one in group}) == 1


def _file_names(sources: Sequence[str]) -> list[str]:
    """Names that tell files apart: without folders if that suffices, else with numbers."""
    names = [PurePath(source).name for source in sources]
    if len(set(names)) < len(names):
        names = ["/".join(PurePath(source).parts[-2:]) for source in sources]
    if len(set(names)) < len(names):
        names = [f"{name} {number}" for number, name in enumerate(names, 1)]
    return names


def _place(by_model: Mapping[str, Sequence[ModelResults]]) -> tuple[list[_Placed], list[str]]:
    """The results of each model with the positions of their examples, and the names of all examples."""
    merged = [_merged(label, group) for label, group in by_model.items()]
    codes, ids = pd.factorize(pd.concat([one.rows["item"] for one in merged], ignore_index=True))
    if (codes < 0).any():
        raise InvalidInputError("an item has no id", "fill the column of ids, or drop the rows without")
    # 7, 7.0 and "7" are the same id: tools write numbers in different ways.
    same, names = pd.factorize(np.array([_id(value) for value in ids], dtype=object))
    codes, n = same[codes], len(names)
    placed, start = [], 0
    for one in merged:
        own = codes[start : start + len(one.rows)]
        start += len(own)
        first = np.full(n, -1)
        first[own[::-1]] = np.arange(len(own))[::-1]
        is_unique = np.count_nonzero(first >= 0) == len(own)
        repeat = np.zeros(len(own), dtype=np.int64) if is_unique else pd.Series(own).groupby(own).cumcount().to_numpy()
        placed.append(_Placed(one, own, first, repeat))
    return placed, [str(name) for name in names]


def _id(value: Any) -> str:
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _merged(label: str, group: Sequence[ModelResults]) -> ModelResults:
    """The results of one model on several tasks, or of several runs, as one."""
    if len(group) == 1:
        return replace(group[0], model=label)
    names = dict.fromkeys(chain.from_iterable(one.scores for one in group))

    def values(one: ModelResults, score: str) -> FloatArray:
        return one.scores.get(score, np.full(len(one.rows), np.nan))

    return ModelResults(
        label,
        pd.concat([one.rows for one in group], ignore_index=True),
        {score: np.concatenate([values(one, score) for one in group]) for score in names},
        {score: next(one.infos[score] for one in group if score in one.infos) for score in names},
        pd.concat([one.metadata.reindex(range(len(one.rows))) for one in group], ignore_index=True),
        tool=joined(list(dict.fromkeys(one.tool for one in group))),
        source=joined(list(dict.fromkeys(one.source for one in group))),
        details={key: value for one in group for key, value in one.details.items()},
        statistics={
            score: np.concatenate([one.statistics[score] for one in group])
            for score in names
            if all(score in one.statistics for one in group)
        },
        spec=group[0].spec,
    )


def _check_common(placed: Sequence[_Placed], items: Sequence[str], tasks: Sequence[str]) -> None:
    common = np.all([one.first >= 0 for one in placed], axis=0)
    if common.any() or len(placed) < 2:
        return
    shown = "; ".join(
        f"{one.results.model}: {', '.join(items[code] for code in np.flatnonzero(one.first >= 0)[:3])}"
        for one in placed[:3]
    )
    of_tasks = f" They name the tasks {listed(tasks)}." if len(tasks) > 1 else ""
    raise InvalidInputError(
        f"no example has a result from every model.{of_tasks} Items of {shown}",
        "compare results on the same examples with the same ids, or leave a model out",
    )


def _examples(placed: Sequence[_Placed], items: Sequence[str], has_texts: bool) -> pd.DataFrame:
    """Inputs, ground truth and metadata of the examples: of the first model that has each."""
    frame = pd.DataFrame({"example": _firsts(placed, "example", "") if has_texts else list(items)})
    truths = _firsts(placed, "ground_truth", None)
    texts = [value if isinstance(value, tuple) else (value,) for value in truths]
    for index in range(max(map(len, texts), default=0)):
        column = [value[index] if index < len(value) else None for value in texts]
        if any(text is not None for text in column):
            frame["ground_truth" if index == 0 else f"ground_truth_{index + 1}"] = column
    reserved = {*frame.columns, "row", "model", "item"}
    names = dict.fromkeys(chain.from_iterable(one.results.metadata.columns for one in placed))
    for column_name in names:
        if column_name not in reserved:
            frame[column_name] = _firsts(placed, column_name, None, of="metadata")
    return frame.infer_objects()


def _firsts(placed: Sequence[_Placed], column: str, missing: Any, of: str = "rows") -> list[Any]:
    """A column of the examples: for each the value of the first model that has one."""
    values = np.full(len(placed[0].first), None, dtype=object)
    for one in placed:
        table: pd.DataFrame = getattr(one.results, of)
        open_ = pd.isna(values) & (one.first >= 0)
        if column in table and open_.any():
            own = np.empty(len(table), dtype=object)
            own[:] = table[column].tolist()
            values[open_] = own[one.first[open_]]
    return [missing if value is None or (isinstance(value, float) and value != value) else value for value in values]


def _model(one: _Placed) -> ComparedModel:
    """The model's label with what the report tells of it."""
    own = one.results
    details = {"tool": own.tool, "file": own.source, **own.details}
    means = {score: float(np.nanmean(values)) for score, values in own.scores.items() if not np.isnan(values).all()}
    inference = ComparedStep(
        Step.INFERENCE,
        n_failed=int((one.first < 0).sum()),
        details={key: value for key, value in details.items() if value not in ("", None)},
    )
    return ComparedModel(own.model, own.spec, steps=(inference, ComparedStep(Step.EVALUATION, scores=means)))


def _predictions(one: _Placed) -> pd.DataFrame:
    """One row per example: answer, error, costs. An example without a result has neither an answer nor costs."""
    rows, has = one.results.rows, one.first >= 0
    frame = pd.DataFrame({"row": np.arange(len(one.first)), "prediction": None}, dtype=object).astype({"row": "int64"})
    if "prediction" in rows:
        frame.loc[has, "prediction"] = rows["prediction"].to_numpy(dtype=object)[one.first[has]]
    else:
        # It was answered, though the answer is unknown.
        frame.loc[has, "prediction"] = ""
    frame["prediction"] = frame["prediction"].astype("str")
    if "error" in rows:
        frame["error"] = None
        frame.loc[has, "error"] = rows["error"].to_numpy(dtype=object)[one.first[has]]
    for column in NUMBERS:
        if column in rows:
            frame[column] = one.mean(pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64))
    return frame


def _scores(one: _Placed, infos: Mapping[str, ScoreInfo]) -> pd.DataFrame:
    columns: dict[str, Any] = {"row": np.arange(len(one.first))}
    for score, values in one.results.scores.items():
        columns[score] = one.mean(values)
        statistics = one.results.statistics.get(score)
        if statistics is not None:
            # The overall score of mean statistics is that of all answers together, such as their corpus BLEU.
            columns[score + STATISTICS_SUFFIX] = list(np.stack([one.mean(column) for column in statistics.T], axis=1))
    return pd.DataFrame({name: columns[name] for name in ("row", *_ordered(columns, infos))})


def _ordered(columns: Mapping[str, Any], infos: Mapping[str, ScoreInfo]) -> list[str]:
    """The names of a model's columns in an order that is the same for all models."""
    names = chain.from_iterable((score, score + STATISTICS_SUFFIX) for score in infos)
    return [name for name in names if name in columns]


def _united(placed: Sequence[_Placed], infos: Mapping[str, ScoreInfo]) -> dict[str, ScoreInfo]:
    """The scores' descriptions with ranges that hold for every model: scores of one model may all be 0 or 1 by chance.

    Raises:
        InvalidInputError: two files state different directions of one score.
    """
    united = {}
    for name, info in infos.items():
        own = [one.results.infos[name] for one in placed if name in one.results.infos]
        directions = {one.higher_is_better for one in own}
        if len(directions) > 1:
            raise InvalidInputError(
                f"the files disagree on whether more or less {name} is better", "say it: better={'…': 'higher'}"
            )
        low, high = min(one.range[0] for one in own), max(one.range[1] for one in own)
        united[name] = replace(info, range=(low, high))
    return united


def _all_repeats(placed: Sequence[_Placed], scores: Sequence[str], n: int) -> dict[str, FloatArray]:
    """Per score that every model has, (models, items, repeats) values; empty without repeats."""
    n_repeats = max(one.n_repeats for one in placed)
    if n_repeats <= 1:
        return {}
    values = {}
    for score in scores:
        if all(score in one.results.scores for one in placed):
            values[score] = np.full((len(placed), n, n_repeats), np.nan)
            for index, one in enumerate(placed):
                values[score][index, one.codes, one.repeat] = one.results.scores[score]
    return values


def _missing(placed: Sequence[_Placed], items: Sequence[str]) -> list[str]:
    """Which examples a model lacks; how many is said with the costs."""
    notes = []
    for one in placed:
        absent = np.flatnonzero(one.first < 0)
        if len(absent):
            shown = [items[code] for code in absent[:_NAMED]]
            more = f" and {len(absent) - _NAMED:,} more" if len(absent) > _NAMED else ""
            notes.append(f"Not among the results of {one.results.model}: {', '.join(shown)}{more}.")
    return notes


def _repeats(placed: Sequence[_Placed]) -> list[str]:
    counts = {one.results.model: one.n_repeats for one in placed if one.n_repeats > 1}
    if not counts:
        return []
    most = joined([f"{n} of {model}" for model, n in counts.items()])
    return [
        f"Examples with several answers of one model, up to {most}, count once, with the mean of their scores. The "
        "intervals allow for both: that examples differ, and that answers to one example do."
    ]


def _differing(placed: Sequence[_Placed], n: int) -> list[str]:
    """How many examples of the same id have different inputs in different files."""
    texts = [_firsts([one], "example", None) for one in placed if "example" in one.results.rows]
    differ = sum(len({text for text in row if text is not None}) > 1 for row in zip(*texts, strict=True))
    if not differ:
        return []
    return [
        f"{differ:,} of {count(n, 'example')} {'has' if differ == 1 else 'have'} the same id and different inputs in "
        "different files: the dataset or the prompt has changed, and the models may not have been asked the same."
    ]


def _disagreeing(results: Sequence[ModelResults]) -> list[str]:
    """Where a file reports another overall score than the mean of its samples."""
    notes = []
    for one in results:
        ids = pd.factorize(one.rows["item"])[0]
        for score, reported in one.reported.items():
            values = one.scores[score]
            # Tools, too, take the mean over repeats first.
            own = pd.Series(values).groupby(ids).mean().mean()
            if not np.isclose(own, reported, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True):
                notes.append(
                    f"{one.tool} reports {score} of {one.model} as {reported:.4g}; the mean of the samples in its file "
                    f"is {own:.4g}, and is what is compared."
                )
    return notes
