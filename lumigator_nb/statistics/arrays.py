"""Input checks: turn lists, Series and arrays of any number type into float64 arrays."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lumigator_nb.errors import InvalidInputError

FloatArray = NDArray[np.float64]
# What to do with an example without a score: refuse the input, or leave the example out.
Missing = Literal["raise", "omit"]


def as_floats(values: ArrayLike, what: str = "scores") -> FloatArray:
    """Return numbers or truth values as a float64 array of the same shape; None and pandas' NA become NaN.

    Args:
        values: list, Series or array of any shape.
        what: the name of the values in an error.

    Raises:
        InvalidInputError: a value is not a real number, or rows differ in length.
    """
    to_numpy: Any = getattr(values, "to_numpy", None)
    try:
        if to_numpy is not None:  # np.asarray() alone fails on the NA of a Series
            return np.asarray(to_numpy(dtype=np.float64, na_value=np.nan))
        if np.iscomplexobj(values):
            raise TypeError("complex numbers are not scores")  # NumPy would drop the imaginary part
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{what} are not a table of numbers: {error}", "give numbers, in rows of equal length"
        ) from None


def mid_ranks(values: FloatArray) -> FloatArray:
    """Return (n,) ranks of (n,) values, less one half; equal values share the mean of their ranks.

    The constant half cancels in every statistic that uses these ranks (alpha, Spearman's correlation).
    """
    # scipy.stats.rankdata is too slow when called for a thousand resamples of a few dozen values.
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = np.cumsum(counts) - counts / 2
    return ranks[codes]


def complete_rows(named: dict[str, FloatArray], nan: Missing) -> NDArray[np.bool_]:
    """Return (n,) booleans: the rows without NaN in any of the arrays. Rows are the first axis of each array.

    Args:
        named: arrays of n rows, by the name that an error gives them.
        nan: "raise" an error for a row with NaN, or "omit" such rows.

    Raises:
        InvalidInputError: a row has NaN and `nan` is "raise", or `nan` is something else.
    """
    if nan not in get_args(Missing):
        raise InvalidInputError(f"nan cannot be {nan!r}", f"use one of {', '.join(get_args(Missing))}")
    complete = np.ones(len(next(iter(named.values()))), dtype=np.bool_)
    for name, values in named.items():
        missing = np.isnan(values).any(axis=tuple(range(1, values.ndim)))
        if nan == "raise" and missing.any():
            raise InvalidInputError(
                f"row {int(missing.argmax())} of {name} is NaN",
                'score it, or leave such rows out (nan="omit", in functions that take it)',
            )
        complete &= ~missing
    return complete


def check_confidence(confidence: float) -> None:
    """Refuse a confidence outside of (0, 1).

    Raises:
        InvalidInputError: it is out of range.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence cannot be {confidence}", "give a number between 0 and 1, such as 0.95")
