"""Comparisons: the workflows of one experiment, paired by example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.display import comparison as shown
from lumigator_nb.errors import InvalidInputError, LumigatorError, did_you_mean
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.results import REASON_SUFFIX, STATISTICS_SUFFIX
from lumigator_nb.services import passports
from lumigator_nb.services.costs import costs
from lumigator_nb.services.passports import Passport
from lumigator_nb.specs import MetricResult, Model, is_ground_truth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_COLUMNS = ("example", "ground_truth")


@dataclass(frozen=True)
class _Scored:
    """One score of all models on the examples that every model has it for.

    Attributes:
        rows: (n,) positions of those examples in the dataset.
        values: (models, n) per-example scores.
        statistics: (models, n, k) sufficient statistics.
    """

    info: ScoreInfo
    rows: np.ndarray
    values: FloatArray
    statistics: FloatArray


class Comparison:
    """How models did on the same examples.

    Everything is computed on the examples that all compared models have a score for, so that differences are paired.

    Args:
        experiment: what was compared.
        dataset: its dataset.
        examples: (rows, …) the dataset's columns, in its order.
        workflows: those that succeeded, in the order of launch.
        jobs: of those workflows.
        predictions: per label, the frame of :meth:`Workflows.predictions`.
        scores: per label, the frame of the evaluation's shards.
        evaluations: per label how the experiment's metrics went, as far as they were computed.
        pending: the other workflows of the experiment, which are only named.
        confidence: of all intervals.
        n_resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same numbers.

    Raises:
        InvalidInputError: no example has a score from every model.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        examples: pd.DataFrame,
        workflows: Sequence[Workflow],
        jobs: Sequence[Job],
        predictions: Mapping[str, pd.DataFrame],
        scores: Mapping[str, pd.DataFrame],
        *,
        evaluations: Mapping[str, Sequence[MetricResult]] | None = None,
        pending: Sequence[Workflow] = (),
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.experiment = experiment
        self.dataset = dataset
        self.models = tuple(workflow.label for workflow in workflows)
        self.workflows = tuple(workflows)
        self.jobs = tuple(jobs)
        self.pending = tuple(pending)
        self.confidence, self.n_resamples, self.seed = confidence, n_resamples, seed
        self._examples = examples
        self._predictions = predictions
        self._evaluations = evaluations or {}
        known = {**_stored_infos(self._evaluations), **_infos_of(experiment)}
        frames = [scores[label] for label in self.models]
        found = [_scored(known.get(name) or metrics.info(name), frames) for name in _score_names(frames)]
        self._scored = {scored.info.name: scored for scored in found if scored is not None}
        self._scores = {label: scores[label].set_index("row") for label in self.models}
        if not self._scored:
            raise InvalidInputError("no example has a score from every model", "compare fewer models, or retry")

    @property
    def scores(self) -> tuple[ScoreInfo, ...]:
        """What was scored, in the order of the experiment's metrics."""
        return tuple(scored.info for scored in self._scored.values())

    @property
    def main_score(self) -> str:
        """The score that decides where none is named: the first of rougeL, bleu, chrf that there is, or the first."""
        judged = [info.name for info in self.scores if info.higher_is_better is not None]
        preferred = [name for name in ("rougeL", "bleu", "chrf") if name in judged]
        return (preferred or judged or [info.name for info in self.scores])[0]

    def best(self, score: str | None = None) -> str:
        """Return the label of the model with the best overall value.

        Raises:
            InvalidInputError: there is no such score, or it has no better or worse (a length).
        """
        scored = self._of(score)
        if scored.info.higher_is_better is None:
            raise InvalidInputError(f"{scored.info.name} only describes; no value of it is better", None)
        return self.models[self._best_index(scored)]

    @cached_property
    def _summary(self) -> pd.DataFrame:
        rows = [row for scored in self._scored.values() for row in self._summary_rows(scored)]
        return pd.DataFrame(rows)

    def summary(self) -> pd.DataFrame:
        """Return one row per score and model.

        Columns: `score`, `model`, `overall`, `low`, `high` (percentile-bootstrap interval of `overall`), `best`
        (whether it leads), `difference`, `difference_low`, `difference_high`, `p_value` (paired, to the leading
        model; empty for the leader and for scores without better or worse), `n` (examples).
        """
        return self._summary.copy()

    @cached_property
    def _costs(self) -> pd.DataFrame:
        return costs({label: self._predictions[label] for label in self.models})

    def costs(self) -> pd.DataFrame:
        """Return what the models' answers cost and how long they took, one row per model.

        Columns: `model`, `examples`, `answered`, `failed`, `cached` (found in the store), `truncated` (inputs cut to
        fit the model), `cut_off` (answers that ended at `max_new_tokens`), `prompt_tokens`, `completion_tokens`,
        `reasoning_tokens`, `dollars` (when the answers were first made; empty where there is no price),
        `dollars_per_1000` (answers), `seconds_p50` and `seconds_p95` (latency of an answer), `tokens_per_second`
        (median over answers).
        """
        return self._costs.copy()

    def pairwise(self, score: str | None = None) -> pd.DataFrame:
        """Return one row per ordered pair of models: `difference` (model minus other), `low`, `high`, `p_value`."""
        scored = self._of(score)
        pairs = [(i, j) for i in range(len(self.models)) for j in range(len(self.models)) if i != j]
        rows = [{"model": self.models[i], "other": self.models[j], **self._difference(scored, i, j)} for i, j in pairs]
        return pd.DataFrame(rows).rename(columns={"difference_low": "low", "difference_high": "high"})

    def examples(self, n: int | None = None) -> pd.DataFrame:
        """Return the texts side by side: `example`, `ground_truth` where known, one column per model."""
        texts = self._examples[[column for column in TEXT_COLUMNS if column in self._examples]].copy()
        for label in self.models:
            texts[label] = self._predictions[label].set_index("row")["prediction"]
        return texts.head(n) if n is not None else texts

    def reasons(self, score: str) -> pd.DataFrame:
        """Return why each example has its score, or none: one row per example, one column per model.

        Judges say why; other metrics only where they give no score.
        """
        self._of(score)
        found = {
            label: frame.get(score + REASON_SUFFIX, pd.Series(index=frame.index, dtype=object))
            for label, frame in self._scores.items()
        }
        return pd.DataFrame(found)

    def passports(self, human: pd.DataFrame | None = None) -> list[Passport]:
        """Return what was measured of the judges among the metrics, one passport per score.

        Args:
            human: scores by people to compare the judges with: columns `row` (of the dataset, from 0), `model` (label)
                and one per score, of the same name.

        Raises:
            InvalidInputError: a column is missing.
        """
        if human is None:
            return list(self._passports)
        if missing := [name for name in ("row", "model") if name not in human]:
            raise InvalidInputError(f"the human labels have no column {missing[0]!r}", "row, model, and one per score")
        return self._examined(human)

    @cached_property
    def _passports(self) -> list[Passport]:
        return self._examined(None)

    def _examined(self, human: pd.DataFrame | None) -> list[Passport]:
        judged = [pair for spec in self.experiment.metrics for pair in passports.judges_of(spec)]
        return [self._passport(name, judge, human) for name, judge in judged if name in self._scored]

    def _passport(self, score: str, judge: Model | None, human: pd.DataFrame | None) -> Passport:
        texts = [self._predictions[label]["prediction"] for label in self.models]
        labels: FloatArray | None = None
        if human is not None and score in human:
            wide = human.pivot(index="model", columns="row", values=score)
            labels = wide.reindex(index=list(self.models), columns=range(len(texts[0]))).to_numpy(dtype=np.float64)
        results_of = [result for label in self.models for result in self._evaluations.get(label, ())]
        return passports.of_scores(
            f"{score}, by {judge.label if judge else 'a jury'}",
            judge,
            np.stack([self._scores[label][score].to_numpy(dtype=np.float64) for label in self.models]),
            np.stack([text.str.len().to_numpy(dtype=np.float64, na_value=np.nan) for text in texts]),
            [workflow.model for workflow in self.workflows],
            retest=[pair for result in results_of for pair in result.details.get("retest", {}).get(score, ())],
            human=labels,
            confidence=self.confidence,
            seed=self.seed,
        )

    def worst(self, score: str | None = None, n: int = 5, *, model: str | None = None) -> pd.DataFrame:
        """Return the `n` examples on which `model` (default the best) scores worst, side by side, with its score."""
        scored = self._of(score)
        index = self._model_index(model or self.best(scored.info.name))
        order = np.argsort(scored.values[index] * (-1 if scored.info.higher_is_better is False else 1), kind="stable")
        worst = self.examples().loc[scored.rows[order[:n]]]
        worst.insert(0, scored.info.name, scored.values[index][order[:n]])
        return worst

    def slices(self, column: str, score: str | None = None) -> pd.DataFrame:
        """Return the overall score per value of a metadata column: one row per value, one column per model, and `n`.

        Raises:
            InvalidInputError: the dataset has no such column.
        """
        scored = self._of(score)
        metadata = [name for name in self._examples.columns if name != "example" and not is_ground_truth(name)]
        if column not in metadata:
            raise InvalidInputError(f"the dataset has no metadata column {column!r}", did_you_mean(column, metadata))
        groups = self._examples.loc[scored.rows, column].reset_index(drop=True)
        rows = {}
        for value, members in groups.groupby(groups, dropna=False).groups.items():
            overall = scored.info.aggregate(scored.statistics[:, members].sum(axis=1), len(members))
            rows[value] = {"n": len(members), **dict(zip(self.models, overall, strict=True))}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(column)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per example and model: `row`, `model`, texts, metadata, token counts and all scores."""
        frames = []
        for index, label in enumerate(self.models):
            frame = self._examples.merge(self._predictions[label], left_index=True, right_on="row")
            frame.insert(0, "model", label)
            for name, scored in self._scored.items():
                frame[name] = pd.Series(scored.values[index], index=scored.rows).reindex(frame["row"]).to_numpy()
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def plot(self, score: str | None = None) -> Figure:
        """Draw each model's overall score with its interval, the best on top."""
        return shown.interval_plot(self._summary, self._of(score).info, self.confidence)

    def export(self, path: str | Path) -> Path:
        """Write a report (`.html`: one file, nothing loaded from elsewhere) or all rows (`.csv`); return its path.

        Raises:
            InvalidInputError: another ending.
        """
        target = Path(path).expanduser()
        if target.suffix == ".csv":
            self.to_pandas().to_csv(target, index=False)
        elif target.suffix in (".html", ".htm"):
            target.write_text(shown.report(self), encoding="utf-8")
        else:
            raise InvalidInputError(f"cannot write a {target.suffix or 'nameless'} file", "end it in .html or .csv")
        return target

    def verdict(self, score: str | None = None) -> str:
        """Say in one or two sentences which model leads and which cannot be told apart from it."""
        return shown.verdict(self._summary, self._of(score).info, self.confidence)

    def __str__(self) -> str:
        return shown.as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return shown.as_html(self)

    def _summary_rows(self, scored: _Scored) -> list[dict[str, Any]]:
        rows = []
        best = None if scored.info.higher_is_better is None else self._best_index(scored)
        for index, label in enumerate(self.models):
            compared = _NO_DIFFERENCE if best is None or best == index else self._difference(scored, index, best)
            interval = statistics.bootstrap_interval(scored.statistics[index], scored.info.aggregate, **self._bootstrap)
            row = {
                "score": scored.info.name,
                "model": label,
                "overall": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "best": index == best,
            }
            rows.append({**row, **compared, "n": len(scored.rows)})
        return rows

    def _difference(self, scored: _Scored, index: int, other: int) -> dict[str, float]:
        found = statistics.paired_difference(
            scored.statistics[index], scored.statistics[other], scored.info.aggregate, **self._bootstrap
        )
        return {
            "difference": found.estimate,
            "difference_low": found.low,
            "difference_high": found.high,
            "p_value": found.p_value,
        }

    @property
    def _bootstrap(self) -> dict[str, Any]:
        return {"confidence": self.confidence, "n_resamples": self.n_resamples, "seed": self.seed}

    def _best_index(self, scored: _Scored) -> int:
        overall = scored.info.aggregate(scored.statistics.sum(axis=1), len(scored.rows))
        return int(np.argmax(overall) if scored.info.higher_is_better else np.argmin(overall))

    def _model_index(self, label: str) -> int:
        if label not in self.models:
            raise InvalidInputError(f"no compared model is called {label!r}", did_you_mean(label, self.models))
        return self.models.index(label)

    def _of(self, score: str | None) -> _Scored:
        name = score or self.main_score
        if name not in self._scored:
            raise InvalidInputError(f"there is no score {name!r} here", did_you_mean(name, self._scored))
        return self._scored[name]


