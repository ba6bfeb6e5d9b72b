"""What preferences tell of the judge who has them: does it follow the place, the length, its own family?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.metrics import FloatArray
from lumigator_nb.services.passports import Finding, Passport, family, human_agreement
from lumigator_nb.specs import Model


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
    return human_agreement(ratings, joined["row"].to_numpy(), "nominal", options)
