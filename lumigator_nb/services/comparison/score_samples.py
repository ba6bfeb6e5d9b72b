"""One score of all models, and what its resamples say: intervals, differences, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.database.records import Experiment
from lumigator_nb.errors import LumigatorError
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.specs import MetricResult
from lumigator_nb.statistics import Difference, Interval, RankSet
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX

# Scores of which fewer differ from the rest hardly show how far they spread.
FEW_THAT_DIFFER = 5


@dataclass(frozen=True)
class Resampling:
    """How a comparison resamples.

    Attributes:
        confidence: of all intervals.
        n_resamples: of the bootstrap.
        seed: the same seed gives the same numbers.
        groups: (rows,) labels; examples of one group are drawn together. None draws each by itself.
    """

    confidence: float
    n_resamples: int
    seed: int
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Scored:
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
    resampling: Resampling

    @property
    def n(self) -> int:
        """Examples."""
        return len(self.rows)

    @property
    def decides(self) -> bool:
        """Whether a value of it is better than another."""
        return self.info.higher_is_better is not None

    @cached_property
    def groups(self) -> np.ndarray | None:
        """(n,) labels of the examples, where they come in groups."""
        return None if self.resampling.groups is None else self.resampling.groups[self.rows]

    @cached_property
    def n_units(self) -> int:
        """What is drawn: examples, or groups of them."""
        return self.n if self.groups is None else len(np.unique(self.groups))

    @cached_property
    def overall(self) -> FloatArray:
        """(models,) overall scores."""
        return self.info.aggregate(self.statistics.sum(axis=1), self.n)

    @cached_property
    def upward(self) -> FloatArray:
        """(models,) overall scores of which more is better; -inf for a model that has none."""
        upward = self.overall if self.info.higher_is_better else -self.overall
        return np.where(np.isnan(upward), -np.inf, upward)

    @cached_property
    def contributions(self) -> FloatArray:
        """(models, n) what each example contributes to the overall score; for a mean, its own score."""
        return statistics.pseudo_values(self.statistics, self.info.aggregate)

    @cached_property
    def replicates(self) -> FloatArray:
        """(models, resamples) overall scores on resampled examples, the same ones for all models."""
        return statistics.resampled_scores(
            self.statistics,
            self.info.aggregate,
            groups=self.groups,
            n_resamples=self.resampling.n_resamples,
            seed=self.resampling.seed,
        )

    @cached_property
    def best(self) -> int | None:
        """The index of the model with the best overall score; None where none is better."""
        if not self.decides:
            return None
        return int(np.argmax(self.upward))

    @cached_property
    def intervals(self) -> list[Interval]:
        """The overall score of each model with its interval."""
        # Functions of users seldom state their range.
        stated = any(map(np.isfinite, self.info.range))
        return statistics.intervals(
            self.overall,
            self.replicates,
            self.contributions,
            groups=self.groups,
            confidence=self.resampling.confidence,
            bounds=self.info.range if stated else None,
        )

    @cached_property
    def alike(self) -> list[int | None]:
        """Per model how many examples score the same, where all but a few do; None elsewhere, and for shares.

        So few differ that they hardly show how far scores spread, and the interval is likely to be too narrow.
        """
        return [_most_alike(own, self.info.range) for own in self.contributions]

    def difference(self, index: int, other: int) -> Difference:
        """Return by how much the overall score of one model exceeds that of another."""
        return statistics.difference(
            self.overall[index] - self.overall[other],
            self.replicates[index] - self.replicates[other],
            self.contributions[index] - self.contributions[other],
            groups=self.groups,
            confidence=self.resampling.confidence,
        )

    @cached_property
    def needed_for_skewness(self) -> int:
        """How many examples, or groups, the skewness of the differences to the leading model asks for."""
        if self.best is None or self.n_units < 2:
            return 0
        apart = self.contributions - self.contributions[self.best]
        return max(statistics.examples_for_skewness(one, groups=self.groups) for one in apart)

    @cached_property
    def p_adjusted(self) -> FloatArray:
        """(models, models) p-values of the differences, corrected for all pairs."""
        return statistics.pairwise_p_values(self.overall, self.replicates, n=self.n_units)

    @cached_property
    def ranks(self) -> tuple[RankSet, ...]:
        """Which ranks are possible for each model."""
        return statistics.rank_sets(
            self.overall,
            self.replicates,
            higher_is_better=bool(self.info.higher_is_better),
            confidence=self.resampling.confidence,
            n=self.n_units,
        )

    @cached_property
    def wins(self) -> tuple[np.ndarray, np.ndarray]:
        """(models, models) examples on which the model of the row beats that of the column, and ties."""
        return statistics.wins(self.values, higher_is_better=bool(self.info.higher_is_better))


def _most_alike(own: FloatArray, bounds: tuple[float, float]) -> int | None:
    near = 1e-9 * np.abs(own).max(initial=0.0)
    places = np.unique(np.round(own / near) if near > 0 else own, return_counts=True)[1]
    two_valued = len(places) <= 2 and np.isin(np.round(own, 9), (0.0, 1.0, *bounds)).all()
    differing = len(own) - int(places.max())
    few = differing < FEW_THAT_DIFFER <= len(own) / 2
    return int(places.max()) if few and not two_valued else None


def main_score(infos: Sequence[ScoreInfo]) -> str | None:
    """Return the score that decides where none is named: of those that judge the one with the greatest headline.

    Scores that only describe come last; None where there is no score at all.
    """
    judged = [info for info in infos if info.higher_is_better is not None]
    return max(judged or infos[:1], key=lambda info: info.headline).name if infos else None


def scored_of(
    experiment: Experiment,
    frames: Sequence[pd.DataFrame],
    evaluations: Mapping[str, Sequence[MetricResult]],
    resampling: Resampling,
) -> list[Scored]:
    """Return the scores that every model has on at least one example, in the order of the metrics.

    Args:
        frames: of each model the frame of the evaluation's shards.
        evaluations: per label how the metrics went.
        resampling: how intervals are found.
    """
    known = {**_stored_infos(evaluations), **_infos_of(experiment)}
    found = [_scored(known.get(name) or metrics.info(name), frames, resampling) for name in _score_names(frames)]
    return [scored for scored in found if scored is not None]


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


def _scored(info: ScoreInfo, frames: Sequence[pd.DataFrame], resampling: Resampling) -> Scored | None:
    columns = [frame.set_index("row")[info.name].to_numpy(dtype=float) for frame in frames]
    common = np.flatnonzero(~np.isnan(np.stack(columns)).any(axis=0))
    if not len(common):
        return None
    values = np.stack(columns)[:, common]
    stored = info.name + STATISTICS_SUFFIX
    if stored in frames[0]:
        kept = [np.stack(list(frame.set_index("row")[stored].iloc[common])) for frame in frames]
        return Scored(info, common, values, np.stack(kept), resampling)
    return Scored(info, common, values, values[:, :, None], resampling)
