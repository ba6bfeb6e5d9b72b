"""Models of equal means whose scores have different shapes: how often they are called different, and leaders beaten.

The hardest case for tests of few examples: a sample that lacks one model's tail gives it a low mean and a small spread.
Fewer examples than Cochran's rule asks for may still miss what is required; comparisons then say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.bootstrap import difference
from lumigator_nb.statistics.corrections import romano_wolf
from lumigator_nb.statistics.resampling import FloatArray, resampled_totals
from lumigator_nb.statistics.skewness import examples_for_skewness
from lumigator_nb.statistics.slicing import slice_flips

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int, int], FloatArray]

_RESAMPLES = 1000
_SLICES = 4
# Where most samples of so few examples miss the tail, nothing that is computed from them holds.
_HARD = "one lognormal, sigma 1.5"


def _lognormal(sigma: float) -> Draw:
    mean, sd = math.exp(sigma**2 / 2), math.sqrt(math.expm1(sigma**2) * math.exp(sigma**2))

    def draw(generator: np.random.Generator, models: int, n: int) -> FloatArray:
        one = (generator.lognormal(sigma=sigma, size=(1, n)) - mean) / sd
        return np.vstack([one, 0.3 * generator.normal(size=(models - 1, n))])

    return draw


def _mirrored(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    half = models // 2
    return np.vstack([generator.exponential(size=(half, n)) - 1, 1 - generator.exponential(size=(models - half, n))])


def _win_rates(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    return np.vstack([generator.beta(0.1, 0.6, size=(1, n)) - 1 / 7, 0.05 * generator.normal(size=(models - 1, n))])


_DRAWS: dict[str, Draw] = {
    "one lognormal, sigma 1": _lognormal(1),
    "one lognormal, sigma 1.5": _lognormal(1.5),
    "half exponential, half mirrored": _mirrored,
    "one like win rates": _win_rates,
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, draw in _DRAWS.items():
        for models, n in ((5, 50), (10, 50), (5, 200)):
            found = np.array([_tested(generator, draw(generator, models, n)) for _ in range(repeats)])
            what = f"{name}, {models} models, n={n}"
            required = "for information" if name == _HARD else "≤ 0.08 ± 0.02"
            rows.append((f"false alarms over all pairs, {what}", float(found[:, 0].mean()), required))
            rows.append((f"  of one pair given beforehand, {what}", float(found[:, 1].mean()), required))
            rows.append((f"  said to be too skewed for n, {what}", float(found[:, 2].mean()), "for information"))
        for models, n in ((4, 100), (8, 300)):
            found = np.array([_sliced(generator, draw(generator, models, n)) for _ in range(repeats)])
            what = f"{name}, {models} models, {_SLICES} slices, n={n}"
            required = "for information" if name == _HARD else "≤ 0.05 ± 0.02"
            rows.append((f"wrong flips, skewed leader given, {what}", float(found[:, 0].mean()), required))
            rows.append((f"  said to be too skewed, {what}", float(found[:, 1].mean()), "for information"))
    return rows


def _tested(generator: np.random.Generator, scores: FloatArray) -> tuple[bool, bool, bool]:
    models, n = scores.shape
    first, second = np.triu_indices(models, 1)
    replicates = resampled_totals(scores.T, n_resamples=_RESAMPLES, seed=int(generator.integers(2**32))).T / n
    means = scores.mean(axis=1)
    p_values = romano_wolf(means[first] - means[second], replicates[first] - replicates[second], n=n)
    one = difference(means[0] - means[-1], replicates[0] - replicates[-1], scores[0] - scores[-1])
    needed = max(examples_for_skewness(each - scores[means.argmax()]) for each in scores)
    return bool((p_values <= 0.05).any()), one.p_value <= 0.05, needed > n


def _sliced(generator: np.random.Generator, scores: FloatArray) -> tuple[bool, bool]:
    found = slice_flips(scores, generator.integers(_SLICES, size=scores.shape[1]), leader=0)
    return any(each.flips for each in found), any(each.too_skewed for each in found)
