"""What a judge's help does to intervals of human labels, by the shape of its scores; beside ppi-python and Student."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from lumigator_nb.statistics.prediction_powered import PredictionPowered, next_to_label, prediction_powered_mean
from lumigator_nb.statistics.resampling import FloatArray

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]

_SIZES, _OTHERS = (20, 30, 100), 500
_ANYWHERE = 5_000_000


def _normal(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    human = generator.normal(size=n)
    return human, 0.5 + 0.7 * human + np.sqrt(1 - 0.7**2) * generator.normal(size=n)


def _tied(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    quality, rater, judge = generator.normal(size=(3, n))
    return np.clip(np.round(3.6 + 1.1 * quality + 0.5 * rater), 1, 5), np.clip(
        np.round(4.3 + 0.8 * quality + 0.5 * judge), 1, 5
    )


def _heavy(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    judge = generator.standard_t(2.5, size=n)
    return 0.3 * judge + generator.normal(size=n), judge


def _lognormal(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    quality = generator.normal(size=n)
    return quality + generator.normal(size=n), np.exp(2 * quality)


def _toxicity(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    judge = generator.beta(0.1, 0.9, n)
    return 0.2 * judge + generator.beta(2, 5, n), judge


def _win_rate(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    ahead = 1 + 6 * generator.normal(size=n)
    return (generator.random(n) < 1 / (1 + np.exp(-ahead / 4))).astype(float), 1 / (1 + np.exp(2 * (8 - ahead)))


def _unrelated(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    return (generator.random(n) < 0.4).astype(float), generator.beta(0.02, 0.6, n)


def _far_between(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    quality, rater, noise = generator.normal(size=(3, n))
    human = np.clip(np.round(3.3 + quality + 0.5 * rater), 1, 5)
    return human, 1 / (1 + np.exp(16 - 8 * quality - 2 * noise))


_DRAWS: dict[str, Draw] = {
    "normal, r = 0.7": _normal,
    "Likert 1–5, tied": _tied,
    "heavy tails": _heavy,
    "lognormal judge": _lognormal,
    "toxicity": _toxicity,
    "win rate from logarithms": _win_rate,
    "unrelated, nearly all 0": _unrelated,
    "far from 0 for the best few": _far_between,
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated with mean widths, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for name, draw in _DRAWS.items():
        mean = float(draw(generator, _ANYWHERE)[0].mean())
        for n in _SIZES:
            rows += _rows(f"{name}, n={n}", mean, [_with_ppi(*draw(generator, n + _OTHERS), n) for _ in range(repeats)])
        if draw in (_normal, _unrelated, _far_between):
            rows += list(_unequal(f"{name}, n=30, unequal chances", mean, draw, generator, repeats))
    return rows


def _rows(name: str, mean: float, pairs: list[tuple[PredictionPowered, FloatArray]]) -> Iterator[Row]:
    """One row each for ours, the labels alone and ppi-python; mean widths in those of the labels alone."""
    pairs = [pair for pair in pairs if not np.isnan(pair[0].low)]  # labels that are all equal have no interval
    powered = np.array([(one.low, one.high) for one, _ in pairs])
    alone = np.array([(one.human_only.low, one.human_only.high) for one, _ in pairs])
    bounds = {"judge's help": powered, "labels alone": alone, "ppi-python": np.array([ppi for _, ppi in pairs])}
    for method, (lows, highs) in ((method, found.T) for method, found in bounds.items()):
        width = (highs - lows).mean() / np.diff(alone).mean()
        required = "0.92–0.97" if method == "judge's help" else "for comparison"
        yield f"{name}: {method}, width {width:.2f}", float(((lows <= mean) & (mean <= highs)).mean()), required
    widest = float(np.max(np.diff(powered) / np.diff(alone)))
    yield f"{name}: widest interval, in those of the labels alone", widest, "≤ 1.0"


def _with_ppi(human: FloatArray, judge: FloatArray, n: int) -> tuple[PredictionPowered, FloatArray]:
    # Numba, which ppi-python loads, would take the script benchmarks/coverage.py for the package of that name.
    sys.modules.setdefault("coverage", None)  # type: ignore[arg-type]
    from ppi_py import ppi_mean_ci

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = ppi_mean_ci(human[:n], judge[:n], judge[n:], alpha=0.05)
    return prediction_powered_mean(human[:n], judge[:n], judge[n:]), np.ravel(reference)


def _unequal(name: str, mean: float, draw: Draw, generator: np.random.Generator, repeats: int) -> Iterator[Row]:
    found = []
    for _ in range(repeats):
        human, judge = draw(generator, 30 + _OTHERS)
        drawn = next_to_label(generator.exponential(size=len(human)), 30, seed=int(generator.integers(2**32)))
        found.append(
            prediction_powered_mean(
                human[drawn.indices],
                judge[drawn.indices],
                np.delete(judge, drawn.indices),
                probabilities=drawn.probabilities,
            )
        )
    covered = np.mean([one.low <= mean <= one.high for one in found])
    alone = np.mean([one.human_only.low <= mean <= one.human_only.high for one in found])
    yield f"{name}: judge's help", float(covered), "0.91–0.97"
    yield f"{name}: labels alone", float(alone), "for comparison"
