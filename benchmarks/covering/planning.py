"""How often plans reach their power, and how often "not worse" and flips of a slice are claimed wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.noninferiority import not_worse_than_best
from lumigator_nb.statistics.planning import examples_needed, plan
from lumigator_nb.statistics.resampling import FloatArray, resampled_totals
from lumigator_nb.statistics.slicing import slice_flips

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int, int], FloatArray]

_MARGIN = 0.05
_PILOT = 30
# Of what is quick to simulate: shares are near what is required, and should not miss it by luck.
_MORE = 5


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    return [
        *_power_rows(repeats, generator),
        *_pilot_rows(repeats, generator),
        *_not_worse_rows(repeats, generator),
        *_flip_rows(repeats, generator),
    ]


def _normal(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    return generator.normal(size=(models, n)) + generator.normal(size=n)


def _binary(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    return (generator.random((models, n)) < 0.8).astype(np.float64)


def _beta(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    return generator.beta(0.6, 0.6, size=(models, n))


_DRAWS: dict[str, Draw] = {"normal": _normal, "binary": _binary, "bounded, two peaks": _beta}


def _power_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    from scipy.special import stdtr

    rows = []
    for sd, detect in ((1.0, 0.5), (0.3, 0.05)):
        n, found = examples_needed(sd, detect), 0
        for _ in range(_MORE * repeats):
            values = generator.normal(detect, sd, size=n)
            found += 2 * stdtr(n - 1, -abs(values.mean()) * math.sqrt(n) / values.std(ddof=1)) <= 0.05
        name = f"power with the planned n={n} for sd {sd:g} and a difference of {detect:g}"
        rows.append((name, found / (_MORE * repeats), "0.77–0.83"))
    return rows


def _pilot_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows = []
    for name, draw in _DRAWS.items():
        for models in (2, 5):
            large = draw(generator, 2, 1_000_000)
            detect = 0.2 * float(np.std(large[0] - large[1]))
            true = examples_needed(5 * detect, detect, comparisons=math.comb(models, 2))
            plans = (plan(draw(generator, models, _PILOT), detect=detect) for _ in range(repeats))
            held = np.mean([each.needed_low <= true <= each.needed_high for each in plans])
            rows.append((f"pilots of {_PILOT} that hold the need, {models} models, {name}", float(held), "≥ 0.90"))
    return rows


def _not_worse_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows = []
    for name, draw in (("equal spread", _behind), ("binary", _behind_binary), ("rare failures", _behind_rarely)):
        for models, n in ((2, 50), (2, 200), (5, 100)):
            wrong = np.mean([_claims_not_worse(draw(generator, models, n)) for _ in range(_MORE * repeats)])
            rows.append((f"wrongly not worse, {name}, {models} models, n={n}", float(wrong), "≤ 0.055"))
    return rows


def _behind(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    scores = generator.normal(0.7, 0.15, size=n) + generator.normal(0, 0.1, size=(models, n))
    scores[1:] -= _MARGIN
    return scores


def _behind_binary(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    chances = np.array([0.8, *[0.8 - _MARGIN] * (models - 1)])
    return (generator.random((models, n)) < chances[:, None]).astype(np.float64)


def _behind_rarely(generator: np.random.Generator, models: int, n: int) -> FloatArray:
    scores = (generator.random((models, n)) >= _MARGIN).astype(np.float64)
    scores[0] = 1.0
    return scores


def _claims_not_worse(scores: FloatArray) -> bool:
    n = scores.shape[1]
    replicates = resampled_totals(scores[:, :, None], n_resamples=400)[..., 0] / n
    found = not_worse_than_best(scores.mean(axis=1), replicates, margin=_MARGIN - 1e-12, n=n, span=1.0)
    return bool(found.not_worse[1:].any())


def _flip_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    rows = []
    for name, draw in _DRAWS.items():
        for n, slices in ((100, 4), (300, 10)):
            chosen, fixed = np.mean(
                [_claims_flip(generator, draw(generator, 4, n), slices) for _ in range(repeats)], axis=0
            )
            what = f"4 models, {slices} slices, n={n}, {name}"
            rows.append((f"wrong flips, leader from the data, {what}", float(chosen), "≤ 0.055"))
            rows.append((f"wrong flips, leader given, {what}", float(fixed), "≤ 0.055"))
    return rows


def _claims_flip(generator: np.random.Generator, values: FloatArray, slices: int) -> tuple[bool, bool]:
    labels = generator.integers(slices, size=values.shape[1])
    leader = int(values.mean(axis=1).argmax())
    chosen, fixed = (any(each.flips for each in slice_flips(values, labels, leader=one)) for one in (leader, 0))
    return chosen, fixed
