"""Gate: may a model replace another one? Non-inferiority and limits, with the outcomes passed, failed and undecided."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display import render
from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import Html, fragment, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import FEW_EXAMPLES, Figures
from lumigator_nb.display.tables import Cell, Table, escaped, to_html, to_markdown, to_text, wrapped
from lumigator_nb.display.text import MISSING, count, joined, percent
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.metrics import FloatArray, ScoreInfo
from lumigator_nb.services.comparison.score_samples import Scored
from lumigator_nb.statistics import Decision, Outcome

Limit = Literal["at least", "at most"]
# Default margin of "not worse", as a share of the score's range.
_MARGIN = 0.02
_WIDTH = 100
_LATENCY = re.compile(r"seconds_p(\d{1,2}(?:\.\d+)?)")
DOLLARS = "dollars_per_1000"
# Shares of the examples, from the answers themselves.
_SHARES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "answered": lambda frame: frame["prediction"].notna(),
    "failed": lambda frame: frame["prediction"].isna(),
    "cut_off": lambda frame: frame["finish"] == "length" if "finish" in frame else frame["prediction"].isna() & False,
    "truncated": lambda frame: frame["truncated"] == True if "truncated" in frame else frame["row"] < 0,  # noqa: E712
}
_MARKS: dict[Outcome, str] = {"passed": "✓ passed", "failed": "✗ failed", "undecided": "? undecided"}


@dataclass(frozen=True)
class Rule:
    """One rule of a gate, and whether the candidate keeps it.

    Attributes:
        name: the score, "dollars_per_1000", "seconds_p95" (or another percentile), or "answered", "failed", "cut_off"
            and "truncated", which are shares of the examples.
        kind: "not worse" than the baseline, "at least" or "at most" a limit.
        margin: of "not worse"; NaN for the others.
        decision: outcome, value, bounds, limit, and further examples. The value of "not worse" is the candidate's
            score minus the baseline's.
        info: the score; None for cost, latency and shares of the examples.
    """

    name: str
    kind: Literal["not worse"] | Limit
    decision: Decision
    margin: float = math.nan
    info: ScoreInfo | None = None

    @property
    def outcome(self) -> Outcome:
        """Whether the rule is kept, broken, or neither is shown."""
        return self.decision.outcome

    @property
    def title(self) -> str:
        """What is measured, in words."""
        if self.name == DOLLARS:
            return "cost of 1,000 answers"
        if match := _LATENCY.fullmatch(self.name):
            return f"latency of {match[1]}% of answers"
        return self.name

    def number(self, value: float, *, signed: bool = False) -> str:
        """Return one of the rule's numbers as text."""
        if math.isnan(value) or math.isinf(value):
            return MISSING
        if self.name == DOLLARS:
            return dollars(value)
        if _LATENCY.fullmatch(self.name):
            return seconds(value)
        show = Figures(self.info or ScoreInfo(self.name, "", None, (0.0, 1.0)), [value])
        return show.signed(value) if signed else show.number(value)


@dataclass(frozen=True, repr=False)
class Gate(Rendered):
    """Whether a candidate may replace a baseline.

    Attributes:
        candidate: label of the model to decide about.
        baseline: label of the model that it must not be worse than; None if there are only limits.
        rules: the rules, in the order in which they were passed.
        confidence: probability of not passing a candidate that breaks a rule, and of not failing one that keeps all.
        n: number of examples with a score from both.
        notes: what a reader should know besides.
    """

    candidate: str
    baseline: str | None
    rules: tuple[Rule, ...]
    confidence: float
    n: int
    notes: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Failed if a rule is shown to be broken, passed if all are shown to be kept, else undecided."""
        outcomes = {rule.outcome for rule in self.rules}
        return "failed" if "failed" in outcomes else "undecided" if "undecided" in outcomes else "passed"

    @property
    def passed(self) -> bool:
        """Whether all rules are shown to be kept."""
        return self.outcome == "passed"

    @property
    def further(self) -> int | None:
        """How many further examples would decide, each rule with a probability of 80%, if all values stay as they are.

        0 if the gate is decided, None if no number within reason decides.
        """
        if self.outcome != "undecided":
            return 0
        needed = [rule.decision.further for rule in self.rules]
        return None if None in needed else max(number for number in needed if number is not None)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per rule: `rule`, `kind`, `value`, `low`, `high`, `limit`, `outcome`, `further`, `n`."""
        rows = [
            {
                "rule": rule.name, "kind": rule.kind, "value": rule.decision.value, "low": rule.decision.low,
                "high": rule.decision.high, "limit": rule.decision.limit, "outcome": rule.outcome,
                "further": rule.decision.further, "n": rule.decision.n,
            }
            for rule in self.rules
        ]  # fmt: skip
        return pd.DataFrame(rows).astype({"further": "Int64"})


