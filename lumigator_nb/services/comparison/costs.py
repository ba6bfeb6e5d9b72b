"""Cost, latency and number of each model's answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from lumigator_nb.storage.results import TOKENS


def costs(predictions: Mapping[str, pd.DataFrame], free: Collection[str] = ()) -> pd.DataFrame:
    """Return one row per model.

    Args:
        predictions: per label, the frame of :meth:`Workflows.predictions`; columns may be missing.
        free: labels of the models that cost nothing: baselines.

    Returns:
        The columns of :meth:`Comparison.costs`; dollars are NaN without a price.
    """
    rows = []
    for label, frame in predictions.items():
        answered = frame[frame["prediction"].notna()]
        # Of all rows, not the answered alone: reasoning that used up all its tokens without an answer is billed, too.
        dollars, seconds = _numbers(frame, "cost"), _numbers(answered, "seconds")
        tokens = _numbers(answered, "completion_tokens")
        total, mean = float(dollars.sum(min_count=1)), float(dollars.mean())
        rows.append(
            {
                "model": label,
                "examples": len(frame),
                "answered": len(answered),
                "failed": len(frame) - len(answered),
                "cached": int((_column(answered, "cached") == True).sum()),  # noqa: E712 - the column may hold None
                "truncated": int((_column(frame, "truncated") == True).sum()),  # noqa: E712
                "cut_off": int((_column(frame, "finish") == "length").sum()),
                **{name: int(_numbers(frame, name).sum()) for name in TOKENS},
                "dollars": 0.0 if label in free else total,
                "dollars_per_1000": 0.0 if label in free else 1000 * mean,
                "seconds_p50": float(seconds.quantile(0.5)),
                "seconds_p95": float(seconds.quantile(0.95)),
                "tokens_per_second": float((tokens / seconds.where(seconds > 0)).median()),
            }
        )
    return pd.DataFrame(rows)


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column that predictions of an earlier version may lack."""
    return frame[name] if name in frame else pd.Series(index=frame.index, dtype=object)


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    return pd.to_numeric(_column(frame, name), errors="coerce").astype("float64")
