"""What callers give as scores: lists, Series, arrays of any number type; checked, as arrays of float64."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError

FloatArray = NDArray[np.float64]
# What happens to examples without a score.
Missing = Literal["raise", "omit"]


def as_floats(values: ArrayLike, what: str = "scores") -> FloatArray:
    """Return numbers or truth values as float64; None and pandas' NA become NaN.

    Raises:
        InvalidInputError: they are no numbers, or rows differ in length.
    """
    to_numpy: Any = getattr(values, "to_numpy", None)
    try:
        if to_numpy is not None:  # NumPy alone refuses the NA of a Series
            return np.asarray(to_numpy(dtype=np.float64, na_value=np.nan))
        if np.iscomplexobj(values):
            raise TypeError("they are complex")
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{what} are no table of numbers: {error}", "give numbers, rows of one length"
        ) from None


def mid_ranks(values: FloatArray) -> FloatArray:
    """Return the ranks of values, less one half; equal ones share the middle of theirs.

    scipy.stats.rankdata is general, and too slow for a thousand resamples of some dozen values.
    """
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = np.cumsum(counts) - counts / 2
    return ranks[codes]


def complete_rows(named: dict[str, FloatArray], nan: Missing) -> NDArray[np.bool_]:
    """Return (n,) which rows have a value everywhere; rows are the first axis of each array.

    Args:
        named: arrays of n rows by what they are called.
        nan: "raise" where a row has none, or "omit" it.

    Raises:
        InvalidInputError: a row lacks a value and is not to be omitted, or there is no such `nan`.
    """
    if nan not in get_args(Missing):
        raise InvalidInputError(f"nan cannot be {nan!r}", f"it is one of {', '.join(get_args(Missing))}")
    complete = np.ones(len(next(iter(named.values()))), dtype=np.bool_)
    for name, values in named.items():
        missing = np.isnan(values).any(axis=tuple(range(1, values.ndim)))
        if nan == "raise" and missing.any():
            raise InvalidInputError(
                f"row {int(missing.argmax())} of {name} is NaN",
                'score it, or leave out such rows: with nan="omit" where a function takes it',
            )
        complete &= ~missing
    return complete