def decide(
    models: Sequence[str],
    scores: Mapping[str, Scored],
    main_score: str,
    answers: pd.DataFrame,
    candidate: str,
    baseline: str | None,
    *,
    margin: float | Mapping[str, float] | None,
    at_most: Mapping[str, float],
    at_least: Mapping[str, float],
    confidence: float,
    is_free: bool,
) -> Gate:
    """See :meth:`Comparison.gate`.

    Args:
        models: labels of all compared models.
        scores: the scores by name.
        main_score: the score of the margin, if it is not a mapping.
        answers: the frame of the candidate's predictions.
        candidate, baseline: labels of the models.
        margin, at_most, at_least, confidence: as of :meth:`Comparison.gate`.
        is_free: whether the candidate is a baseline of the package, which costs nothing.
    """
    pair = [models.index(label) for label in (candidate, baseline) if label is not None]
    margins = _margins(margin, scores, main_score) if baseline is not None else {}
    tests = len(margins) + len(at_most) + len(at_least)
    if not tests:
        raise InvalidInputError("the gate has no rule", "name a baseline, at_most= or at_least=")
    own = {name: _only(scores[name], pair) for name in {*margins, *at_most, *at_least} & scores.keys()}
    options = _Options(confidence, tests)
    rules = [_not_worse(own[name], value, options) for name, value in margins.items()]
    limits: dict[Limit, Mapping[str, float]] = {"at least": at_least, "at most": at_most}
    for kind in limits:
        for name, limit in limits[kind].items():
            if name in own:
                rules.append(_limited_score(own[name], kind, limit, options))
            else:
                groups = next(iter(scores.values())).resampling.groups
                rules.append(_limited_answers(name, answers, kind, limit, options, groups, scores, is_free))
    compared = own or {main_score: _only(scores[main_score], pair)}
    n = min(scored.n for scored in compared.values())
    return Gate(candidate, baseline, tuple(rules), confidence, n, tuple(_notes(rules, compared, answers, candidate)))


@dataclass(frozen=True)
class _Options:
    """Confidence and number of rules, which every decision takes."""

    confidence: float
    tests: int

    def of(self, kind: Limit, limit: float) -> dict[str, Any]:
        """Return the keyword arguments of a decision about a limit."""
        at_least = kind == "at least"
        return {"limit": limit, "at_least": at_least, "confidence": self.confidence, "tests": self.tests}


def _margins(
    margin: float | Mapping[str, float] | None, scores: Mapping[str, Scored], main_score: str
) -> dict[str, float]:
    margins = dict(margin) if isinstance(margin, Mapping) else {main_score: margin}
    checked = {}
    for name, value in margins.items():
        if name not in scores:
            raise InvalidInputError(f"margin: there is no score {name!r} here", did_you_mean(name, scores))
        if scores[name].info.higher_is_better is None:
            raise InvalidInputError(
                f"{name} only describes; no value of it is better", "give limits: at_most=, at_least="
            )
        low, high = scores[name].info.range
        if value is None:
            if not math.isfinite(high - low):
                raise InvalidInputError(
                    f"{name} has no range to take 2% of", "say which difference does not matter: margin="
                )
            value = _MARGIN * (high - low)
        if not (value >= 0 and math.isfinite(value)):
            raise InvalidInputError(
                f"margin cannot be {value}", "give the largest difference that does not matter, such as 0.02"
            )
        checked[name] = float(value)
    return checked