_NO_DIFFERENCE = dict.fromkeys(("difference", "difference_low", "difference_high", "p_value"), float("nan"))


def _infos_of(experiment: Experiment) -> dict[str, ScoreInfo]:
    found: dict[str, ScoreInfo] = {}
    for spec in experiment.metrics:
        with suppress(LumigatorError):  # of a package that is not installed any more
            found |= {info.name: info for info in metrics.create(spec).infos}
    return found


def _stored_infos(evaluations: Mapping[str, Sequence[MetricResult]]) -> dict[str, ScoreInfo]:
    """What the evaluation noted of scores that only it came to know: a function's keys, an uninstalled metric's."""
    found = {}
    for result in chain.from_iterable(evaluations.values()):
        for name, score in result.scores.items():
            low, high = score.range
            bounds = (-np.inf if low is None else low, np.inf if high is None else high)
            found[name] = ScoreInfo(name, score.description, score.higher_is_better, bounds)
    return found


def _score_names(frames: Sequence[pd.DataFrame]) -> list[str]:
    """The scores that all models have, in the order of the metrics."""
    others = [set(frame.columns) for frame in frames[1:]]
    return [
        name
        for name in frames[0].columns
        if name != "row"
        and not name.endswith((STATISTICS_SUFFIX, REASON_SUFFIX))
        and all(name in columns for columns in others)
    ]


def _scored(info: ScoreInfo, frames: Sequence[pd.DataFrame]) -> _Scored | None:
    columns = [frame.set_index("row")[info.name].to_numpy(dtype=float) for frame in frames]
    common = np.flatnonzero(~np.isnan(np.stack(columns)).any(axis=0))
    if not len(common):
        return None
    values = np.stack(columns)[:, common]
    stored = info.name + STATISTICS_SUFFIX
    if stored in frames[0]:
        kept = [np.stack(list(frame.set_index("row")[stored].iloc[common])) for frame in frames]
        return _Scored(info, common, values, np.stack(kept))
    return _Scored(info, common, values, values[:, :, None])
