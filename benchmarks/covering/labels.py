"""How often intervals from human labels, with a judge's help, and from comparisons in pairs cover what they should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.bradley_terry import bradley_terry_intervals
from lumigator_nb.statistics.prediction_powered import PredictionPowered, next_to_label, prediction_powered_mean
from lumigator_nb.statistics.resampling import FloatArray

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]

_REQUIRED = "0.93–0.97"
_STRENGTHS = np.array([0.8, 0.4, 0.0, -0.4, -0.8])
_TIE = 0.5


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, draw in (("normal, r = 0.7", _normal), ("Likert 1–5, biased judge", _likert), ("binary", _binary)):
        mean = float(draw(generator, 2_000_000)[0].mean())
        for n in (30, 50, 200):
            for others in (1000, 5000):
                covered = np.mean([_covers(_simple(generator, draw, n, others), mean) for _ in range(repeats)])
                rows.append((f"prediction-powered, {name}, n={n}, N={others}", float(covered), _REQUIRED))
    narrower = np.mean([_simple(generator, _normal, 100, 5000).narrower for _ in range(repeats)])
    name = "prediction-powered, normal, r = 0.7, n=100, N=5000: share narrower than humans alone"
    rows.append((name, float(narrower), "≥ 0.20"))
    return [*rows, *_active_rows(repeats, generator), *_bradley_terry_rows(repeats, generator)]


def _normal(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    human = generator.normal(size=n)
    return human, 0.5 + 0.7 * human + np.sqrt(1 - 0.7**2) * generator.normal(size=n)


def _likert(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    quality, rater, judge = generator.normal(size=(3, n))
    return np.clip(np.round(3.6 + 1.1 * quality + 0.5 * rater), 1, 5), np.clip(
        np.round(4.3 + 0.8 * quality + 0.5 * judge), 1, 5
    )


def _binary(generator: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    human = (generator.random(n) < 0.7).astype(float)
    return human, np.where(generator.random(n) < 0.8, human, 1 - human)


def _simple(generator: np.random.Generator, draw: Draw, n: int, others: int) -> PredictionPowered:
    human, judge = draw(generator, n + others)
    return prediction_powered_mean(human[:n], judge[:n], judge[n:])


def _active_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    mean = 3.33  # of the examples that _active draws
    rows = []
    for n in (30, 100, 200):
        covered = np.mean([_covers(_active(generator, n), mean) for _ in range(repeats)])
        rows.append((f"active labelling, n={n} of 1000", float(covered), _REQUIRED))
    covered = np.mean([_covers(_active(generator, 100, before=50), mean) for _ in range(repeats)])
    rows.append(("active labelling, n=100 of 1000 after the 50 least sure", float(covered), _REQUIRED))
    wide, narrow = (np.mean([_width(_active(generator, 100, uniform)) for _ in range(repeats)]) for uniform in (1, 0.3))
    rows.append(("active labelling, share narrower than equal chances, n=100 of 1000", float(1 - narrow / wide), "> 0"))
    return rows


def _active(generator: np.random.Generator, n: int, uniform: float = 0.3, before: int = 0) -> PredictionPowered:
    uncertainty = 0.1 + generator.exponential(size=1000)
    human = 3 + 0.3 * uncertainty + generator.normal(size=1000)
    judge = human + uncertainty * (0.2 + generator.normal(size=1000))
    labelled = np.zeros(1000, dtype=bool)
    earlier = np.argsort(-uncertainty)[:before]
    labelled[earlier] = True
    draw = next_to_label(uncertainty, n, labelled=labelled, uniform=uniform, seed=int(generator.integers(2**32)))
    indices = np.concatenate([earlier, draw.indices])
    probabilities = np.concatenate([np.ones(before), draw.probabilities])
    return prediction_powered_mean(
        human[indices], judge[indices], np.delete(judge, indices), probabilities=probabilities
    )


def _bradley_terry_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows = []
    for name, compare in (("all pairs on each, dependent", _all_pairs), ("one pair on each, with ties", _one_pair)):
        covered = []
        for _ in range(repeats):
            first, second, outcome, units = compare(generator, 200)
            found = bradley_terry_intervals(first, second, outcome, 5, units=units)
            covered.append((found.low <= _STRENGTHS) & (found.high >= _STRENGTHS))
        rows.append((f"Bradley-Terry, 5 models, 200 examples, {name}", float(np.mean(covered)), "0.92–0.97"))
    return rows


def _all_pairs(generator: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    # Differences of Gumbel variables are logistic, so that each comparison follows the model but not independently.
    quality = _STRENGTHS + generator.gumbel(size=(n, 5))
    first, second = np.triu_indices(5, 1)
    outcome = np.sign(quality[:, first] - quality[:, second]).ravel().astype(int)
    return np.tile(first, n), np.tile(second, n), outcome, np.repeat(np.arange(n), len(first))


def _one_pair(generator: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    first = generator.integers(5, size=n)
    second = (first + generator.integers(1, 5, size=n)) % 5
    win = np.exp((_STRENGTHS[first] - _STRENGTHS[second]) / 2)
    chance = generator.random(n) * (win + 1 / win + _TIE)
    return first, second, np.where(chance < win, 1, np.where(chance < win + 1 / win, -1, 0)), np.arange(n)


def _covers(found: PredictionPowered, mean: float) -> bool:
    return found.low <= mean <= found.high


def _width(found: PredictionPowered) -> float:
    return found.high - found.low