def _only(scored: Scored, models: Sequence[int]) -> Scored:
    """The same examples for some models, so that only those are resampled."""
    return Scored(scored.info, scored.rows, scored.values[models], scored.statistics[models], scored.resampling)


def _not_worse(scored: Scored, margin: float, options: _Options) -> Rule:
    upward = bool(scored.info.higher_is_better)
    decision = statistics.decide_mean(
        scored.overall[0] - scored.overall[1],
        scored.replicates[0] - scored.replicates[1],
        limit=-margin if upward else margin,
        n=scored.n_units,
        at_least=upward,
        span=_span(scored.info),
        confidence=options.confidence,
        tests=options.tests,
    )
    return Rule(scored.info.name, "not worse", decision, margin, scored.info)


def _span(info: ScoreInfo) -> float | None:
    low, high = info.range
    return high - low if math.isfinite(high - low) else None


def _limited_score(scored: Scored, kind: Limit, limit: float, options: _Options) -> Rule:
    low, high = scored.info.range
    if not low <= limit <= high:
        raise InvalidInputError(
            f"{scored.info.name} cannot be {kind} {limit}: it lies between {low:g} and {high:g}", "give such a limit"
        )
    settings = options.of(kind, limit)
    values = np.round(scored.contributions[0] if scored.n > 1 else scored.values[0], 9)
    # Scores from elsewhere have no known range.
    may_be_share = (low, high) == (0.0, 1.0) or not math.isfinite(high - low)
    if scored.groups is None and may_be_share and np.isin(values, (0.0, 1.0)).all():
        decision = statistics.decide_share(int(values.sum()), scored.n, **settings)
    else:
        decision = statistics.decide_mean(
            scored.overall[0], scored.replicates[0], n=scored.n_units, span=_span(scored.info), **settings
        )
    return Rule(scored.info.name, kind, _within(decision, low, high), info=scored.info)


def _within(decision: Decision, low: float, high: float) -> Decision:
    """A bound beyond the possible values says no more than the possible values do."""
    return replace(decision, low=max(low, decision.low), high=min(high, decision.high))


def _limited_answers(
    name: str,
    answers: pd.DataFrame,
    kind: Limit,
    limit: float,
    options: _Options,
    groups: np.ndarray | None,
    scores: Mapping[str, Scored],
    is_free: bool,
) -> Rule:
    """A rule about cost, latency, or the share of answers with some property."""
    settings = options.of(kind, limit)
    latency = _LATENCY.fullmatch(name)
    if name == DOLLARS:
        costs = pd.Series(0.0, index=answers.index) if is_free else 1000 * _numbers(answers, "cost")
        known_costs = _known(costs, "a price", "set price= of the model")
        decision = _within(_decide_mean(known_costs, answers, groups, None, settings), 0.0, math.inf)
    elif latency and 0 < float(latency[1]) < 100:
        times = _known(_numbers(answers[answers["prediction"].notna()], "seconds"), "a latency", "record seconds")
        quantile = float(latency[1]) / 100
        if groups is None:
            decision = statistics.decide_quantile(times.to_numpy(), quantile, **settings)
        else:  # the share of answers within the limit decides, in groups as well
            within = {**settings, "limit": quantile, "at_least": kind == "at most"}
            by_share = _decide_mean((times <= limit).astype(float), answers, groups, 1.0, within)
            decision = Decision(
                by_share.outcome, float(times.quantile(quantile)), math.nan, math.nan, limit, by_share.n,
                by_share.further,
            )  # fmt: skip
    elif name in _SHARES:
        has = _SHARES[name](answers)
        if not 0 <= limit <= 1:
            raise InvalidInputError(f"{name} is a share and cannot be {kind} {limit}", "give a number from 0 to 1")
        if groups is None:
            decision = statistics.decide_share(int(has.sum()), len(has), **settings)
        else:
            decision = _within(_decide_mean(has.astype(float), answers, groups, 1.0, settings), 0.0, 1.0)
    else:
        known = [*scores, DOLLARS, "seconds_p50", "seconds_p95", *_SHARES]
        raise InvalidInputError(f"there is nothing called {name!r} to limit", did_you_mean(name, known))
    return Rule(name, kind, decision)


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    column = frame[name] if name in frame else pd.Series(index=frame.index, dtype=object)
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _known(values: pd.Series, what: str, hint: str) -> pd.Series:
    known = values.dropna()
    if known.empty:
        raise InvalidInputError(f"no answer of the candidate has {what}", f"{hint}, or leave the rule out")
    return known


