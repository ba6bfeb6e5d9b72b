"""How often intervals of a share cover it: exact, by summing over all counts; beside statsmodels."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from lumigator_nb.statistics.bootstrap import bootstrap_interval
from lumigator_nb.statistics.resampling import FloatArray

Row = tuple[str, float, str]

_SIZES = (20, 50, 200)
_SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
_ANYWHERE = np.arange(1, 2000) / 2000
_GROUPS, _PER_GROUP = 40, 5


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated with mean widths, the share found, and what is required of it."""
    from statsmodels.stats.proportion import proportion_confint

    rows: list[Row] = []
    for n in _SIZES:
        counts = np.arange(n + 1)
        methods = {
            "ours": _ours(n),
            "statsmodels, Wilson": np.array([proportion_confint(each, n, method="wilson") for each in counts]),
            "statsmodels, Clopper-Pearson": np.array([proportion_confint(each, n, method="beta") for each in counts]),
            "percentiles": _ours(n, method="percentile"),
        }
        for method, bounds in methods.items():
            ours = method == "ours"
            for share in _SHARES:
                (covered,), (width,) = _covered(bounds, np.array([share]))
                name = f"share {share:g}, n={n}: {method}, width {width:.3f}"
                rows.append((name, covered, "0.91–1" if ours else "for comparison"))
            covered, _ = _covered(bounds, _ANYWHERE)
            rows.append(
                (f"any share, n={n}: {method}, mean", covered.mean(), "0.94–0.96" if ours else "for comparison")
            )
            rows.append((f"any share, n={n}: {method}, least", covered.min(), "≥ 0.91" if ours else "for comparison"))
    return [*rows, *_grouped(repeats, np.random.default_rng(seed))]


def _ours(n: int, **options: str) -> FloatArray:
    """(n + 1, 2) bounds for each count of successes."""
    found = [bootstrap_interval(np.arange(n) < count, **options) for count in range(n + 1)]  # type: ignore[arg-type]
    return np.array([(one.low, one.high) for one in found])


def _covered(bounds: FloatArray, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(shares,) how often the bounds of the counts hold each share, and their mean width."""
    counts = np.arange(len(bounds))
    chances = binom.pmf(counts, len(bounds) - 1, shares[:, None])
    inside = (bounds[:, 0] <= shares[:, None]) & (shares[:, None] <= bounds[:, 1])
    return (chances * inside).sum(axis=1), chances @ (bounds[:, 1] - bounds[:, 0])


def _grouped(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows, groups = [], np.repeat(np.arange(_GROUPS), _PER_GROUP)
    for share in (0.5, 0.8, 0.95):
        hits = np.zeros(2)
        for _ in range(repeats):
            chance = generator.beta(3 * share, 3 * (1 - share), size=_GROUPS)
            right = generator.random(len(groups)) < np.repeat(chance, _PER_GROUP)
            for index, drawn in enumerate((groups, None)):
                found = bootstrap_interval(right, groups=drawn, n_resamples=100)
                hits[index] += found.low <= share <= found.high
        name = f"share {share:g}, {_GROUPS} groups of {_PER_GROUP}"
        rows.append((f"{name}: groups drawn", float(hits[0]) / repeats, "0.93–0.98"))
        rows.append((f"{name}: examples drawn (too narrow)", float(hits[1]) / repeats, "for comparison"))
    return rows
