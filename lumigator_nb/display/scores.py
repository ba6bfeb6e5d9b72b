"""Render a comparison's summary: the order of the models, numbers as text, and the verdict in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lumigator_nb.display.text import MISSING, count, joined, percent, reason

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.metrics import ScoreInfo

FEW_EXAMPLES = 20
LATER = "it joined the experiment later"
# The number of models that a sentence names; further ones are counted.
_NAMED = 3
# Usual levels of significance.
_LEVELS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class ScoreRow:
    """One model's result on one score. The fields are the columns of :meth:`Comparison.summary`.

    `difference` and its interval are this model's score minus that of the leading model. `told_apart` tells whether the
    difference is significant, corrected for all pairs of models.
    """

    model: str
    overall: float
    low: float
    high: float
    best: bool
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    p_adjusted: float
    told_apart: bool
    rank_low: float
    rank_high: float
    n: int

    @property
    def leads(self) -> bool:
        """Whether this model's value is the best, possibly together with others."""
        return self.best or self.difference == 0

    @property
    def tied(self) -> bool:
        """Whether this model is not significantly different from the leading one, corrected for all pairs of models."""
        return not self.best and not self.told_apart and not math.isnan(self.overall)

    @property
    def ranks(self) -> str:
        """The possible ranks: ``1``, ``1–3``; "" if they are unknown."""
        return ranks(self.rank_low, self.rank_high)


@dataclass(frozen=True)
class Contrast:
    """The comparison of two models on one score. Each sentence about two models is made from one.

    Attributes:
        model, other: labels of the models.
        difference: overall score of `model` minus that of `other`.
        low, high: interval of the difference, not corrected; NaN with fewer than two examples.
        p_adjusted: two-sided p-value, corrected for all pairs of models; NaN with fewer than two examples.
        told_apart: whether the p-value is at most 1 - confidence.
    """

    model: str
    other: str
    difference: float
    low: float
    high: float
    p_adjusted: float
    told_apart: bool

    @property
    def clear(self) -> bool:
        """Whether both p-value and interval show a difference: the interval does not contain 0."""
        return self.told_apart and (self.low > 0 or self.high < 0)

    @property
    def same(self) -> bool:
        """Whether the two models have equal scores on every resample."""
        return self.difference == self.low == self.high == 0


class Figures:
    """Formats the numbers of one score with the same number of decimals.

    Scores with a range of at most 2 (ROUGE F: 0 to 1) get three decimals, and those with a range of at most 200 (BLEU,
    chrF: 0 to 100) one. Others get as many as the largest value needs for three significant digits.

    Args:
        info: the score.
        values: the numbers that will be formatted.
    """

    def __init__(self, info: ScoreInfo, values: Sequence[float]) -> None:
        self._decimals = _decimals(info, values)

    def number(self, value: float) -> str:
        """Return the value as text, or a dash for NaN."""
        return MISSING if math.isnan(value) else f"{value:.{self._digits(value)}f}".replace("-", "−")

    def signed(self, value: float) -> str:
        """Return the value with its sign, but 0 without."""
        return f"+{self.number(value)}" if value > 0 else self.number(value)

    def at_most(self, value: float) -> str:
        """Return an upper bound, rounded up."""
        digits = self._digits(value)
        return self.number(value if math.isnan(value) else math.ceil(round(value * 10**digits, 6)) / 10**digits)

    def _digits(self, value: float) -> int:
        # A value that is not 0 must not be shown as 0: an interval that ends at -0.0003 excludes 0.
        if not 1e-9 < abs(value) < 0.5 * 10**-self._decimals:
            return self._decimals
        return -math.floor(math.log10(abs(value)))

    def interval(self, low: float, high: float) -> str:
        """Return ``[low, high]``, or "" if there is no interval."""
        return "" if math.isnan(low) or math.isnan(high) else f"[{self.number(low)}, {self.number(high)}]"

    def difference(self, row: ScoreRow) -> str:
        """Return the difference to the leading model with its interval, or a dash for the leading one."""
        interval = self.interval(row.difference_low, row.difference_high)
        return f"{self.signed(row.difference)} {interval}".rstrip()


