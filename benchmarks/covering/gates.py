"""Gates: how often candidates exactly at the limit pass or fail, and how many as good as the baseline are undecided."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from lumigator_nb.statistics.gating import GateResult, gate_difference, gate_mean
from lumigator_nb.statistics.resampling import FloatArray, resampled_scores

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int, float], FloatArray]

_MARGIN, _SIZES, _RESAMPLES = 0.05, (50, 200, 1000), 500
_WRONG = "≤ 0.055 ± 0.014"
# Of shares, which are quick to simulate.
_MORE = 10


def _near(generator: np.random.Generator, n: int, behind: float) -> FloatArray:
    scores = generator.normal(0.7, 0.15, size=n) + generator.normal(0, 0.1, size=(2, n))
    scores[0] -= behind
    return scores


def _right(generator: np.random.Generator, n: int, behind: float) -> FloatArray:
    return (generator.random((2, n)) < np.array([[0.8 - behind], [0.8]])).astype(np.float64)


def _failing_rarely(generator: np.random.Generator, n: int, behind: float) -> FloatArray:
    return np.vstack([generator.random(n) >= behind, np.ones(n)]).astype(np.float64)


def _repeated(generator: np.random.Generator, n: int, behind: float) -> FloatArray:
    """Means over 5 right or wrong answers, with chances that differ between examples."""
    chances = generator.beta(3, 1, size=n) * (1 - np.array([[behind / 0.75], [0.0]]))
    return np.asarray(generator.binomial(5, chances) / 5, dtype=np.float64)


_DRAWS: dict[str, Draw] = {
    "equal spread": _near,
    "right or wrong": _right,
    "rare failures": _failing_rarely,
    "means over 5 repeats": _repeated,
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    return [*_difference_rows(repeats, generator), *_mean_rows(repeats, generator)]


def _difference_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows = []
    for name, draw in _DRAWS.items():
        for n in _SIZES:
            at_margin = _shares(_gate(generator, draw(generator, n, _MARGIN)) for _ in range(repeats))
            equal = _shares(_gate(generator, draw(generator, n, 0.0)) for _ in range(repeats))
            what = f"{name}, n={n}"
            rows.append((f"worse by the margin, passes, {what}", at_margin["passed"], _WRONG))
            rows.append((f"  fails, {what}", at_margin["failed"], _WRONG))
            rows.append((f"as good, passes, {what}", equal["passed"], "for information"))
            rows.append((f"  undecided, {what}", equal["undecided"], "for information"))
    return rows


def _mean_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows, many = [], range(_MORE * repeats)
    for share in (0.95, 0.99):
        for n in _SIZES:
            found = _shares(gate_mean(generator.random(n) < share, at_least=share) for _ in many)
            rows.append((f"a share of exactly {share}, passes, n={n}", found["passed"], "≤ 0.05 ± 0.005"))
            rows.append((f"  fails, n={n}", found["failed"], "≤ 0.05 ± 0.005"))
    for n in _SIZES:
        found = _shares(_gate_dollars(generator, n) for _ in range(repeats))
        rows.append((f"lognormal costs of exactly the limit, passes, n={n}", found["passed"], _WRONG))
        rows.append((f"  fails, n={n}", found["failed"], _WRONG))
    # Whether the further examples decide as often as planned, where the estimate is the truth.
    further = gate_mean([True] * 93 + [False] * 7, at_least=0.9).further or 0
    found = _shares(gate_mean(generator.random(100 + further) < 0.93, at_least=0.9) for _ in many)
    rows.append((f"passes with the {further} examples more that 93 of 100 ask for", found["passed"], "0.75–0.95"))
    return rows


def _gate(generator: np.random.Generator, scores: FloatArray) -> GateResult:
    draws = resampled_scores(scores, n_resamples=_RESAMPLES, seed=_seed(generator))
    # Rounding must not turn a candidate at the margin into one within it.
    return gate_difference(scores.mean(axis=1), draws, margin=_MARGIN - 1e-12, n=scores.shape[1], span=1.0)


def _gate_dollars(generator: np.random.Generator, n: int) -> GateResult:
    dollars = generator.lognormal(sigma=0.75, size=n)
    limit = float(np.exp(0.75**2 / 2))
    return gate_mean(dollars, at_most=limit, n_resamples=_RESAMPLES, seed=_seed(generator))


def _shares(results: Iterable[GateResult]) -> dict[str, float]:
    outcomes = [result.outcome for result in results]
    return {outcome: outcomes.count(outcome) / len(outcomes) for outcome in ("passed", "failed", "undecided")}


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(8))  # a few sets of draws, which are cached: they take longer than all else
