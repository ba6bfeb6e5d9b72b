"""What each model's answers cost, how long they took, and how many there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lumigator_nb.storage.results import TOKENS


def costs(predictions: Mapping[str, pd.DataFrame], free: Collection[str] = ()) -> pd.DataFrame:
    """Return one row per model.

    Args:
        predictions: per label, the frame of :meth:`Workflows.predictions`; columns may be missing.
        free: labels of what costs nothing: baselines.
    """
    nothing = {"dollars": 0.0, "dollars_per_1000": 0.0}
    return pd.DataFrame(
        [{"model": label, **_of(frame), **(nothing if label in free else {})} for label, frame in predictions.items()]
    )


def _of(frame: pd.DataFrame) -> dict[str, Any]:
    answered = frame[frame["prediction"].notna()]
    # A model that thinks until its tokens are used up is paid for all the same.
    dollars, seconds = _numbers(frame, "cost"), _numbers(answered, "seconds")
    tokens = _numbers(answered, "completion_tokens")
    paid = dollars.notna().any()
    return {
        "examples": len(frame),
        "answered": len(answered),
        "failed": len(frame) - len(answered),
        "cached": int((_column(answered, "cached") == True).sum()),  # noqa: E712 - the column may hold None
        "truncated": int((_column(frame, "truncated") == True).sum()),  # noqa: E712
        "cut_off": int((_column(frame, "finish") == "length").sum()),
        **{name: int(_numbers(frame, name).sum()) for name in TOKENS},
        "dollars": float(dollars.sum()) if paid else np.nan,
        "dollars_per_1000": 1000 * float(dollars.mean()) if paid else np.nan,
        "seconds_p50": float(seconds.quantile(0.5)),
        "seconds_p95": float(seconds.quantile(0.95)),
        "tokens_per_second": float((tokens / seconds.where(seconds > 0)).median()),
    }


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series(index=frame.index, dtype=object)


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(_column(frame, name), errors="coerce").astype("float64")