def _decide_mean(
    values: pd.Series, answers: pd.DataFrame, groups: np.ndarray | None, span: float | None, settings: Mapping[str, Any]
) -> Decision:
    """Decide about the mean of some answers' values."""
    own = None if groups is None else groups[answers.loc[values.index, "row"].to_numpy(dtype=int)]
    n = len(values) if own is None else len(np.unique(own))
    array: FloatArray = values.to_numpy(dtype=np.float64)
    replicates = statistics.resampled_scores(array[None, :], groups=own)[0]
    return statistics.decide_mean(float(array.mean()), replicates, n=n, span=span, **settings)


def _notes(
    rules: Sequence[Rule], compared: Mapping[str, Scored], answers: pd.DataFrame, candidate: str
) -> Iterator[str]:
    n = min(scored.n for scored in compared.values())
    missing = len(answers) - n
    if missing > 0:
        verb = "has no score from every model and is" if missing == 1 else "have no score from every model and are"
        yield f"{count(missing, 'example')} {verb} left out: limit failed answers by at_least={{'answered': 0.99}}."
    if n < FEW_EXAMPLES:
        yield f"With fewer than {FEW_EXAMPLES} examples, bounds of scores that are not shares are unreliable."
    scored = next(iter(compared.values()))
    if scored.groups is not None:
        yield f"Examples come in {scored.n_units:,} groups: further examples are counted in groups."
    costs = 1000 * _numbers(answers, "cost").dropna()
    if any(rule.name == DOLLARS for rule in rules) and len(costs) > 1:
        needed = statistics.examples_for_skewness(costs.to_numpy())
        if needed > len(costs):
            yield f"Costs are skewed: a reliable bound takes {needed:,} answers, and there are {len(costs):,}."
    if any(_LATENCY.fullmatch(rule.name) for rule in rules):
        yield (
            "Latencies are those of the first request, under the load of that moment; answers of one slow minute are "
            "not independent."
        )


def sentence(gate: Gate) -> str:
    """Return the outcome in a few sentences: what is shown, and what it would take."""
    counted = f"{percent(gate.confidence)} confidence, {count(gate.n, 'example')}"
    rules = {outcome: [rule for rule in gate.rules if rule.outcome == outcome] for outcome in _MARKS}
    if gate.outcome == "passed":
        return f"Passed: {gate.candidate} is shown to keep {_all(gate)} ({counted}): {_claims(gate, gate.rules)}."
    if gate.outcome == "failed":
        broken = "; ".join(_broken(gate, rule) for rule in rules["failed"])
        return f"Failed: {gate.candidate} is shown to break {_some(gate, rules['failed'])} ({counted}): {broken}."
    unclear = rules["undecided"]
    takes = (
        f"It takes about {count(gate.further, 'further example')} to decide, if the values stay as they are."
        if gate.further is not None
        else "It is so near the limit that no number of examples within reason decides."
    )
    return (
        f"Undecided: {count(gate.n, 'example')} do not show at {percent(gate.confidence)} confidence whether "
        f"{gate.candidate} keeps {_some(gate, unclear)}: {_claims(gate, unclear)}. {takes}"
    )


def _all(gate: Gate) -> str:
    return f"all {len(gate.rules)} rules" if len(gate.rules) > 1 else "the rule"


