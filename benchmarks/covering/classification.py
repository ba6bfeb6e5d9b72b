"""Intervals of classification scores, whose classes may be rare: coverage of the true score by "bca"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import brentq

from lumigator_nb import metrics, statistics
from lumigator_nb.metrics.classification import Classification
from lumigator_nb.specs import MetricSpec

SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "cohen_kappa")
# A class with 4 examples is too little for these; the page says so.
FAIL = ("balanced_accuracy", "macro_f1")
# Of a large population, whose scores are taken for the true ones.
_LARGE = 10_000_000


def shares_of(k: int, rarest: float) -> np.ndarray:
    """Return the frequencies of k classes, a geometric series that ends at `rarest`."""

    def series(ratio: float) -> np.ndarray:
        return rarest * ratio ** np.arange(k)[::-1]

    return series(brentq(lambda ratio: series(ratio).sum() - 1, 1, 1 / rarest))


def table(repeats: int, seed: int) -> Iterator[tuple[str, float, str]]:
    """Yield what was simulated, the share of intervals that hold the true score, and what is required."""
    infos = {info.name: info for info in Classification.infos}
    for k, right in ((3, 0.8), (3, 0.97), (20, 0.7)):
        for n in (100, 500):
            rows = simulated(np.random.default_rng(seed), k, right, n, 4 / n, repeats, infos)
            for name, covered in rows.items():
                required = "informs" if name in FAIL else "0.92–0.98"
                yield f"{name}: {k} classes, {right:.0%} right, n = {n}, a class with 4 examples", covered, required


def simulated(
    generator: np.random.Generator, k: int, right: float, n: int, rarest: float, repeats: int, infos: dict
) -> dict[str, float]:
    """Return by score the share of intervals that hold it."""
    confusion = shares_of(k, rarest)[:, None] * _errors(k, right)
    labels = [f"class {number}" for number in range(k)]
    metric = metrics.create(MetricSpec(name="classification", options={"labels": labels}))
    cells = [(labels[truth], labels[predicted]) for truth in range(k) for predicted in range(k)]
    of_cells = {
        scores.info.name: scores.statistics
        for scores in metric.score([cell[1] for cell in cells], [cell[0] for cell in cells], [""] * len(cells))
    }
    weights = confusion.ravel()
    held = dict.fromkeys(SCORES, 0)
    true = {name: float(infos[name].aggregate(_LARGE * weights @ of_cells[name], _LARGE)) for name in SCORES}
    for repeat in range(repeats):
        drawn = generator.choice(len(cells), n, p=weights / weights.sum())
        for name in SCORES:
            interval = statistics.bootstrap_interval(
                of_cells[name][drawn], infos[name].aggregate, n_resamples=1000, seed=repeat, bounds=infos[name].range
            )
            held[name] += interval.low <= true[name] <= interval.high
    return {name: count / repeats for name, count in held.items()}


def _errors(k: int, right: float) -> np.ndarray:
    """Return (k, k) shares of predictions by true class: the rarer a class, the more often it is missed."""
    hits = np.linspace(right + (1 - right) / 2, right - 0.2, k)
    others = np.where(np.eye(k, dtype=bool), 0, 0.5 ** np.arange(k)[None, :])
    others /= others.sum(axis=1, keepdims=True)
    return np.diag(hits) + (1 - hits)[:, None] * others
