"""How often corrected tests raise any false alarm, and sets of ranks miss a true one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import ndtr
from scipy.stats import ttest_1samp

from lumigator_nb.statistics.corrections import holm, romano_wolf
from lumigator_nb.statistics.ranking import rank_sets
from lumigator_nb.statistics.resampling import FloatArray, resampled_totals

Row = tuple[str, float, str]
Shape = Callable[[FloatArray], FloatArray]

_MODELS, _METRICS, _RESAMPLES, _BATCH = 5, 3, 2000, 50
_FIRST, _SECOND = np.triu_indices(_MODELS, 1)
_SIZES = (50, 200, 1000)
_ALPHA = 0.05
_SHAPES: dict[str, Shape] = {
    "normal": lambda scores: scores,
    "skewed": np.exp,
    "bounded": lambda scores: ndtr(1.5 * scores),
    "tied (1-5)": lambda scores: np.clip(np.round(3.5 + scores), 1, 5),
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it (± two standard errors of the share)."""
    generator = np.random.default_rng(seed)
    alarms_at_most = f"≤ 0.055 ± {2 * np.sqrt(_ALPHA * (1 - _ALPHA) / repeats):.3f}"
    rows = []
    for name, shape in _SHAPES.items():
        for n in _SIZES:
            null = [_alarms(*trial, n) for trial in _trials(generator, shape, n, np.zeros(_MODELS), repeats)]
            for test, alarms in zip(("Romano-Wolf", "Holm of t-tests"), np.mean(null, axis=0), strict=True):
                rows.append((f"false alarms of {test}, {name}, n={n}", float(alarms), alarms_at_most))
        rows.append(
            (
                f"false alarms of Romano-Wolf beside one better model, {name}, n=50",
                _beside_a_better_one(generator, shape, 50, repeats),
                alarms_at_most,
            )
        )
        rows.append(
            (f"sets of ranks hold all true ranks, {name}, n=200", _ranks_held(generator, shape, 200, repeats), "≥ 0.95")
        )
    return rows


def _trials(
    generator: np.random.Generator, shape: Shape, n: int, shifts: FloatArray, repeats: int
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Yield scores (n, models, metrics), their means (models, metrics) and replicates (models, metrics, R).

    The draws of examples are shared within a batch only, lest all repeats hang on one set of draws.
    """
    for start in range(0, repeats, _BATCH):
        size = min(_BATCH, repeats - start)
        # Metrics share a model's quality on an example, models share how hard the example is.
        hard, quality = generator.normal(size=(n, size, 1, 1)), generator.normal(size=(n, size, _MODELS, 1))
        own = generator.normal(size=(n, size, _MODELS, _METRICS))
        scores = shape(0.6 * hard + 0.6 * quality + 0.5 * own) + shifts[:, None]
        seed = int(generator.integers(2**32))
        totals = resampled_totals(scores.reshape(n, -1), n_resamples=_RESAMPLES, seed=seed)
        replicates = np.moveaxis(totals.reshape(_RESAMPLES, size, _MODELS, _METRICS) / n, 0, -1)
        for index in range(size):
            yield scores[:, index], scores[:, index].mean(axis=0), replicates[index]


def _adjusted(means: FloatArray, replicates: FloatArray, n: int) -> FloatArray:
    """Return (pairs, metrics) adjusted p-values."""
    differences = (replicates[_FIRST] - replicates[_SECOND]).reshape(-1, _RESAMPLES)
    return romano_wolf((means[_FIRST] - means[_SECOND]).ravel(), differences, n=n).reshape(-1, _METRICS)


def _alarms(scores: FloatArray, means: FloatArray, replicates: FloatArray, n: int) -> tuple[bool, bool]:
    t_tests = ttest_1samp((scores[:, _FIRST] - scores[:, _SECOND]).reshape(n, -1), 0).pvalue
    return bool((_adjusted(means, replicates, n) <= _ALPHA).any()), bool((holm(t_tests) <= _ALPHA).any())


def _beside_a_better_one(generator: np.random.Generator, shape: Shape, n: int, repeats: int) -> float:
    shifts = np.zeros(_MODELS)
    shifts[0] = 2.0
    equal = _FIRST > 0
    found = _trials(generator, shape, n, shifts, repeats)
    return float(np.mean([(_adjusted(means, draws, n)[equal] <= _ALPHA).any() for _, means, draws in found]))


def _ranks_held(generator: np.random.Generator, shape: Shape, n: int, repeats: int) -> float:
    shifts = np.array([0.3, 0.3, 0.15, 0.0, 0.0])
    lowest, highest = np.array([1, 1, 3, 4, 4]), np.array([2, 2, 3, 5, 5])
    held = []
    for _, means, replicates in _trials(generator, shape, n, shifts, repeats):
        sets = rank_sets(means[:, 0], replicates[:, 0], n=n)
        low, high = np.array([(one.low, one.high) for one in sets]).T
        held.append(np.all((low <= lowest) & (high >= highest)))
    return float(np.mean(held))
