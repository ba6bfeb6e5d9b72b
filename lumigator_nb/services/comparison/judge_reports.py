"""Judge passports: how far a judge can be trusted, measured on the very verdicts that are used."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.display import render
from lumigator_nb.display.html import Html, fragment, table, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING
from lumigator_nb.metrics import FloatArray, Judging, JuryMetric
from lumigator_nb.specs import MetricSpec, Model
from lumigator_nb.statistics import Interval

# Makers of model families by what their models' names begin with or contain.
_FAMILIES = {
    "gpt": r"\bgpt|\bo[134]\b|\bo[134]-|chatgpt|davinci",
    "claude": r"claude",
    "gemini": r"gemini|gemma|\bpalm",
    "llama": r"llama",
    "mistral": r"mi[sx]tral|ministral|magistral|codestral|pixtral|devstral",
    "qwen": r"qwen|\bqwq",
    "deepseek": r"deepseek",
    "phi": r"\bphi",
    "smollm": r"smollm",
    "command": r"command|\baya|c4ai",
    "grok": r"grok",
    "t5": r"\bt5|flan|\bmt0|\bmt5",
    "bart": r"bart",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was measured of a judge.

    Attributes:
        name: what was measured.
        value, low, high: with its interval; NaN where there is too little to tell.
        ideal: the value of a judge without fault.
        n: on how many verdicts or pairs of them.
        meaning: a sentence that says how to read it.
    """

    name: str
    value: float
    low: float
    high: float
    ideal: float
    n: int
    meaning: str

    @classmethod
    def of(cls, name: str, found: Interval, ideal: float, n: int, meaning: str) -> Finding:
        """Return a finding from an interval."""
        return cls(name, found.estimate, found.low, found.high, ideal, n, meaning)


@dataclass(frozen=True, repr=False)
class Passport(Rendered):
    """What was measured of one judge.

    Attributes:
        judge: its label, and what it judged.
        asked: verdicts asked for; `unread` of them could not be read and count nowhere.
    """

    judge: str
    findings: tuple[Finding, ...]
    asked: int
    unread: int

    def find(self, name: str) -> Finding | None:
        """Return the finding of that name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per finding: `finding`, `value`, `low`, `high`, `ideal`, `n`, `meaning`."""
        names = ("value", "low", "high", "ideal", "n", "meaning")
        return pd.DataFrame(
            [{"finding": each.name, **{name: getattr(each, name) for name in names}} for each in self.findings]
        )


def family(model: Model) -> str:
    """Return the family that a model belongs to, as far as its name tells; else its provider."""
    name = model.name.lower()
    return next((family for family, pattern in _FAMILIES.items() if re.search(pattern, name)), model.provider)


def judges_of(spec: MetricSpec) -> list[tuple[str, Model | None]]:
    """The scores of a metric that judges give, and who gives them; None is a jury."""
    metric = metrics.create(spec) if spec.name in metrics.known() else None
    if isinstance(metric, Judging):
        return [(info.name, metric.given) for info in metric.infos]
    if isinstance(metric, JuryMetric):
        judges = [None, *(judge.given for judge in metric.judges)]
        return [(info.name, judge) for info, judge in zip(metric.infos, judges, strict=True)]
    return []