def _decimals(info: ScoreInfo, values: Sequence[float]) -> int:
    low, high = info.range
    if high - low <= 2:
        return 3
    if high - low <= 200:
        return 1
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1


def figures(rows: Sequence[ScoreRow], info: ScoreInfo) -> Figures:
    """Return a formatter for the overall scores of these models."""
    return Figures(info, [row.overall for row in rows])


def ranks(low: float, high: float) -> str:
    """Return possible ranks: ``1``, ``1–3``; "" for NaN."""
    if math.isnan(low):
        return ""
    return f"{int(low)}" if low == high else f"{int(low)}–{int(high)}"


def p_value(value: float) -> str:
    """Return ``p = 0.03``, or "" for NaN."""
    if math.isnan(value):
        return ""
    if value < 0.001:
        return "p < 0.001"
    text = f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    # Rounding must not move a p-value across a usual level: 0.0504 is not "0.050".
    return f"p = {value:.4f}" if float(text) in _LEVELS and float(text) != value else f"p = {text}"


def score_rows(summary: pd.DataFrame, info: ScoreInfo) -> list[ScoreRow]:
    """Return the models' results on one score, best first; in the given order if the score has no better direction."""
    records = summary[summary["score"] == info.name].to_dict("records")
    # The summary may have further columns.
    fields = ScoreRow.__dataclass_fields__
    rows = [ScoreRow(**{name: record[name] for name in fields if name in record}) for record in records]
    if info.higher_is_better is None:
        return rows
    sign = -1 if info.higher_is_better else 1
    # The leader comes first also among equals, and models without a value come last.
    return sorted(rows, key=lambda row: (not row.best, math.inf if math.isnan(row.overall) else sign * row.overall))


def verdict(rows: Sequence[ScoreRow], contrasts: Sequence[Contrast], info: ScoreInfo, confidence: float) -> str:
    """Describe in sentences which model leads on a score, and how each other model compares with it.

    Args:
        rows: the models' results on that score, in the order of :func:`score_rows`.
        contrasts: the contrast of each other model with the leading one; and, for a model that is not shown to be worse
            than the leading one, the contrast with a model that beats it, if there is one.
        info: the score.
        confidence: the level of the intervals, in (0, 1).
    """
    show = figures(rows, info)
    if not rows or rows[0].n == 0:
        return f"No example has a value of {info.name} for every model, so there is nothing to compare."
    leader = rows[0]
    if info.higher_is_better is None:
        values = joined([f"{row.model} {show.number(row.overall)}" for row in rows])
        return f"{info.name} is only descriptive, no value of it is better: {values}."
    if len(rows) == 1:
        value = f"{show.number(leader.overall)} {show.interval(leader.low, leader.high)}".rstrip()
        reached = f"{leader.model} reaches {value} on {info.name} ({count(leader.n, 'example')})"
        return f"{reached}. There is no other model to compare it with."
    if leader.n == 1:
        return f"Only one example is scored on {info.name}, which cannot tell models apart."
    if math.isnan(leader.overall):
        return f"No model has a value of {info.name}, so there is nothing to compare."
    return " ".join(_ranking(rows, contrasts, info, show, confidence))


def _ranking(
    rows: Sequence[ScoreRow], contrasts: Sequence[Contrast], info: ScoreInfo, show: Figures, confidence: float
) -> Iterator[str]:
    leader, missing = rows[0], [row.model for row in rows if math.isnan(row.overall)]
    order = [row.model for row in rows if row.model not in missing]
    to_leader = {contrast.model: contrast for contrast in contrasts if contrast.other == leader.model}
    others = [to_leader[model] for model in order[1:]]
    by_another = {contrast.model: contrast for contrast in contrasts if contrast.other != leader.model}
    equal = [contrast for contrast in others if contrast.difference == 0]
    rest = [contrast for contrast in others if contrast not in equal]
    undecided = [contrast.model for contrast in rest if not contrast.told_apart and contrast.model not in by_another]

    best = f"the {'highest' if info.higher_is_better else 'lowest'} {info.name} ({show.number(leader.overall)})"
    leaders = _few([leader.model, *(contrast.model for contrast in equal)])
    yield f"{joined(leaders)} share {best}." if equal else f"{leader.model} has {best}."
    if undecided:
        claim = "None of the others can" if 1 < len(undecided) == len(rest) else f"{joined(_few(undecided))} cannot"
        certainty = f"at {percent(confidence)} confidence with {count(leader.n, 'example')}"
        yield f"{claim} be told apart from {'them' if equal else 'it'} {certainty}."
    if worse := [contrast for contrast in others if contrast.clear]:
        # Models with equal values may differ on single examples, so the sentence has to name one of them.
        yield _losers(worse, f" than {leader.model}" if any(not contrast.same for contrast in equal) else "", show)
    for contrast in others:
        if contrast.told_apart and not contrast.clear:
            yield f"{contrast.model} is {_borderline(contrast, show)}."
    if by_another:
        yield _beaten([(to_leader[model], by_another[model]) for model in order if model in by_another], show)
    if missing:
        yield f"{joined(_few(missing))} {'has' if len(missing) == 1 else 'have'} no value."