def _some(gate: Gate, rules: Sequence[Rule]) -> str:
    return f"{len(rules)} of {len(gate.rules)} rules" if len(gate.rules) > 1 else "the rule"


def _claims(gate: Gate, rules: Sequence[Rule]) -> str:
    return joined([claim(gate, rule) for rule in rules])


def claim(gate: Gate, rule: Rule) -> str:
    """Return what a rule demands: ``rougeL not worse than that of prod by more than 0.020``."""
    if rule.kind == "not worse":
        return f"{rule.title} not worse than that of {gate.baseline} by more than {rule.number(rule.margin)}"
    return f"{rule.title} {rule.kind} {rule.number(rule.decision.limit)}"


def _broken(gate: Gate, rule: Rule) -> str:
    decision = rule.decision
    if rule.kind == "not worse":
        least = min(abs(decision.low), abs(decision.high))
        return (
            f"{rule.title} is worse than that of {gate.baseline} by {rule.number(abs(decision.value))}, surely by "
            f"{rule.number(least)}, and {rule.number(rule.margin)} is allowed"
        )
    bound = decision.high if rule.kind == "at least" else decision.low
    word = "most" if rule.kind == "at least" else "least"
    return (
        f"{rule.title} is {rule.number(decision.value)}, surely at {word} {rule.number(bound)}, and must be "
        f"{rule.kind} {rule.number(decision.limit)}"
    )


def table(gate: Gate) -> Table:
    """Return one row per rule: what is demanded, what was found, and the outcome."""
    rows: list[list[str | Cell]] = []
    for rule in gate.rules:
        decision, signed = rule.decision, rule.kind == "not worse"
        low, high = rule.number(decision.low, signed=signed), rule.number(decision.high, signed=signed)
        demanded = f"{'≤' if _is_maximum(rule) else '≥'} {rule.number(decision.limit, signed=signed)}"
        further = MISSING if decision.further is None else f"{decision.further:,}" if decision.further else ""
        rows.append(
            [
                Cell(f"{rule.title}, {gate.candidate} − {gate.baseline}" if signed else rule.title),
                rule.number(decision.value, signed=signed),
                f"[{low}, {high}]",
                demanded,
                Cell(_MARKS[rule.outcome], bold=rule.outcome != "passed"),
                further,
            ]
        )
    note = (
        f"A rule is passed if the bound on the side of its limit keeps it, and failed if the other bound breaks it. "
        f"Bounds are one-sided, at {percent(gate.confidence)} confidence"
        + (f"; for failing, {count(len(gate.rules), 'rule')} together." if len(gate.rules) > 1 else ".")
    )
    headers = ["Rule", "Found", "Bounds", "Must be", "Outcome", "Further examples"]
    return Table(headers, rows, note=note, words=(0, 4))


def _is_maximum(rule: Rule) -> bool:
    if rule.kind == "not worse":
        return rule.info is not None and rule.info.higher_is_better is False
    return rule.kind == "at most"


@render.as_text.register
def _as_text(gate: Gate) -> str:
    """Return the gate for a terminal: the outcome and the table."""
    notes = [wrapped(note, _WIDTH) for note in gate.notes]
    return "\n\n".join([wrapped(sentence(gate), _WIDTH), to_text(table(gate), _WIDTH), *notes])


@render.as_html.register
def _as_html(gate: Gate) -> str:
    """Return the gate for a notebook: the outcome and the table."""
    return fragment(*body(gate))


def body(gate: Gate) -> list[Html]:
    """Return outcome, table and notes as parts of a page."""
    return [
        tag("div", sentence(gate), class_="lm-verdict"),
        to_html(table(gate)),
        *(tag("div", note, class_="lm-note") for note in gate.notes),
    ]


@render.as_markdown.register
def _as_markdown(gate: Gate) -> str:
    """Return the gate for a pull request: the outcome, the table and notes."""
    lines = [f"**{escaped(sentence(gate))}**\n", *to_markdown(table(gate))]
    return "\n".join([*lines, *(f"- {escaped(note)}" for note in gate.notes)])
