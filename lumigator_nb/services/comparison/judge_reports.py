"""Judge reports: the reliability of a judge, measured on the verdicts that the comparison uses."""

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

# Model families by patterns in their models' names; the first match counts. Word boundaries keep "phi" out of "dolphin"
# and OpenAI's "o1" out of longer names.
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
    """One measurement of a judge.

    Attributes:
        name: what was measured.
        value, low, high: the value with its interval; NaN if there are too few verdicts.
        ideal: the value of a perfect judge.
        n: number of verdicts, or of pairs of verdicts.
        meaning: a sentence that says how to read the value.
    """

    name: str
    value: float
    low: float
    high: float
    ideal: float
    n: int
    meaning: str

    @classmethod
    def of(cls, name: str, interval: Interval, ideal: float, n: int, meaning: str) -> Finding:
        """Return a finding from an interval."""
        return cls(name, interval.estimate, interval.low, interval.high, ideal, n, meaning)


@dataclass(frozen=True, repr=False)
class JudgeReport(Rendered):
    """The measured reliability of one judge.

    Attributes:
        judge: the score and the judge's label.
        findings: the measurements.
        asked: number of verdicts that the judge was asked for.
        unread: number of those that are missing or could not be read; they count nowhere.
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
        columns = ("value", "low", "high", "ideal", "n", "meaning")
        return pd.DataFrame(
            [
                {"finding": finding.name, **{column: getattr(finding, column) for column in columns}}
                for finding in self.findings
            ]
        )


def family(model: Model) -> str:
    """Return the family of a model by its name, such as "gpt"; its provider if the name does not tell."""
    name = model.name.lower()
    return next((family for family, pattern in _FAMILIES.items() if re.search(pattern, name)), model.provider)


def judges_of(spec: MetricSpec) -> list[tuple[str, Model | None]]:
    """Return the scores of a metric that judges give, each with its judge; None is a jury.

    Empty for a metric without judges, or one that is not installed here.
    """
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
    models: Sequence[Model | None],
    *,
    retest: Sequence[Sequence[float]] = (),
    human: FloatArray | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> JudgeReport:
    """Measure the reliability of a judge that gives scores.

    Args:
        title: the score and the judge's label.
        judge: the judge; None for a jury.
        values: (models, n) the judge's scores; NaN for none.
        lengths: (models, n) characters of the predictions.
        models: the models that were judged; None for one whose settings are unknown.
        retest: (pairs, 2) first and second score of the same predictions.
        human: (models, n) human scores, on any scale; NaN for none.
        confidence: level of the intervals, in (0, 1).
        seed: of the bootstrap.
    """
    options = {"confidence": confidence, "seed": seed}
    rows = np.arange(values.shape[1])
    findings = []
    if len(retest):
        pairs = np.asarray(retest, dtype=np.float64).T
        agreement = bootstrapped(statistics.krippendorff_alpha, pairs, None, options)
        if np.isnan(agreement.estimate) and pairs.size and (pairs[0] == pairs[1]).all():
            # If every score is the same number, α is 0/0: by chance alone the judge would agree, too.
            agreement = Interval(1.0, 1.0, 1.0)
        meaning = "Krippendorff's α of two verdicts on the same prediction; 1 is always the same, 0 is chance"
        findings.append(Finding.of("agreement with itself", agreement, 1.0, pairs.shape[1], meaning))
    findings.append(_length_bias(values, lengths, options))
    known = [model for model in models if model is not None]
    if judge is not None and len(known) == len(models) > 1:
        is_own = np.array([family(model) == family(judge) for model in known])
        if is_own.any() and not is_own.all():
            # NaN, and so left out, if the judge gave one of an example's answers no score.
            gaps = values[is_own].mean(axis=0) - values[~is_own].mean(axis=0)
            gaps = gaps[~np.isnan(gaps)]
            # Not bounded by the gaps' own range: that they are all equal does not prove that all others would be.
            unbounded = (-np.inf, np.inf)
            gap = statistics.bootstrap_interval(gaps, bounds=unbounded, **options)  # type: ignore[arg-type]
            meaning = f"score of {family(judge)} models above the others', on the same examples; they may deserve it"
            findings.append(Finding.of("own family", gap, 0.0, len(gaps), meaning))
    if human is not None:
        # One column per answer; the answers to one example are resampled together.
        ratings = np.stack([values.ravel(), human.ravel()])
        findings += human_agreement(ratings, np.tile(rows, len(values)), "interval", options)
    return JudgeReport(title, tuple(findings), values.size, int(np.isnan(values).sum()))


def _length_bias(values: FloatArray, lengths: FloatArray, options: Mapping[str, float]) -> Finding:
    """The correlation of scores with lengths.

    With several models it is that of the differences on the same example, since longer inputs may have longer answers
    and other scores whatever the judge. Resampled by example, because its pairs of models are not independent.
    """
    models, n = values.shape
    rows = np.arange(n)
    if models > 1:
        pairs = [(i, j) for i in range(models) for j in range(i)]
        ratings = np.concatenate([np.stack([values[i] - values[j], lengths[i] - lengths[j]]) for i, j in pairs], axis=1)
        groups, subject = np.tile(rows, len(pairs)), "differences in score and in length, on the same example"
    else:
        ratings, groups, subject = np.stack([values[0], lengths[0]]), rows, "score and length, over the examples"
    complete = ~np.isnan(ratings).any(axis=0)
    tau = bootstrapped(lambda both: statistics.kendall_tau(*both), ratings[:, complete], groups[complete], options)
    meaning = f"Kendall's τ of {subject}; above 0 longer answers score higher, which they may deserve"
    return Finding.of("length", tau, 0.0, int(complete.sum()), meaning)


def human_agreement(ratings: FloatArray, groups: np.ndarray, level: str, options: Mapping[str, float]) -> list[Finding]:
    """Return how well a judge agrees with people.

    Args:
        ratings: (2, n) the judge's verdicts and the human ones; NaN for none.
        groups: (n,) the examples; verdicts on one example are resampled together.
        level: level of measurement, as of :func:`lumigator_nb.statistics.krippendorff_alpha`.
        options: `confidence` and `seed` of the bootstrap.
    """
    complete = ~np.isnan(ratings).any(axis=0)
    ratings, groups, n = ratings[:, complete], groups[complete], int(complete.sum())
    alpha = bootstrapped(lambda both: statistics.krippendorff_alpha(both, level), ratings, groups, options)  # type: ignore[arg-type]
    tau = bootstrapped(lambda both: statistics.kendall_tau(*both), ratings, groups, options)
    return [
        Finding.of("agreement with people (α)", alpha, 1.0, n, "Krippendorff's α with human labels"),
        Finding.of("agreement with people (τ)", tau, 1.0, n, "Kendall's τ-b with human labels"),
    ]


def bootstrapped(
    statistic: statistics.Statistic, ratings: FloatArray, groups: np.ndarray | None, options: Mapping[str, float]
) -> Interval:
    """Return the statistic of (raters, n) ratings with its interval; NaN with fewer than two columns."""
    if ratings.shape[1] < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    return statistics.bootstrap_agreement(statistic, ratings, groups=groups, **options)  # type: ignore[arg-type]


_WIDTH, _INDENT = 100, 4


@render.as_text.register
def _as_text(report: JudgeReport) -> str:
    """Return a judge report for a terminal."""
    lines = [_title(report)]
    for finding in report.findings:
        lines.append(f"  {finding.name}: {_value(finding)}  (ideal {finding.ideal:g}, n = {finding.n:,})")
        lines += textwrap.wrap(finding.meaning, _WIDTH - _INDENT, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


@render.as_html.register
def _as_html(report: JudgeReport) -> str:
    """Return a judge report for a notebook."""
    return fragment(body(report))


def body(report: JudgeReport) -> Html:
    """Return a judge report as a part of a page."""
    rows = [
        [
            tag("span", finding.name, tag("span", finding.meaning, class_="lm-sub")),
            _value(finding),
            f"{finding.ideal:g}",
            f"{finding.n:,}",
        ]
        for finding in report.findings
    ]
    findings = table(["Measured", "Value [interval]", "Ideal", "n"], rows, numeric=(1, 2, 3))
    return tag("div", tag("div", _title(report), class_="lm-title"), findings)


def _title(report: JudgeReport) -> str:
    unread = f", {report.unread:,} of {report.asked:,} verdicts are missing" if report.unread else ""
    return f"Judge report: {report.judge}{unread}"


def _value(finding: Finding) -> str:
    if math.isnan(finding.value):
        return f"{MISSING} too little to tell"
    bounds = "" if math.isnan(finding.low) else f" [{number(finding.low)}, {number(finding.high)}]"
    return f"{number(finding.value)}{bounds}"


def number(value: float, sign: str = "") -> str:
    """Return a number with two decimals, a typographic minus, and no minus before zero.

    `sign` stands before a positive number, such as "+".
    """
    digits = f"{abs(value):.2f}"
    if float(digits) == 0:
        return digits
    return f"{'−' if value < 0 else sign}{digits}"
