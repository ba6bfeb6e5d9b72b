"""What a comparison's summary says: order of the models, figures as text, and the verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.text import MISSING, count, joined, percent

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.metrics import ScoreInfo

FEW_EXAMPLES = 20
_NAMED = 3


@dataclass(frozen=True)
class Standing:
    """How one model did on one score; the fields are the columns of :meth:`Comparison.summary`.

    `difference` and its interval are this model minus the leading one.
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
    rank_low: float
    rank_high: float
    n: int

    @property
    def tied(self) -> bool:
        """Whether it cannot be told apart from the best: rank 1 is possible, corrected for all pairs of models."""
        return not self.best and not self.rank_low > 1

    @property
    def ranks(self) -> str:
        """The possible ranks: ``1``, ``1–3``; nothing where there are none."""
        return ranks(self.rank_low, self.rank_high)

    @property
    def same(self) -> bool:
        """Whether it equals the leading model on every resample."""
        return self.n > 0 and self.difference == self.difference_low == self.difference_high == 0


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
        return MISSING if math.isnan(value) else f"{value:.{self._decimals}f}".replace("-", "−")

    def signed(self, value: float) -> str:
        """Return the value with its sign."""
        return MISSING if math.isnan(value) else f"{value:+.{self._decimals}f}".replace("-", "−")

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
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


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


def verdict(summary: pd.DataFrame, info: ScoreInfo, confidence: float) -> str:
    """Say which model leads on a score, which cannot be told apart from it, and which are worse by how much.

    Args:
        summary: frame of :meth:`Comparison.summary`.
        info: of the score.
        confidence: of the intervals in it, in (0, 1).
    """
    found = standings(summary, info)
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
    return _ranked(found, info, show, confidence)


def _alone(only: Standing, info: ScoreInfo, show: Figures) -> str:
    value = f"{show.number(only.overall)} {show.interval(only.low, only.high)}".rstrip()
    examples = count(only.n, "example")
    return f"{only.model} reaches {value} on {info.name} ({examples}). There is no other model to compare it with."


def _ranked(found: Sequence[Standing], info: ScoreInfo, show: Figures, confidence: float) -> str:
    leader, others = found[0], found[1:]
    same = [one.model for one in others if one.same]
    close = [one.model for one in others if one.tied and not one.same]
    worse = [one for one in others if not one.tied]
    what = f"the {'highest' if info.higher_is_better else 'lowest'} {info.name} ({show.number(leader.overall)})"
    who = f"{joined([leader.model, *same])} share" if same else f"{leader.model} has"
    sentences = [f"{who} {what}."]
    if close:
        claim = f"{joined(_few(close))} cannot" if worse or len(close) == 1 else "None of the others can"
        certainty = f"at {percent(confidence)} confidence with {count(leader.n, 'example')}"
        sentences.append(f"{claim} be told apart from {'them' if same else 'it'} {certainty}.")
    if worse:
        sentences.append(_losers(worse, show))
    return " ".join(sentences)


def _few(models: Sequence[str]) -> list[str]:
    rest = len(models) - _NAMED
    return [*models[:_NAMED], count(rest, "other")] if rest > 0 else list(models)


def _losers(worse: Sequence[Standing], show: Figures) -> str:
    named = [f"{one.model} is worse by {_loss(one, show)}" for one in worse[:_NAMED]]
    rest = worse[_NAMED:]
    if rest:
        noun = "one other is" if len(rest) == 1 else f"{len(rest)} others are"
        named.append(f"{noun} worse by {show.number(min(abs(one.difference) for one in rest))} or more")
    return "; ".join(named) + "."


def _loss(one: Standing, show: Figures) -> str:
    ends = sorted((abs(one.difference_low), abs(one.difference_high)))
    return f"{show.number(abs(one.difference))} {show.interval(*ends)}"
