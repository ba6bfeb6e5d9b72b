"""How often intervals of a mean cover it, by distribution, examples and method, and for clustered examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lumigator_nb.statistics.bootstrap import Interval, Method, intervals
from lumigator_nb.statistics.resampling import FloatArray, pseudo_values, resampled_scores

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]

_REQUIRED = "0.93–0.97"
_SIZES = (50, 200, 1000)
_RESAMPLES, _BATCH = 1000, 20
_GROUPS, _PER_GROUP = 60, 5
_RATINGS, _LIKERT = np.arange(1.0, 6), np.array([0.05, 0.1, 0.2, 0.4, 0.25])
_DRAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda generator, size: generator.normal(size=size), 0.0),
    "exponential": (lambda generator, size: generator.exponential(size=size), 1.0),
    "lognormal 0.5": (lambda generator, size: generator.lognormal(sigma=0.5, size=size), float(np.exp(0.125))),
    "lognormal 0.75": (lambda generator, size: generator.lognormal(sigma=0.75, size=size), float(np.exp(0.28125))),
    "beta(5, 2)": (lambda generator, size: generator.beta(5, 2, size=size), 5 / 7),
    "Likert 1–5": (lambda generator, size: generator.choice(_RATINGS, p=_LIKERT, size=size), float(_LIKERT @ _RATINGS)),
    "binary 0.3": (lambda generator, size: (generator.random(size) < 0.3).astype(float), 0.3),
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, (draw, mean) in _DRAWS.items():
        for n in _SIZES:
            bca, percentile = _covered(generator, draw, n, mean, repeats)
            rows.append((f"BCa, {name}, n={n}", bca, _REQUIRED))
            rows.append((f"percentile, {name}, n={n}", percentile, "for comparison"))
    for name, labels, required in (
        ("groups drawn", np.repeat(np.arange(_GROUPS), _PER_GROUP), _REQUIRED),
        ("examples drawn (too narrow)", None, "≤ 0.90"),
    ):
        covered, _ = _covered(generator, _clustered, _GROUPS * _PER_GROUP, 0.0, repeats, labels)
        rows.append((f"BCa, {_GROUPS} groups of {_PER_GROUP}, half of the variance between, {name}", covered, required))
    return rows


def _covered(
    generator: np.random.Generator,
    draw: Draw,
    n: int,
    mean: float,
    repeats: int,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the share of intervals that hold the mean, for BCa and for percentiles."""
    hits = np.zeros(2)
    for values in _batches(generator, draw, n, repeats):
        replicates = resampled_scores(
            values[:, :, None], _mean, groups=groups, n_resamples=_RESAMPLES, seed=int(generator.integers(2**32))
        )
        contributions = pseudo_values(values[:, :, None], _mean)
        methods: tuple[Method, ...] = ("bca", "percentile")
        for index, method in enumerate(methods):
            found = intervals(values.mean(axis=1), replicates, contributions, groups=groups, method=method)
            hits[index] += sum(_holds(one, mean) for one in found)
    bca, percentile = hits / repeats
    return float(bca), float(percentile)


def _batches(generator: np.random.Generator, draw: Draw, n: int, repeats: int) -> Iterator[FloatArray]:
    """Yield (size, n) scores; only these share draws of examples, lest all repeats hang on one set of draws."""
    for start in range(0, repeats, _BATCH):
        yield draw(generator, (min(_BATCH, repeats - start), n))


def _clustered(generator: np.random.Generator, size: tuple[int, ...]) -> FloatArray:
    shared = generator.normal(size=(size[0], size[1] // _PER_GROUP))
    return np.repeat(shared, _PER_GROUP, axis=1) + generator.normal(size=size)


def _mean(totals: FloatArray, n: int | FloatArray) -> FloatArray:
    found: FloatArray = totals[..., 0] / n
    return found


def _holds(interval: Interval, mean: float) -> bool:
    # A bound that equals the mean but for rounding holds it.
    return interval.low - 1e-12 <= mean <= interval.high + 1e-12
