"""Biases of a pairwise judge: for a position, for length, and for models of its own family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import Aggregate, FloatArray
from lumigator_nb.services.comparison.judge_reports import Finding, JudgeReport, family, human_agreement
from lumigator_nb.specs import Model
from lumigator_nb.statistics import BradleyTerryIntervals, Interval


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
) -> JudgeReport:
    """Examine a judge that names the better of two.

    The model of a judge: with some probability it follows the position, otherwise with some probability the length,
    and otherwise the quality of the answers. As each pair is asked in both orders, quality cancels out.

    Args:
        title: what was judged, and the judge.
        judge: the model; None for a jury.
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
        _share("position", 0.0, read["row"], read["preference"], options,
               "share of verdicts that follow the position: above 0 the first answer is preferred, else the second"),
        _share("agreement of both orders", 1.0, both["row"], both["forward"] == both["backward"], options,
               "share of pairs with the same winner in either order"),
        _length(read, options),
    ]  # fmt: skip
    if len(retest):
        equal = sum(first == second for first, second in retest)
        interval = statistics.wilson_interval(equal, len(retest), confidence)
        meaning = "share of questions answered alike when asked again"
        findings.append(Finding.of("agreement with itself", interval, 1.0, len(retest), meaning))
    if judge is not None:
        findings += _own_family(both, families, family(judge), options)
    if human is not None:
        findings += _human_preferences(both, human, options)
    return JudgeReport(title, tuple(findings), len(verdicts), len(verdicts) - len(read))


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


def ranked(votes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Rank models by preferences, after Bradley and Terry.

    Args:
        votes: one row per vote: `row`, `model`, `other`, `preference`: 1 the model is better, −1 the other, 0 neither.
        confidence, seed: of the intervals; examples are resampled, not single votes.

    Returns:
        One row per model, the strongest first: `model`, `strength` (log-odds against an average model) with `low` and
        `high`, `wins`, `ties`, `losses`, `n`. Where a model only won or only lost, half a win and half a loss are
        added for each model, so that all strengths are finite.
    """
    models = sorted({*votes["model"], *votes["other"]})
    codes = {model: code for code, model in enumerate(models)}
    first, second = (votes[name].map(codes).to_numpy(dtype=np.int64) for name in ("model", "other"))
    outcome = votes["preference"].to_numpy(dtype=np.float64)
    rows = votes["row"].to_numpy()
    try:
        fit = _strengths(first, second, outcome, rows, len(models), 0.0, confidence, seed)
    except InvalidInputError:  # a model only won, or only lost: its strength would be infinite
        fit = _strengths(first, second, outcome, rows, len(models), 0.5, confidence, seed)
    counts = {
        name: (
            np.bincount(first, outcome == sign, len(models)) + np.bincount(second, outcome == -sign, len(models))
        ).astype(np.int64)
        for name, sign in (("wins", 1), ("ties", 0), ("losses", -1))
    }
    strengths = {"strength": fit.strengths, "low": fit.low, "high": fit.high}
    frame = pd.DataFrame({"model": models, **strengths, **counts})
    frame["n"] = frame[["wins", "ties", "losses"]].sum(axis=1)
    return frame.sort_values("strength", ascending=False, ignore_index=True)


def _strengths(
    first: np.ndarray, second: np.ndarray, outcome: FloatArray, rows: np.ndarray, n: int, prior: float,
    confidence: float, seed: int,
) -> BradleyTerryIntervals:  # fmt: skip
    return statistics.bradley_terry_intervals(
        first, second, outcome, n, units=rows, regularization=prior, confidence=confidence, seed=seed
    )


def _share(
    name: str, ideal: float, rows: pd.Series, counted: pd.Series, options: Mapping[str, float], meaning: str
) -> Finding:
    """Return the mean of a value per verdict, with its interval."""

    def share(totals: FloatArray, n: int) -> FloatArray:
        return totals[..., 0] / totals[..., 1]

    sums = pd.DataFrame({"counted": counted, "n": 1.0}, index=rows.index)
    return Finding.of(name, _over_examples(rows, sums, share, options), ideal, len(rows), meaning)


def _length(read: pd.DataFrame, options: Mapping[str, float]) -> Finding:
    """Return the share of verdicts that follow the length, among those that do not follow the position.

    With p the share that follows the position, and q the share of the rest that follows the length, the mean
    preference for the first answer is p + (1 − |p|)·q where it is longer, and p − (1 − |p|)·q where it is shorter.
    Half of the difference of both, divided by 1 − |p|, is q.
    """

    def share(totals: FloatArray, n: int) -> FloatArray:
        longer, shorter = totals[..., 0] / totals[..., 1], totals[..., 2] / totals[..., 3]
        place = np.abs(totals[..., 4] / totals[..., 5])
        follows: FloatArray = np.clip((longer - shorter) / 2 / (1 - place), -1.0, 1.0)
        return follows

    longer = (read["first_length"] > read["second_length"]).astype(float)
    shorter = (read["first_length"] < read["second_length"]).astype(float)
    won = read["preference"]
    sums = pd.DataFrame({"a": won * longer, "na": longer, "b": won * shorter, "nb": shorter, "p": won, "n": 1.0})
    meaning = "share of the other verdicts that follow the length: above 0 the longer answer is preferred"
    interval = _over_examples(read["row"], sums, share, options)
    return Finding.of("length", interval, 0.0, int((longer + shorter).sum()), meaning)


def _over_examples(rows: pd.Series, sums: pd.DataFrame, value: Aggregate, options: Mapping[str, float]) -> Interval:
    """Return an interval of a value that is computed from sums over verdicts.

    Examples are resampled, so that the verdicts on one example, which depend on each other, are drawn together.
    """
    totals = sums.groupby(rows.to_numpy()).sum().to_numpy(dtype=np.float64)
    if len(totals) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    with np.errstate(invalid="ignore", divide="ignore"):
        return statistics.bootstrap_interval(totals, value, bounds=(-1.0, 1.0), **options)  # type: ignore[arg-type]


def _own_family(
    both: pd.DataFrame, families: Mapping[str, str], own: str, options: Mapping[str, float]
) -> list[Finding]:
    mine = both["model"].map(families).eq(own)
    theirs = both["other"].map(families).eq(own)
    mixed = both[mine != theirs]
    if not len(mixed):
        return []
    won = mixed["preference"].where(mine[mixed.index], -mixed["preference"])
    meaning = f"wins of {own} models over others less their losses; they may deserve it"
    return [_share("own family", 0.0, mixed["row"], won, options, meaning)]


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
    return human_agreement(ratings, joined["row"].to_numpy(), "nominal", options)
