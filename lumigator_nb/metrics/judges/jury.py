"""Juries: several judges of one criterion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import Metric, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.judges.judge import Ask, JudgeMetric, label_of
from lumigator_nb.metrics.registry import create, metric_class
from lumigator_nb.specs import MetricSpec, Model, Task


def Jury(  # noqa: N802
    judges: Sequence[MetricSpec], *, combine: Literal["mean", "median"] = "mean", name: str | None = None
) -> MetricSpec:
    """Return the metric that combines the scores of several judges of one criterion (Verga et al. 2024).

    Replacing one large judge by several small ones of different families lessens the bias of each
    (https://arxiv.org/abs/2404.18796). An example counts where more than half of the judges gave it a score.

    Args:
        judges: at least two, made by :func:`Judge`.
        combine: "mean" or "median" of their scores.
        name: of the score; default the first judge's.

    Raises:
        InvalidInputError: there are fewer than two, or one is not a judge.

    Examples:
        >>> other = model.model_copy(update={"label": "another judge"})
        >>> jury = lm.Jury([lm.Judge("fluency", model), lm.Judge("fluency", other)])
        >>> lm.score(["Ben is late."], examples=["Ben: I am late."], metrics=jury).columns.tolist()
        ['fluency', 'fluency by a server', 'fluency by another judge']
    """
    options: dict[str, Any] = {"judges": [judge.model_dump(mode="json") for judge in judges], "combine": combine}
    spec = MetricSpec(name=JuryMetric.name, options={**options, **({"name": name} if name else {})})
    create(spec)
    return spec


@metric_class
class JuryMetric(Metric):
    """Several judges of one criterion; see :func:`Jury`, which makes its options."""

    name = "jury"

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As of :class:`Metric`: the criterion and the members."""
        return f"jury {spec.title} ({', '.join(label_of(judge['options']) for judge in spec.options['judges'])})"

    def __init__(self, *, judges: Sequence[dict[str, Any]], combine: str = "mean", name: str | None = None) -> None:
        choice(self.name, "combine", combine, ("mean", "median"))
        given = [create(MetricSpec.model_validate(judge)) for judge in judges]
        self.judges = [judge for judge in given if isinstance(judge, JudgeMetric)]
        if len(given) < 2 or len(self.judges) < len(given):
            raise InvalidInputError("a jury needs two judges or more", "lm.Jury([lm.Judge(…), lm.Judge(…)])")
        if len({judge.scale for judge in self.judges}) > 1:
            raise InvalidInputError("the judges of a jury use different scales", "give all the same scale=")
        self._combine, self._title = combine, name or self.judges[0].title
        labels = [f"{self._title} by {judge.model.label}" for judge in self.judges]
        if len(set(labels)) < len(labels):
            raise InvalidInputError("a jury has the same model twice", "tell them apart: lm.Model(…, label='…')")
        low, high = map(float, self.judges[0].scale)
        description = f"{self._title}, {combine} of {len(labels)} judges"
        members = [
            ScoreInfo(label, judge.infos[0].description, True, (low, high))
            for label, judge in zip(labels, self.judges, strict=True)
        ]
        self.infos = (ScoreInfo(self._title, description, True, (low, high)), *members)
        self.needs = frozenset().union(*(judge.needs for judge in self.judges))

    @property
    def title(self) -> str:
        """As of :class:`Metric`."""
        return self._title

    @property
    def asks(self) -> tuple[Model, ...]:
        """As of :class:`Metric`."""
        return tuple(judge.model for judge in self.judges)

    @property
    def ask(self) -> Ask:
        """Asks the judges; as of :class:`Judging`."""
        return self.judges[0].ask

    @ask.setter
    def ask(self, ask: Ask) -> None:
        for judge in self.judges:
            judge.ask = ask

    def set_task(self, task: Task) -> None:
        """As of :class:`Judging`."""
        for judge in self.judges:
            judge.set_task(task)
        self.needs = frozenset().union(*(judge.needs for judge in self.judges))

    @property
    def cost(self) -> float | None:
        """Dollars of all judges; None where none has a price."""
        costs = [judge.cost for judge in self.judges if judge.cost is not None]
        return sum(costs) if costs else None

    @property
    def details(self) -> dict[str, Any]:
        """The labels of the judges, and each judge's retest under the name of its own score."""
        details: dict[str, Any] = {"judge": ", ".join(judge.model.label for judge in self.judges), "retest": {}}
        for info, judge in zip(self.infos[1:], self.judges, strict=True):
            details["retest"][info.name] = next(iter(judge.details["retest"].values()), [])
        return details

    def prepare(self) -> None:
        """As of :class:`Metric`."""
        for judge in self.judges:
            judge.prepare()

    @property
    def signature(self) -> str:
        """As of :class:`Metric`."""
        return f"jury|combine:{self._combine}|" + " + ".join(judge.signature for judge in self.judges)

    def _score(self, rows: Rows) -> list[Scores]:
        by_judge = [judge._score(rows)[0] for judge in self.judges]
        table = np.stack([scores.values for scores in by_judge]) if len(rows) else np.empty((len(by_judge), 0))
        enough = (~np.isnan(table)).sum(axis=0) * 2 > len(by_judge)
        values = np.full(len(rows), np.nan)
        values[enough] = (np.nanmean if self._combine == "mean" else np.nanmedian)(table[:, enough], axis=0)
        reasons = [None if good else "half of the judges or more gave no score" for good in enough]
        members = [
            Scores(info, scores.values, scores.statistics, scores.reasons)
            for info, scores in zip(self.infos[1:], by_judge, strict=True)
        ]
        return [Scores.of(self.infos[0], values, reasons), *members]
