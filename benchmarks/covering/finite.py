"""Races on a dataset, whose examples are all there is: how often they are wrong, and which answers they save.

Each replay draws a dataset and an order of its examples. Wrong: one given model of those with the best mean on the
whole dataset is dropped, or a winner is named where there are several. "Close" models are equal but for chance; those
of "equal means" are equal, where errors are most likely. "Leaderboard" has the shape of recorded scores: hard and easy
examples, and models from good to poor (no recorded scores are part of the project).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics import racing, sequences
from lumigator_nb.statistics.racing import Race, race
from lumigator_nb.statistics.resampling import FloatArray

Draw = Callable[[np.random.Generator, int, int], FloatArray]
Bounds = tuple[float, float]
# Of the replays, one in so many is also run as races were before, which takes five times as long.
COMPARED = 10


def _shared(g: np.random.Generator, models: int, n: int) -> FloatArray:
    """Normal scores of which half the variance belongs to the example."""
    return np.sqrt(0.5) * (g.normal(size=n) + g.normal(size=(models, n)))


def _equal(scores: Draw) -> Draw:
    """Models with the same scores on other examples: exactly equal means, of which no one is the best."""
    return lambda g, m, n: np.stack([g.permutation(one) for one in np.repeat(scores(g, 1, n), m, axis=0)])


def _leaderboard(g: np.random.Generator, models: int, n: int) -> FloatArray:
    skill = np.linspace(1.5, 0, models)[:, None]
    return (g.random((models, n)) < 1 / (1 + np.exp(g.normal(0, 1.5, n) - skill - 0.5))).astype(float)


def _errors(g: np.random.Generator, models: int, n: int) -> FloatArray:
    """Penalties as of MQM, from 0 to -25: mostly none or few, seldom many."""
    weights = g.choice([1, 1, 1, 5, 10], (models, n))
    rate = g.gamma(1, 1, n) * (1 + np.linspace(0, 1, models)[:, None])
    return -np.minimum(g.poisson(rate) * weights, 25).astype(float)


NEAR: dict[str, tuple[Draw, Bounds | None]] = {
    "close, normal, bounded": (lambda g, m, n: np.clip(0.5 + 0.15 * _shared(g, m, n), 0, 1), (0, 1)),
    "close, skewed": (lambda g, m, n: np.clip(0.1 * g.exponential(size=(m, n)) * g.exponential(size=n), 0, 1), (0, 1)),
    "close, binary": (lambda g, m, n: (g.random((m, n)) < g.beta(3, 1.5, n)).astype(float), (0, 1)),
    "close, rare failures": (lambda g, m, n: (g.random((m, n)) > 0.03).astype(float), (0, 1)),
    "close, tied": (lambda g, m, n: np.clip(np.round(4 * (0.6 + 0.2 * _shared(g, m, n))) / 4, 0, 1), (0, 1)),
    "equal means, binary": (_equal(lambda g, m, n: (g.random((m, n)) < 0.7).astype(float)), (0, 1)),
    "equal means, skewed": (_equal(lambda g, m, n: np.minimum(0.1 * g.exponential(size=(m, n)) ** 2, 1)), (0, 1)),
    "equal means, no bounds, exponential": (_equal(lambda g, m, n: g.exponential(size=(m, n))), None),
    "close, no bounds, normal": (_shared, None),
    "close, no bounds, exponential": (lambda g, m, n: g.exponential(size=(m, n)), None),
}
APART: dict[str, tuple[Draw, Bounds, int, int]] = {
    "leaderboard": (_leaderboard, (0, 1), 7, 1000),
    "short leaderboard": (_leaderboard, (0, 1), 12, 300),
    "0 to 100, between 20 and 50": (
        lambda g, m, n: np.clip(35 + np.linspace(3, 0, m)[:, None] + 7 * _shared(g, m, n), 0, 100), (0, 100), 8, 1000
    ),
    "-25 to 0": (_errors, (-25, 0), 10, 1000),
}  # fmt: skip


def table(repeats: int, seed: int = 0) -> list[tuple[str, float, str]]:
    """Rows of what was simulated, the share of replays or answers, and what is required."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, (draw, bounds) in NEAR.items():
        for models, n in ((2, 100), (5, 200)):
            found = [_replay(draw(generator, models, n), bounds) for _ in range(repeats)]
            what = f"{name}, {models} models, {n} examples"
            rows.append((f"{what}: wrong", float(np.mean([wrong for wrong, _ in found])), "≤ 0.05 ± 0.014"))
            rows.append((f"{what}: decided", float(np.mean([decided for _, decided in found])), "≥ 1"))
    for name, (draw, bounds, models, n) in APART.items():
        rows += _saved(name, [draw(generator, models, n) for _ in range(max(1, repeats // COMPARED))], bounds)
    return rows


def _replay(scores: FloatArray, bounds: Bounds | None) -> tuple[bool, bool]:
    found = race(scores, bounds=bounds, total=scores.shape[1], population="dataset")
    return _wrong(found, scores), found.conclusion != "undecided"


def _wrong(found: Race, scores: FloatArray) -> bool:
    """Whether one given best model was dropped, or a winner named that is not the one best."""
    means = scores.mean(axis=1)
    best = np.flatnonzero(means >= means.max() - 1e-9)
    named = found.conclusion == "best" and (len(best) > 1 or found.leader != best[0])
    return bool(named or found.dropped_at[best[0]] is not None)


def _saved(name: str, datasets: list[FloatArray], bounds: Bounds) -> list[tuple[str, float, str]]:
    """Rows on models that differ: the same datasets and orders in three kinds of race."""
    total = datasets[0].shape[1]
    now = [race(scores, bounds=bounds, total=total, population="dataset") for scores in datasets]
    before = [_fixed_stakes(scores, bounds) for scores in datasets]
    without = [race(scores, total=total, population="dataset") for scores in datasets]
    used, used_before, used_without = (sum(sum(found.used) for found in races) for races in (now, before, without))
    wrong = np.mean([_wrong(found, scores) for found, scores in zip(now, datasets, strict=True)])
    open_before = np.mean([found.conclusion == "undecided" for found in before])
    what = f"{name}, {len(datasets[0])} models, {total:,} examples"
    return [
        (f"{what}: wrong", float(wrong), "≤ 0.05 ± 0.03"),
        (f"{what}: answers, of those of a race with fixed stakes", used / used_before, "≤ 0.8"),
        (f"{what}: such a race ends undecided", float(open_before), ""),
        (f"{what}: answers, of those of a race without bounds", used / used_without, ""),
    ]


def _fixed_stakes(scores: FloatArray, bounds: Bounds) -> Race:
    """Races as they were: fixed stakes, half of the error for the last test, and examples that are a sample of more."""
    level, reach = 0.05 / (2 * (len(scores) - 1)) / 2, bounds[1] - bounds[0]
    beats = np.full((len(scores), len(scores)), math.inf)
    for i, one in enumerate(scores):
        capital = sequences._log_capital((racing.paired(one, scores) + reach) / (2 * reach), 0.5)
        shown = capital >= -math.log(level)
        beats[i] = np.where(shown.any(axis=1), shown.argmax(axis=1) + 1.0, math.inf)
    alike = np.full_like(beats, math.inf)
    found = racing._Walk(scores, beats, alike).result()
    return found if found.stopped_at is not None else racing._last_test(scores, beats, alike, level, found)
