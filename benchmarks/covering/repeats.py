"""Several answers of a model to each example: how often intervals of the mean hold it, by what is resampled.

Examples with all their repeats, which is what intervals do; beside it two-stage resampling, which draws repeats once
more within each example drawn, and pooling, which takes all answers for independent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.bootstrap import Interval, difference, intervals
from lumigator_nb.statistics.repeats import mean_over_repeats, pass_at_k, variance_components
from lumigator_nb.statistics.resampling import FloatArray, resampled_scores

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]

_REQUIRED = "0.93–0.97"
_EXAMPLES, _REPEATS, _RESAMPLES = 100, (1, 3, 10), 1000
# Data sets that share draws, which take longest; all of them would hang on one set of draws.
_BATCH = 20


def _normal(between: float) -> Draw:
    """Scores of variance 1, of which `between` lies between examples."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> FloatArray:
        shared = generator.normal(scale=np.sqrt(between), size=(*size[:-1], 1))
        return shared + generator.normal(scale=np.sqrt(1 - between), size=size)

    return draw


def _right(a: float, b: float) -> Draw:
    """Right or wrong answers, with chances that differ between examples."""

    def draw(generator: np.random.Generator, size: tuple[int, ...]) -> FloatArray:
        return (generator.random(size) < generator.beta(a, b, size=(*size[:-1], 1))).astype(np.float64)

    return draw


def _with_gaps(generator: np.random.Generator, size: tuple[int, ...]) -> FloatArray:
    scores = _normal(0.5)(generator, size)
    missing = generator.random(size) < 0.2
    missing[..., 0] = False
    return np.where(missing, np.nan, scores)


_DRAWS: dict[str, tuple[Draw, float]] = {
    "normal, 90% of the variance between repeats": (_normal(0.1), 0.0),
    "normal, 10% of the variance between repeats": (_normal(0.9), 0.0),
    "right or wrong, 83% between repeats": (_right(3, 2), 0.6),
    "right or wrong, 17% between repeats": (_right(0.12, 0.08), 0.6),
    "normal, 50% between repeats, every fifth score missing": (_with_gaps, 0.0),
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, (draw, mean) in _DRAWS.items():
        for k in _REPEATS:
            batches = [draw(generator, (_BATCH, _EXAMPLES, k)) for _ in range(-(-repeats // _BATCH))]
            for method, (found, required) in _METHODS.items():
                # With one repeat all three are the same; draws within an example are alike for all without gaps only.
                if method == "examples drawn" or (k > 1 and not np.isnan(batches[0]).any()):
                    held = np.mean([_holds(one, mean) for scores in batches for one in found(scores, generator)])
                    rows.append((f"{method}, {name}, k={k}", float(held), required))
    return [*rows, *_other_rows(repeats, generator)]


def _by_examples(scores: FloatArray, generator: np.random.Generator) -> list[Interval]:
    means = mean_over_repeats(scores)
    return intervals(means.mean(axis=1), _resampled(means, generator), means)


def _two_stage(scores: FloatArray, generator: np.random.Generator) -> list[Interval]:
    _, n, k = scores.shape
    examples = generator.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    # An example drawn m times has k repeats drawn m times.
    weights = generator.multinomial(k * examples, np.full(k, 1 / k)).reshape(_RESAMPLES, n * k)
    means = mean_over_repeats(scores)
    replicates = scores.reshape(len(scores), n * k) @ weights.T / (n * k)
    return intervals(means.mean(axis=1), replicates, means)


def _pooled(scores: FloatArray, generator: np.random.Generator) -> list[Interval]:
    answers = scores.reshape(len(scores), -1)
    return intervals(answers.mean(axis=1), _resampled(answers, generator), answers)


_METHODS: dict[str, tuple[Callable[[FloatArray, np.random.Generator], list[Interval]], str]] = {
    "examples drawn": (_by_examples, _REQUIRED),
    "  two-stage": (_two_stage, "for comparison"),
    "  pooled": (_pooled, "for comparison"),
}


def _other_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    """Differences of two models, pass@2, and whether the estimated components are those of the draw."""
    draw, differences, passes, components = _right(3, 2), [], [], []
    for _ in range(-(-repeats // _BATCH)):
        # Chances are shared by both models, as hard examples are; each draws its own answers.
        both = draw(generator, (_BATCH, _EXAMPLES, 10))
        apart = mean_over_repeats(both[..., :5]) - mean_over_repeats(both[..., 5:])
        replicates = _resampled(apart, generator)
        differences += [
            difference(values.mean(), draws, values) for values, draws in zip(apart, replicates, strict=True)
        ]
        passed = pass_at_k(both, 2)
        passes += intervals(passed.mean(axis=1), _resampled(passed, generator), passed)
        components += [variance_components(scores) for scores in both]
    at_2 = 1 - 2 * 3 / (5 * 6)  # with failures of chance beta(2, 3): E q² = b (b + 1) / ((a + b) (a + b + 1))
    between, within = (np.mean([getattr(one, name) ** 2 for one in components]) for name in ("between", "within"))
    return [
        (
            "difference of two models with 5 repeats each",
            float(np.mean([_holds(one, 0) for one in differences])),
            _REQUIRED,
        ),
        ("pass@2 of 10 repeats", float(np.mean([_holds(one, at_2) for one in passes])), _REQUIRED),
        ("estimated variance between examples, relative to the true one", float(between) / 0.04, "0.95–1.05"),
        ("estimated variance between repeats, relative to the true one", float(within) / 0.2, "0.95–1.05"),
    ]


def _resampled(scores: FloatArray, generator: np.random.Generator) -> FloatArray:
    return resampled_scores(scores, n_resamples=_RESAMPLES, seed=int(generator.integers(2**32)))


def _holds(interval: Interval, mean: float) -> bool:
    return interval.low - 1e-12 <= mean <= interval.high + 1e-12
