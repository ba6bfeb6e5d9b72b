"""Judge passports: how far a judge can be trusted, measured on the very verdicts that are used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.display import passports as shown
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


class _Measure:
    """A number that follows from sums over verdicts, so that it can be resampled."""

    def sums(self, table: pd.DataFrame) -> pd.DataFrame:
        raise NotImplementedError

    def value(self, totals: FloatArray, n: int) -> FloatArray:
        raise NotImplementedError


class _Place(_Measure):
    def sums(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"won": table["preference"], "n": 1.0}, index=table.index)

    def value(self, totals: FloatArray, n: int) -> FloatArray:
        return totals[..., 0] / totals[..., 1]


class _Same(_Measure):
    def sums(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"same": table["forward"] == table["backward"], "n": 1.0}, index=table.index)

    def value(self, totals: FloatArray, n: int) -> FloatArray:
        return totals[..., 0] / totals[..., 1]


class _Length(_Measure):
    """With p the share that follows the place and q that of the rest that follows the length, the first answer is
    preferred by p + (1 − |p|)·q where it is the longer, and by p − (1 − |p|)·q where it is the shorter.
    """

    def sums(self, table: pd.DataFrame) -> pd.DataFrame:
        longer = (table["first_length"] > table["second_length"]).astype(float)
        shorter = (table["first_length"] < table["second_length"]).astype(float)
        won = table["preference"]
        return pd.DataFrame({"a": won * longer, "na": longer, "b": won * shorter, "nb": shorter, "p": won, "n": 1.0})

    def value(self, totals: FloatArray, n: int) -> FloatArray:
        longer, shorter = totals[..., 0] / totals[..., 1], totals[..., 2] / totals[..., 3]
        place = np.abs(totals[..., 4] / totals[..., 5])
        share: FloatArray = np.clip((longer - shorter) / 2 / (1 - place), -1.0, 1.0)
        return share


class _Won(_Measure):
    def sums(self, table: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"won": table["own"], "n": 1.0}, index=table.index)

    def value(self, totals: FloatArray, n: int) -> FloatArray:
        return totals[..., 0] / totals[..., 1]


_place, _same, _length, _won = _Place(), _Same(), _Length(), _Won()


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


@dataclass(frozen=True)
class Passport:
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

    def __str__(self) -> str:
        return shown.as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return shown.as_html(self)


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
    found = _bootstrapped(statistics.krippendorff_alpha, pairs, None, options)
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
    found = _bootstrapped(lambda pair: statistics.kendall_tau(*pair), ratings[:, known], groups[known], options)
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
    found = statistics.bootstrap_interval(gaps[:, None], _mean, **options)  # type: ignore[arg-type]
    meaning = f"score of {family(judge)} models above the others', on the same examples; they may deserve it"
    return [Finding.of("own family", found, 0.0, len(gaps), meaning)]


def _human_scores(values: FloatArray, human: FloatArray, options: Mapping[str, float]) -> list[Finding]:
    ratings = np.stack([values.ravel(), human.ravel()])
    groups = np.tile(np.arange(values.shape[1]), values.shape[0])
    return _human(ratings, groups, "interval", options)


def _human(ratings: FloatArray, groups: np.ndarray, level: str, options: Mapping[str, float]) -> list[Finding]:
    known = ~np.isnan(ratings).any(axis=0)
    ratings, groups = ratings[:, known], groups[known]
    alpha = _bootstrapped(lambda both: statistics.krippendorff_alpha(both, level), ratings, groups, options)  # type: ignore[arg-type]
    tau = _bootstrapped(lambda both: statistics.kendall_tau(*both), ratings, groups, options)
    return [
        Finding.of("agreement with people (α)", alpha, 1.0, int(known.sum()), "Krippendorff's α with human labels"),
        Finding.of("agreement with people (τ)", tau, 1.0, int(known.sum()), "Kendall's τ-b with human labels"),
    ]


def of_preferences(
    title: str,
    judge: Model | None,
    verdicts: pd.DataFrame,
    families: Mapping[str, str],
    *,
    retest: Sequence[tuple[float, float]] = (),
    human: pd.DataFrame | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Passport:
    """Examine a judge that names the better of two.

    A judge is taken for one that with some probability follows the place, otherwise with some probability the length,
    and otherwise what the answers deserve. As each pair is asked in both orders, what they deserve cancels out.

    Args:
        title: what was judged, by whom.
        judge: who judges; None for a jury.
        verdicts: one row per question: `row`, `first` and `second` (labels), `first_length` and `second_length`
            (characters), `preference`: 1 the first is better, −1 the second, 0 neither, NaN not read. Both orders of
            a pair are there.
        families: of the models, by label.
        retest: first and second preference of the same questions.
        human: `row`, `model`, `other`, `preference`: 1 the model is better, −1 the other, 0 neither.
        confidence, seed: of the intervals; examples are resampled, not single verdicts.
    """
    options = {"confidence": confidence, "seed": seed}
    read = verdicts[verdicts["preference"].notna()]
    both = paired(read)
    findings = [
        _interval_of(read, _place, "position", 0.0, len(read), options,
                     "share of verdicts that follow the place: above 0 the first answer is preferred, else the second"),
        _interval_of(both, _same, "agreement of both orders", 1.0, len(both), options,
                     "share of pairs with the same winner in either order"),
        _interval_of(read, _length, "length", 0.0, int((read["first_length"] != read["second_length"]).sum()), options,
                     "share of the other verdicts that follow the length: above 0 the longer answer is preferred"),
    ]  # fmt: skip
    if len(retest):
        equal = sum(first == second for first, second in retest)
        found = statistics.wilson_interval(equal, len(retest), confidence)
        meaning = "share of questions answered alike when asked again"
        findings.append(Finding.of("agreement with itself", found, 1.0, len(retest), meaning))
    if judge is not None:
        findings += _own_family(both, families, family(judge), options)
    if human is not None:
        findings += _human_preferences(both, human, options)
    return Passport(title, tuple(findings), len(verdicts), len(verdicts) - len(read))


def paired(read: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair that was read in both orders: `row`, `model`, `other`, `forward`, `backward`.

    `forward` and `backward` are 1 where `model` won, −1 where `other` did, 0 for a tie, by the order of the question;
    `preference` is where both agree, and 0, a tie, where they do not.
    """
    turned = read["first"] > read["second"]
    table = pd.DataFrame(
        {
            "row": read["row"],
            "model": read["first"].where(~turned, read["second"]),
            "other": read["second"].where(~turned, read["first"]),
            "order": np.where(turned, "backward", "forward"),
            "won": np.where(turned, -read["preference"], read["preference"]).astype(float),
        }
    )
    if not len(table):
        return pd.DataFrame(columns=["row", "model", "other", "forward", "backward", "preference"])
    wide = table.pivot(index=["row", "model", "other"], columns="order", values="won")
    wide = wide.reindex(columns=["forward", "backward"]).dropna().reset_index()
    wide["preference"] = wide["forward"].where(wide["forward"] == wide["backward"], 0.0)
    return wide.rename_axis(columns=None)


