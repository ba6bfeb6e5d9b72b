"""How often gates pass what is at the limit, fail what keeps it, and remain undecided.

Non-inferiority and means by simulation, with the truth exactly at the limit; shares and quantiles exactly, by the count
from which on they pass.
"""

from __future__ import annotations

import numpy as np
from covering.differences import DRAWS
from scipy.stats import binom

from lumigator_nb.statistics.gating import Decision, decide_mean, decide_quantile, decide_share
from lumigator_nb.statistics.resampling import FloatArray

Row = tuple[str, float, str]

_SIZES = (50, 100, 300)
_RESAMPLES, _BATCH = 2000, 25
_LARGE = 4_000_000
# Shape of the differences, and their bounds' span where there is one.
_SHAPES = {
    "normal": None, "like ROUGE": 1.0, "like exact match": 1.0, "like a judge's grades": 4.0, "like win rates": 1.0,
}  # fmt: skip
# Margins in standard deviations of the differences, for models that are equally good.
_MARGINS = (0.1, 0.2, 0.3)
_RULES = 4


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    at_most = f"≤ 0.055 ± {2 * np.sqrt(0.05 * 0.95 / repeats):.3f}"
    rows: list[Row] = []
    for name, span in _SHAPES.items():
        truth, sd = _moments(generator, name)
        for n in _SIZES:
            found = _decisions(
                generator, name, n, [truth, *(truth - margin * sd for margin in _MARGINS)], span, repeats
            )
            rows.append((f"{name}, n={n}: worse by the margin, passes", _share(found[0], "passed"), at_most))
            rows.append((f"{name}, n={n}: worse by the margin, fails ({_RULES} rules)", _share(found[0], "failed"),
                         f"≤ {0.055 / _RULES:.3f} ± {2 * np.sqrt(0.0125 / repeats):.3f}"))  # fmt: skip
            for margin, decisions in zip(_MARGINS, found[1:], strict=True):
                what = f"{name}, n={n}: equally good, margin {margin} sd, undecided"
                rows.append((what, _share(decisions, "undecided"), "for comparison"))
    return [*rows, *_costs(generator, repeats, at_most), *_shares(), *_latencies(generator, repeats, at_most)]


def _moments(generator: np.random.Generator, name: str) -> tuple[float, float]:
    values = DRAWS[name](generator, (1, _LARGE))
    return float(values.mean()), float(values.std())


def _decisions(
    generator: np.random.Generator, name: str, n: int, limits: list[float], span: float | None, repeats: int
) -> list[list[Decision]]:
    """Return the decisions of each limit."""
    found: list[list[Decision]] = [[] for _ in limits]
    for _ in range(max(1, repeats // _BATCH)):
        values = DRAWS[name](generator, (_BATCH, n))
        replicates = _replicates(generator, values)
        for one, draws in zip(values.mean(axis=1), replicates, strict=True):
            for limit, decisions in zip(limits, found, strict=True):
                decisions.append(decide_mean(one, draws, limit=limit, n=n, span=span, tests=_RULES))
    return found


def _replicates(generator: np.random.Generator, values: FloatArray) -> FloatArray:
    n = values.shape[1]
    weights = generator.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(float)
    return np.asarray(values @ weights.T / n)


def _share(decisions: list[Decision], outcome: str) -> float:
    return float(np.mean([decision.outcome == outcome for decision in decisions]))


def _costs(generator: np.random.Generator, repeats: int, at_most: str) -> list[Row]:
    """Costs per answer, which are never negative and skewed: lognormal, by the spread of the logarithm."""
    rows = []
    for sigma in (0.5, 1.0):
        for n in _SIZES:
            decisions = []
            for _ in range(max(1, repeats // _BATCH)):
                values = generator.lognormal(-(sigma**2) / 2, sigma, size=(_BATCH, n))
                for one, draws in zip(values.mean(axis=1), _replicates(generator, values), strict=True):
                    decisions.append(decide_mean(one, draws, limit=1.0, n=n, at_least=False))
            # Samples that lack the tail look cheap, which no method repairs.
            required = at_most if sigma < 1 else "for comparison"
            what = f"costs at the limit, lognormal {sigma}, n={n}, pass"
            rows.append((what, _share(decisions, "passed"), required))
    return rows


def _shares() -> list[Row]:
    """The probability to pass at the limit, exactly: of all counts from the smallest that passes."""
    rows = []
    for limit in (0.9, 0.95, 0.99):
        for n in (50, 300, 1000):
            low, high = 0, n + 1
            while high - low > 1:
                middle = (low + high) // 2
                is_enough = decide_share(middle, n, limit=limit).outcome == "passed"
                low, high = (low, middle) if is_enough else (middle, high)
            rows.append((f"share at the limit {limit}, n={n}, passes", float(binom.sf(high - 1, n, limit)), "≤ 0.05"))
    return rows


def _latencies(generator: np.random.Generator, repeats: int, at_most: str) -> list[Row]:
    """The 95% quantile at its limit: independent latencies, and latencies in slow and quick minutes."""
    rows = []
    for correlation in (0.0, 0.5, 0.9):
        passed = []
        for _ in range(repeats):
            noise = generator.normal(size=300)
            values = np.empty(300)
            values[0] = noise[0]
            for index in range(1, 300):
                values[index] = correlation * values[index - 1] + np.sqrt(1 - correlation**2) * noise[index]
            limit = float(np.exp(0.5 * 1.6448536269514722))
            passed.append(decide_quantile(np.exp(0.5 * values), 0.95, limit=limit).outcome == "passed")
        what = f"latencies at the limit, n=300, autocorrelation {correlation}, pass"
        rows.append((what, float(np.mean(passed)), at_most if correlation == 0 else "for comparison"))
    return rows
