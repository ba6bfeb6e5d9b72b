"""Confidence sequences: the share of whole paths, looked at after every example, on which they hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.sequences import betting_sequence, first_shown, normal_sequence

Draw = Callable[[np.random.Generator, tuple[int, int]], FloatArray]
LENGTH, CONFIDENCE, LOT = 1000, 0.95, 200
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