def _interval_of(
    table: pd.DataFrame, measure: _Measure, name: str, ideal: float, n: int, options: Mapping[str, float], meaning: str
) -> Finding:
    """Bootstrap a measure over examples: all verdicts on one example are drawn together."""
    sums = measure.sums(table).groupby(table["row"].to_numpy()).sum().to_numpy(dtype=np.float64)
    if len(sums) < 2:
        return Finding(name, float("nan"), float("nan"), float("nan"), ideal, n, meaning)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = statistics.bootstrap_interval(sums, measure.value, **options)  # type: ignore[arg-type]
    return Finding.of(name, found, ideal, n, meaning)


def _own_family(
    both: pd.DataFrame, families: Mapping[str, str], own: str, options: Mapping[str, float]
) -> list[Finding]:
    mine = both["model"].map(families).eq(own)
    theirs = both["other"].map(families).eq(own)
    mixed = both[mine != theirs].copy()
    if not len(mixed):
        return []
    mixed["own"] = mixed["preference"].where(mine[mixed.index], -mixed["preference"])
    meaning = f"wins of {own} models over others less their losses; they may deserve it"
    return [_interval_of(mixed, _won, "own family", 0.0, len(mixed), options, meaning)]


def _human_preferences(both: pd.DataFrame, human: pd.DataFrame, options: Mapping[str, float]) -> list[Finding]:
    turned = human["model"] > human["other"]
    labels = pd.DataFrame(
        {
            "row": human["row"],
            "model": human["model"].where(~turned, human["other"]),
            "other": human["other"].where(~turned, human["model"]),
            "human": human["preference"].where(~turned, -human["preference"]).astype(float),
        }
    )
    joined = both.merge(labels, on=["row", "model", "other"])
    ratings = joined[["preference", "human"]].to_numpy(dtype=np.float64).T
    return _human(ratings, joined["row"].to_numpy(), "nominal", options)


def _bootstrapped(
    statistic: statistics.Statistic, ratings: FloatArray, groups: np.ndarray | None, options: Mapping[str, float]
) -> Interval:
    if ratings.shape[1] < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    return statistics.bootstrap_agreement(statistic, ratings, groups=groups, **options)  # type: ignore[arg-type]


def _mean(totals: FloatArray, n: int) -> FloatArray:
    return totals[..., 0] / n
