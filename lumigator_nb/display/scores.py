"""What a comparison's summary says: order of the models, figures as text, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.text import MISSING, count, joined, percent, reason

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.metrics import ScoreInfo

FEW_EXAMPLES = 20
LATER = "it joined the experiment later"
_NAMED = 3
_LEVELS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Standing:
    """How one model did on one score; the fields are the columns of :meth:`Comparison.summary`.

    `difference` and its interval are this model minus the leading one; `told_apart` says whether that is shown not to
    be 0, corrected for all pairs of models.
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
        """Whether its value is the best, alone or with others."""
        return self.best or self.difference == 0

    @property
    def tied(self) -> bool:
        """Whether it cannot be told apart from the leading model, corrected for all pairs of models."""
        return not self.best and not self.told_apart and not math.isnan(self.overall)

    @property
    def ranks(self) -> str:
        """The possible ranks: ``1``, ``1–3``; nothing where there are none."""
        return ranks(self.rank_low, self.rank_high)


@dataclass(frozen=True)
class Contrast:
    """What one score shows of one model against another; every sentence that compares two models is made from one.

    Attributes:
        model, other: labels.
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
        """Whether the interval says so, too: the two are told apart, and 0 lies outside."""
        return self.told_apart and (self.low > 0 or self.high < 0)

    @property
    def same(self) -> bool:
        """Whether the two score alike on every resample."""
        return self.difference == self.low == self.high == 0


class Figures:
    """Numbers of one score as text, all with the decimals that fit its range.

    Three decimals where the range is within 2 (ROUGE F: 0 to 1), one where it is within 200 (BLEU, chrF: 0 to 100), and
    else as many as show three digits of the largest value.

    Args:
        info: of the score.
        values: those that are shown.
    """

    def __init__(self, info: ScoreInfo, values: Sequence[float]) -> None:
        self._decimals = _decimals(info, values)

    def number(self, value: float) -> str:
        """Return the value, or a dash where there is none."""
        return MISSING if math.isnan(value) else f"{value:.{self._digits(value)}f}".replace("-", "−")

    def signed(self, value: float) -> str:
        """Return the value with its sign; 0 has none."""
        return f"+{self.number(value)}" if value > 0 else self.number(value)

    def at_most(self, value: float) -> str:
        """Return an upper bound, rounded up."""
        digits = self._digits(value)
        return self.number(value if math.isnan(value) else math.ceil(round(value * 10**digits, 6)) / 10**digits)

    def _digits(self, value: float) -> int:
        # What isn't 0 doesn't read as 0: an interval up to 0.0003 says that it excludes 0.
        if not 1e-9 < abs(value) < 0.5 * 10**-self._decimals:
            return self._decimals
        return -math.floor(math.log10(abs(value)))

    def interval(self, low: float, high: float) -> str:
        """Return ``[low, high]``, or nothing where there is no interval."""
        return "" if math.isnan(low) or math.isnan(high) else f"[{self.number(low)}, {self.number(high)}]"

    def difference(self, standing: Standing) -> str:
        """Return the difference to the leading model with its interval, or a dash for the leading one."""
        interval = self.interval(standing.difference_low, standing.difference_high)
        return f"{self.signed(standing.difference)} {interval}".rstrip()


def _decimals(info: ScoreInfo, values: Sequence[float]) -> int:
    low, high = info.range
    if high - low <= 2:
        return 3
    if high - low <= 200:
        return 1
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1


def figures(standings: Sequence[Standing], info: ScoreInfo) -> Figures:
    """Return how to write the numbers of these standings."""
    return Figures(info, [standing.overall for standing in standings])


def ranks(low: float, high: float) -> str:
    """Return possible ranks: ``1``, ``1–3``; nothing where there are none."""
    if math.isnan(low):
        return ""
    return f"{int(low)}" if low == high else f"{int(low)}–{int(high)}"


def p_value(value: float) -> str:
    """Return ``p = 0.03``, or nothing where there is none."""
    if math.isnan(value):
        return ""
    if value < 0.001:
        return "p < 0.001"
    text = f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    # Rounding must not move it across the usual levels: 0.0504 is not "0.050".
    return f"p = {value:.4f}" if float(text) in _LEVELS and float(text) != value else f"p = {text}"


def standings(summary: pd.DataFrame, info: ScoreInfo) -> list[Standing]:
    """Return how the models did on one score, best first; in the order given where no value is better."""
    rows = summary[summary["score"] == info.name].drop(columns="score")
    found = [Standing(**_plain(row)) for row in rows.to_dict("records")]
    if info.higher_is_better is None:
        return found
    sign = -1 if info.higher_is_better else 1
    # The leader comes first also among equals, and models without a value come last.
    return sorted(found, key=lambda s: (not s.best, math.inf if math.isnan(s.overall) else sign * s.overall))


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items() if key in Standing.__dataclass_fields__}


def verdict(found: Sequence[Standing], contrasts: Sequence[Contrast], info: ScoreInfo, confidence: float) -> str:
    """Say which model leads on a score, and of each other what is shown: against whom, and by how much.

    Args:
        found: the models on that score, in the order of :func:`standings`.
        contrasts: of each model but the leading one against it; and against one that beats it, where the leading one is
            not shown to.
        info: of the score.
        confidence: of the intervals, in (0, 1).
    """
    show = figures(found, info)
    if not found or found[0].n == 0:
        return f"No example has a value of {info.name} for every model, so there is nothing to compare."
    if info.higher_is_better is None:
        values = joined([f"{one.model} {show.number(one.overall)}" for one in found])
        return f"{info.name} only describes, no value of it is better: {values}."
    if len(found) == 1:
        return _alone(found[0], info, show)
    if found[0].n == 1:
        return f"Only one example is scored on {info.name}, which cannot tell models apart."
    if math.isnan(found[0].overall):
        return f"No model has a value of {info.name}, so there is nothing to compare."
    return " ".join(_ranked(found, contrasts, info, show, confidence))


def _alone(only: Standing, info: ScoreInfo, show: Figures) -> str:
    value = f"{show.number(only.overall)} {show.interval(only.low, only.high)}".rstrip()
    examples = count(only.n, "example")
    return f"{only.model} reaches {value} on {info.name} ({examples}). There is no other model to compare it with."


def _ranked(
    found: Sequence[Standing], contrasts: Sequence[Contrast], info: ScoreInfo, show: Figures, confidence: float
) -> Iterator[str]:
    leader, missing = found[0], [one.model for one in found if math.isnan(one.overall)]
    order = [one.model for one in found if one.model not in missing]
    to_leader = {each.model: each for each in contrasts if each.other == leader.model}
    others = [to_leader[model] for model in order[1:]]
    by_another = {each.model: each for each in contrasts if each.other != leader.model}
    equal = [each for each in others if each.difference == 0]
    undecided = [
        each.model for each in others if not each.told_apart and each.model not in by_another and each not in equal
    ]

    what = f"the {'highest' if info.higher_is_better else 'lowest'} {info.name} ({show.number(leader.overall)})"
    sharing = _few([leader.model, *(each.model for each in equal)])
    yield f"{joined(sharing)} share {what}." if equal else f"{leader.model} has {what}."
    if undecided:
        everyone = 1 < len(undecided) == len(others) - len(equal)
        claim = "None of the others can" if everyone else f"{joined(_few(undecided))} cannot"
        certainty = f"at {percent(confidence)} confidence with {count(leader.n, 'example')}"
        yield f"{claim} be told apart from {'them' if equal else 'it'} {certainty}."
    if worse := [each for each in others if each.clear]:
        # Models of equal value may differ on the examples, so that one has to be named.
        yield _losers(worse, f" than {leader.model}" if any(not each.same for each in equal) else "", show)
    yield from (f"{each.model} is {_near(each, show)}." for each in others if each.told_apart and not each.clear)
    if by_another:
        yield _beaten([(to_leader[model], by_another[model]) for model in order if model in by_another], show)
    if missing:
        yield f"{joined(_few(missing))} {'has' if len(missing) == 1 else 'have'} no value."


def _few(models: Sequence[str]) -> list[str]:
    rest = len(models) - _NAMED
    return [*models[:_NAMED], count(rest, "other")] if rest > 0 else list(models)


def _losers(worse: Sequence[Contrast], than: str, show: Figures) -> str:
    named = [f"{each.model} is worse{than} by {gap(each, show)}" for each in worse[:_NAMED]]
    rest = [show.number(abs(each.difference)) for each in sorted(worse[_NAMED:], key=lambda each: abs(each.difference))]
    if len(rest) == 1:
        named.append(f"one other is worse{than} by {rest[0]}")
    elif rest:
        named.append(f"{len(rest)} others are worse{than}, by {rest[0]} to {rest[-1]}")
    return "; ".join(named) + "."


def gap(each: Contrast, show: Figures) -> str:
    """Return how far apart two models are that are told apart, with the interval."""
    sign = 1 if each.difference > 0 else -1
    low, high = sorted((sign * each.low, sign * each.high))
    return f"{show.number(abs(each.difference))} {show.interval(low, high)}".rstrip()


def _near(each: Contrast, show: Figures) -> str:
    """Where the corrected p-value tells two models apart and the interval does not."""
    difference = f"{show.signed(each.difference)} {show.interval(each.low, each.high)}"
    return f"a borderline case against {each.other} (difference {difference}, {p_value(each.p_adjusted)})"


def _beaten(pairs: Sequence[tuple[Contrast, Contrast]], show: Figures) -> str:
    """What is shown of models that another model than the leading one beats; of each, both contrasts."""
    named = []
    for leader, another in pairs[:_NAMED]:
        not_shown = f"{leader.model} is not shown to be worse than {leader.other} ({p_value(leader.p_adjusted)})"
        worse = f"but is worse than {another.other} by {gap(another, show)}"
        named.append(f"{not_shown}, {worse if another.clear else f'and {_near(another, show)}'}")
    if (rest := len(pairs) - _NAMED) > 0:
        named.append(f"{count(rest, 'other')} {'is' if rest == 1 else 'are'} beaten by another model only")
    return "; ".join(named) + "."


def not_computed(
    lacking: Mapping[str, Mapping[str, str]], uncompared: Sequence[str], models: Sequence[str]
) -> list[str]:
    """Return which metrics models lack, and why, in a sentence for each reason; and what to do about it.

    Args:
        lacking: by metric and model, why it has no scores.
        uncompared: the scores that no example has from every model.
        models: all that are compared.
    """
    found = []
    for metric, reasons in lacking.items():
        by_reason: dict[str, list[str]] = {}
        for model, error in reasons.items():
            by_reason.setdefault(reason(error), []).append(model)
        for why, without in by_reason.items():
            which = "any model" if len(without) == len(models) > 1 else joined(without)
            found.append(
                f"{metric} {'was not' if why == LATER else 'could not be'} computed for {which}: {why.rstrip('.…')}."
            )
    if uncompared:
        found.append(f"{joined(uncompared)}: not compared, as no example has a value from every model.")
    return [*found, "ws.evaluate(experiment) computes what is missing, where that is possible now."] if found else []