def of_scores(
    title: str,
    judge: Model | None,
    values: FloatArray,
    lengths: FloatArray,
    models: Sequence[Model],
    *,
    retest: Sequence[Sequence[float]] = (),
    human: FloatArray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Passport:
    """Examine a judge that gives scores.

    Args:
        title: of the score.
        judge: who judges; None for a jury.
        values: (models, n) its scores; NaN where there is none.
        lengths: (models, n) characters of the predictions.
        models: those that were judged.
        retest: (pairs, 2) first and second score of the same predictions.
        human: (models, n) scores by people, on any scale; NaN where there is none.
        confidence, seed: of the intervals.
    """
    options = {"confidence": confidence, "seed": seed}
    findings = []
    if len(retest):
        pairs = np.asarray(retest, dtype=np.float64).T
        findings.append(_self_agreement(pairs, options))
    findings.append(_length_of_scores(values, lengths, options))
    if judge is not None and len(models) > 1:
        findings += _own_family_of_scores(judge, values, models, options)
    if human is not None:
        findings += _human_scores(values, human, options)
    return Passport(title, tuple(findings), values.size, int(np.isnan(values).sum()))


def _self_agreement(pairs: FloatArray, options: Mapping[str, float]) -> Finding:
    found = bootstrapped(statistics.krippendorff_alpha, pairs, None, options)
    if np.isnan(found.estimate) and pairs.size and (pairs[0] == pairs[1]).all():
        found = Interval(1.0, 1.0, 1.0)  # always the same score: alpha has nothing to compare with
    return Finding.of(
        "agreement with itself", found, 1.0, pairs.shape[1],
        "Krippendorff's α of two verdicts on the same prediction; 1 is always the same, 0 is chance",
    )  # fmt: skip


def _length_of_scores(values: FloatArray, lengths: FloatArray, options: Mapping[str, float]) -> Finding:
    models, n = values.shape
    rows = np.arange(n)
    if models > 1:
        pairs = [(i, j) for i in range(models) for j in range(i)]
        ratings = np.concatenate([np.stack([values[i] - values[j], lengths[i] - lengths[j]]) for i, j in pairs], axis=1)
        groups, what = np.tile(rows, len(pairs)), "differences in score and in length, on the same example"
    else:
        ratings, groups, what = np.stack([values[0], lengths[0]]), rows, "score and length, over the examples"
    known = ~np.isnan(ratings).any(axis=0)
    found = bootstrapped(lambda pair: statistics.kendall_tau(*pair), ratings[:, known], groups[known], options)
    return Finding.of(
        "length", found, 0.0, int(known.sum()),
        f"Kendall's τ of {what}; above 0 longer answers score higher, which they may deserve",
    )  # fmt: skip


def _own_family_of_scores(
    judge: Model, values: FloatArray, models: Sequence[Model], options: Mapping[str, float]
) -> list[Finding]:
    own = np.array([family(model) == family(judge) for model in models])
    if not own.any() or own.all():
        return []
    with np.errstate(invalid="ignore"):
        gaps = values[own].mean(axis=0) - values[~own].mean(axis=0)
    gaps = gaps[~np.isnan(gaps)]
    unbounded = (-np.inf, np.inf)
    found = statistics.bootstrap_interval(gaps, bounds=unbounded, **options)  # type: ignore[arg-type]
    meaning = f"score of {family(judge)} models above the others', on the same examples; they may deserve it"
    return [Finding.of("own family", found, 0.0, len(gaps), meaning)]


def _human_scores(values: FloatArray, human: FloatArray, options: Mapping[str, float]) -> list[Finding]:
    ratings = np.stack([values.ravel(), human.ravel()])
    groups = np.tile(np.arange(values.shape[1]), values.shape[0])
    return human_agreement(ratings, groups, "interval", options)


def human_agreement(ratings: FloatArray, groups: np.ndarray, level: str, options: Mapping[str, float]) -> list[Finding]:
    known = ~np.isnan(ratings).any(axis=0)
    ratings, groups = ratings[:, known], groups[known]
    alpha = bootstrapped(lambda both: statistics.krippendorff_alpha(both, level), ratings, groups, options)  # type: ignore[arg-type]
    tau = bootstrapped(lambda both: statistics.kendall_tau(*both), ratings, groups, options)
    return [
        Finding.of("agreement with people (α)", alpha, 1.0, int(known.sum()), "Krippendorff's α with human labels"),
        Finding.of("agreement with people (τ)", tau, 1.0, int(known.sum()), "Kendall's τ-b with human labels"),
    ]


def bootstrapped(
    statistic: statistics.Statistic, ratings: FloatArray, groups: np.ndarray | None, options: Mapping[str, float]
) -> Interval:
    if ratings.shape[1] < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    return statistics.bootstrap_agreement(statistic, ratings, groups=groups, **options)  # type: ignore[arg-type]


_WIDTH, _INDENT = 100, 4


@render.as_text.register
def _as_text(passport: Passport) -> str:
    """Return a passport for a terminal."""
    lines = [_title(passport)]
    for finding in passport.findings:
        lines.append(f"  {finding.name}: {_value(finding)}  (ideal {finding.ideal:g}, n = {finding.n:,})")
        lines += textwrap.wrap(finding.meaning, _WIDTH - _INDENT, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


@render.as_html.register
def _as_html(passport: Passport) -> str:
    """Return a passport for a notebook."""
    return fragment(body(passport))


def body(passport: Passport) -> Html:
    """Return a passport as a part of something larger."""
    rows = [
        [
            tag("span", each.name, tag("span", each.meaning, class_="lm-sub")),
            _value(each),
            f"{each.ideal:g}",
            f"{each.n:,}",
        ]
        for each in passport.findings
    ]
    found = table(["Measured", "Value [interval]", "Ideal", "n"], rows, numeric=(1, 2, 3))
    return tag("div", tag("div", _title(passport), class_="lm-title"), found)


def _title(passport: Passport) -> str:
    unread = f", {passport.unread:,} of {passport.asked:,} verdicts could not be had" if passport.unread else ""
    return f"Judge passport: {passport.judge}{unread}"


def _value(finding: Finding) -> str:
    if math.isnan(finding.value):
        return f"{MISSING} too little to tell"
    bounds = "" if math.isnan(finding.low) else f" [{number(finding.low)}, {number(finding.high)}]"
    return f"{number(finding.value)}{bounds}"


def number(value: float, sign: str = "") -> str:
    """Return two decimals with a true minus, and no minus before zero; `sign` "+" marks what is above zero."""
    shown = f"{abs(value):.2f}"
    if float(shown) == 0:
        return shown
    return f"{'−' if value < 0 else sign}{shown}"
