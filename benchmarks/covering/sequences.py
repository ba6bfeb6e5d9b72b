"""Confidence sequences: the share of whole paths, looked at after every example, on which they hold.

And races that end with a test after all examples: how often they are wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.racing import race
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.sequences import betting_sequence, first_shown, normal_sequence

Draw = Callable[[np.random.Generator, tuple[int, int]], FloatArray]
LENGTH, CONFIDENCE, LOT = 1000, 0.95, 200
ENDS, BEHIND = (50, 200), 0.02
BOUNDED: dict[str, tuple[Draw, float]] = {
    "beta(2, 5)": (lambda g, size: g.beta(2, 5, size), 2 / 7),
    "beta(0.5, 0.5)": (lambda g, size: g.beta(0.5, 0.5, size), 0.5),
    "Likert": (lambda g, size: g.choice([0, 0.25, 0.5, 0.75, 1], size, p=[0.05, 0.1, 0.2, 0.35, 0.3]), 0.6875),
    "binary, p = 0.3": (lambda g, size: (g.random(size) < 0.3).astype(float), 0.3),
    "binary, p = 0.02": (lambda g, size: (g.random(size) < 0.02).astype(float), 0.02),
}
UNBOUNDED: dict[str, tuple[Draw, float]] = {
    "normal": (lambda g, size: g.normal(size=size), 0.0),
    "exponential": (lambda g, size: g.exponential(size=size), 1.0),
    "lognormal(0, 0.5)": (lambda g, size: g.lognormal(0, 0.5, size), float(np.exp(0.125))),
    "difference of two Likert scores": (
        lambda g, size: g.choice(5, size, p=[0.1, 0.2, 0.4, 0.2, 0.1]) - 1.0 * g.choice(5, size), 0.0
    ),
}  # fmt: skip


def table(repeats: int, seed: int = 0) -> list[tuple[str, float, str]]:
    """Rows of what was simulated, the share of paths, and what is required."""
    generator = np.random.default_rng(seed)
    rows = []
    for kind, (draw, mean) in BOUNDED.items():
        share = _held(generator, draw, repeats, lambda paths, mean=mean: _never_left(paths - 0.5, mean - 0.5, 0.5))
        rows.append((f"betting, {kind}: every look up to {LENGTH:,}", share, "≥ 0.95"))
    for kind, (draw, mean) in UNBOUNDED.items():
        share = _held(generator, draw, repeats, lambda paths, mean=mean: _never_left(paths, mean, None))
        rows.append((f"asymptotic, {kind}: every look from 64 up to {LENGTH:,}", share, "≥ 0.95"))
    values = generator.beta(2, 5, LENGTH)
    for name, (lows, highs) in {
        "betting": betting_sequence(values, 0, 1, confidence=CONFIDENCE),
        "asymptotic": normal_sequence(values, confidence=CONFIDENCE),
    }.items():
        usual = 2 * 1.96 * values.std(ddof=1) / np.sqrt(LENGTH)
        rows.append(
            (f"{name}: width after {LENGTH:,} beta scores, fixed-n interval = 1", (highs - lows)[-1] / usual, "")
        )
    return [*rows, *_races(repeats, generator)]


def _races(repeats: int, generator: np.random.Generator) -> list[tuple[str, float, str]]:
    """Races of equal models, in which no winner may be named, and of near ones, in which the best may not be dropped.

    In half of the shapes only the first model is skewed, which is what a test of few examples errs with.
    """
    fine, flat = (lambda g, size: g.normal(0.25, 0.02, size)), (lambda g, size: g.beta(4, 4, size))
    shapes: dict[str, tuple[Draw, Draw]] = {
        "bounded": (flat, flat),
        "binary": ((lambda g, size: (g.random(size) < 0.7).astype(float)),) * 2,
        "one skewed": ((lambda g, size: np.minimum(g.exponential(0.25, size), 1)), fine),
        "one with rare failures": ((lambda g, size: 0.25 - 0.25 * (g.random(size) < 0.05)), fine),
    }
    rows = []
    for name, (first, others) in shapes.items():
        means = [float(draw(generator, (1, 2_000_000)).mean()) for draw in (first, others)]
        for models in (2, 5):
            for n in ENDS:
                named, dropped = np.zeros(repeats), np.zeros(repeats)
                for one in range(repeats):
                    scores = np.vstack(
                        [first(generator, (1, n)) - means[0], others(generator, (models - 1, n)) - means[1]]
                    )
                    named[one] = race(scores, bounds=(-1, 1), total=n).conclusion == "best"
                    scores[1:] -= BEHIND * scores.std()
                    dropped[one] = race(scores, bounds=(-1.1, 1), total=n).dropped_at[0] is not None
                what = f"race to the end, {name}, {models} models, n={n}"
                rows.append((f"{what}: equal means, a winner is named", float(named.mean()), "≤ 0.05 ± 0.014"))
                rows.append((f"{what}: the best is dropped", float(dropped.mean()), "≤ 0.05 ± 0.014"))
    return rows


def _held(generator: np.random.Generator, draw: Draw, repeats: int, held: Callable[[FloatArray], FloatArray]) -> float:
    lots = [min(LOT, repeats - start) for start in range(0, repeats, LOT)]
    return float(np.concatenate([held(draw(generator, (lot, LENGTH))) for lot in lots]).mean())


def _never_left(paths: FloatArray, mean: float, reach: float | None) -> FloatArray:
    """(paths,) whether neither bound ever passed the mean."""
    level = (1 - CONFIDENCE) / 2
    above = first_shown(paths, mean, level, reach)
    below = first_shown(-paths, -mean, level, reach)
    return np.isinf(above) & np.isinf(below)