def _few(models: Sequence[str]) -> list[str]:
    rest = len(models) - _NAMED
    return [*models[:_NAMED], count(rest, "other")] if rest > 0 else list(models)


def _losers(worse: Sequence[Contrast], than: str, show: Figures) -> str:
    named = [f"{contrast.model} is worse{than} by {gap(contrast, show)}" for contrast in worse[:_NAMED]]
    sizes = list(map(show.number, sorted(abs(contrast.difference) for contrast in worse[_NAMED:])))
    if len(sizes) == 1:
        named.append(f"one other is worse{than} by {sizes[0]}")
    elif sizes:
        named.append(f"{len(sizes)} others are worse{than}, by {sizes[0]} to {sizes[-1]}")
    return "; ".join(named) + "."


def gap(contrast: Contrast, show: Figures) -> str:
    """Return the size of the difference between two models, with its interval."""
    sign = 1 if contrast.difference > 0 else -1
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    return f"{show.number(abs(contrast.difference))} {show.interval(low, high)}".rstrip()


def _borderline(contrast: Contrast, show: Figures) -> str:
    """Describe a difference that is significant by its corrected p-value, but whose interval contains 0."""
    difference = f"{show.signed(contrast.difference)} {show.interval(contrast.low, contrast.high)}"
    return f"a borderline case against {contrast.other} (difference {difference}, {p_value(contrast.p_adjusted)})"


def _beaten(pairs: Sequence[tuple[Contrast, Contrast]], show: Figures) -> str:
    """Describe models that are beaten, but not by the leading one: contrasts with the leader and with the winner."""
    named = []
    for to_leader, to_winner in pairs[:_NAMED]:
        p = p_value(to_leader.p_adjusted)
        not_shown = f"{to_leader.model} is not shown to be worse than {to_leader.other} ({p})"
        if to_winner.clear:
            named.append(f"{not_shown}, but is worse than {to_winner.other} by {gap(to_winner, show)}")
        else:
            named.append(f"{not_shown}, and {_borderline(to_winner, show)}")
    if (rest := len(pairs) - _NAMED) > 0:
        named.append(f"{count(rest, 'other')} {'is' if rest == 1 else 'are'} beaten by another model only")
    return "; ".join(named) + "."


def not_computed(
    lacking: Mapping[str, Mapping[str, str]], uncompared: Sequence[str], models: Sequence[str]
) -> list[str]:
    """Return sentences on scores that models lack, with the reasons, and on what to do.

    Args:
        lacking: by metric and model, the reason why there are no scores.
        uncompared: the scores for which no example has a value from every model.
        models: all models of the comparison.
    """
    sentences = []
    for metric, reasons in lacking.items():
        by_reason: dict[str, list[str]] = {}
        for model, error in reasons.items():
            by_reason.setdefault(reason(error), []).append(model)
        for cause, labels in by_reason.items():
            which = "any model" if len(labels) == len(models) > 1 else joined(labels)
            claim = f"{metric} {'was not' if cause == LATER else 'could not be'} computed for {which}"
            sentences.append(f"{claim}: {cause.rstrip('.…')}.")
    if uncompared:
        sentences.append(f"{joined(uncompared)}: not compared, as no example has a value from every model.")
    if sentences:
        sentences.append("ws.evaluate(experiment) computes what is missing, where that is possible now.")
    return sentences
