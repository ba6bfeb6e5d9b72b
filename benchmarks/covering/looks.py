"""Histories that are looked at 100 times: how often there is any false alarm, beside an ordinary test at each look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lumigator_nb.statistics.bootstrap import Bounds
from lumigator_nb.statistics.monitoring import changes, difference_sequence
from lumigator_nb.statistics.resampling import FloatArray
from lumigator_nb.statistics.sequences import betting_bounds

Row = tuple[str, float, str]
Draw = Callable[[np.random.Generator, int], FloatArray]

_DATES, _SIZES, _RESAMPLES = 101, (50, 200), 500
_LOOKS, _EXAMPLES = 100, 1000
_ALLOWED = "≤ 0.05 ± 0.014"


def _noisy(generator: np.random.Generator, n: int) -> FloatArray:
    return generator.normal(0.7, 0.2, size=n) + generator.normal(0, 0.1, size=(_DATES, n))


def _right(generator: np.random.Generator, n: int) -> FloatArray:
    return (generator.random((_DATES, n)) < generator.beta(3, 2, size=n)).astype(np.float64)


def _nearly_fixed(generator: np.random.Generator, n: int) -> FloatArray:
    """Answers that stay the same but for one in twenty."""
    once = generator.beta(6, 2, size=n)
    return np.where(generator.random((_DATES, n)) < 0.05, generator.beta(6, 2, size=(_DATES, n)), once)


def _skewed(generator: np.random.Generator, n: int) -> FloatArray:
    return generator.lognormal(sigma=0.75, size=(_DATES, n))


_DRAWS: dict[str, Draw] = {
    "noise": _noisy,
    "right or wrong": _right,
    "one answer in 20 differs": _nearly_fixed,
    "lognormal": _skewed,
}


def table(repeats: int, seed: int = 0) -> list[Row]:
    """Return what was simulated, the share found, and what is required of it."""
    generator = np.random.default_rng(seed)
    rows = []
    for name, draw in _DRAWS.items():
        for n in _SIZES:
            alarms = np.zeros(2)
            for _ in range(repeats):
                found = changes(draw(generator, n), n_resamples=_RESAMPLES, seed=int(generator.integers(8)))
                ordinary = any(change.difference.p_value <= 0.05 for change in found)
                alarms += any(change.changed for change in found), ordinary
            what = f"{_DATES - 1} dates without a change, {name}, n={n}"
            rows.append((f"any alarm over {what}", float(alarms[0] / repeats), _ALLOWED))
            rows.append(("  at 95% for each look", float(alarms[1] / repeats), "for comparison"))
    return [*rows, *_drop_rows(repeats, generator), *_growing_rows(repeats, generator)]


def _drop_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    found = np.zeros(2)
    for _ in range(repeats):
        scores = _noisy(generator, 200)[:21]
        scores[10:] -= 0.03
        flags = [change.changed for change in changes(scores, n_resamples=_RESAMPLES)]
        found += flags[9], any(flags[9:])
    what = "a drop of 0.03 (0.2 sd of a difference), n=200"
    return [
        (f"{what}: seen at the first look after it, the tenth", float(found[0] / repeats), "for information"),
        ("  at any of the first 11 looks after it", float(found[1] / repeats), "for information"),
    ]


def _growing_rows(repeats: int, generator: np.random.Generator) -> list[Row]:
    """Two equal models that get 10 more examples from look to look."""
    looks = np.arange(1, _LOOKS + 1) * (_EXAMPLES // _LOOKS) - 1
    pairs: dict[str, tuple[Draw, Bounds | None]] = {
        "right or wrong, bounds": (lambda g, n: (g.random((2, n)) < 0.8).astype(np.float64), (0, 1)),
        "beta, bounds": (lambda g, n: g.beta(6, 2, size=(2, n)), (0, 1)),
        "normal, no bounds": (lambda g, n: g.normal(size=(2, n)), None),
        "lognormal, no bounds": (lambda g, n: g.lognormal(sigma=0.75, size=(2, n)), None),
    }
    rows = []
    for name, (draw, bounds) in pairs.items():
        alarms = np.zeros(2)
        for _ in range(repeats):
            scores, others = draw(generator, _EXAMPLES)
            apart = scores - others
            # The last bounds are the best so far: if they leave out 0, it was left out at some look.
            if bounds is None:
                low, high = (ends[-1] for ends in difference_sequence(scores, others))
            else:  # as difference_sequence, in a hundredth of the time
                low, high = betting_bounds(apart, bounds[0] - bounds[1], bounds[1] - bounds[0])
            n = looks + 1
            means = np.cumsum(apart)[looks] / n
            errors = np.sqrt((np.cumsum(apart**2)[looks] / n - means**2) / (n - 1))
            alarms += low > 0 or high < 0, bool((np.abs(means) > 1.96 * errors).any())
        rows.append(
            (f"equal models, {_LOOKS} looks at more and more examples, {name}", float(alarms[0] / repeats), _ALLOWED)
        )
        rows.append(("  an interval of 95% at each look", float(alarms[1] / repeats), "for comparison"))
    return rows
