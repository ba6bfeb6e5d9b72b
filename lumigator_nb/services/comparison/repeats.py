"""Repeats: a model that was asked each example several times is scored by its mean, and shows how stable it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.display.text import count
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import FloatArray
from lumigator_nb.specs import Model
from lumigator_nb.statistics import bootstrap_interval
from lumigator_nb.storage.results import REASON_SUFFIX, STATISTICS_SUFFIX


def label_of(label: str, model: Model) -> str:
    """Return the label of a workflow without the number of its repeat, which `launch` puts there."""
    return label.removesuffix(f" (repeat {model.repeat})")


def averaged(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return one frame of scores with the mean over repeats of each score and of its sufficient statistics.

    The overall score of mean statistics is that of all answers together, such as their corpus BLEU. A missing score
    leaves its repeat out; a reason is that of the first repeat that has one.

    Args:
        frames: per repeat, the frame of :func:`lumigator_nb.storage.results.read_scores`.
    """
    if len(frames) == 1:
        return frames[0]
    by_row = [frame.set_index("row") for frame in frames]
    rows = pd.Index(np.unique(np.concatenate([frame.index for frame in by_row])))
    means = {}
    for name in dict.fromkeys(column for frame in by_row for column in frame.columns):
        columns = [frame[name].reindex(rows) for frame in by_row if name in frame]
        if name.endswith(REASON_SUFFIX):
            means[name] = pd.concat(columns, axis=1).bfill(axis=1).iloc[:, 0]
        elif name.endswith(STATISTICS_SUFFIX):
            means[name] = pd.Series([_mean_vector(vectors) for vectors in zip(*columns, strict=True)], index=rows)
        else:
            table = np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
            means[name] = pd.Series(statistics.mean_over_repeats(table), index=rows)
    return pd.DataFrame(means).rename_axis("row").reset_index()


def _mean_vector(vectors: Sequence[object]) -> np.ndarray | None:
    """Return the mean of the (k,) statistics of one example's repeats; None if no repeat has any."""
    present = [np.asarray(vector, dtype=np.float64) for vector in vectors if np.ndim(vector)]  # type: ignore[arg-type]
    complete = [vector for vector in present if not np.isnan(vector).any()]
    return np.mean(complete or present, axis=0) if present else None


def tables(frames: Sequence[Sequence[pd.DataFrame]]) -> dict[str, FloatArray]:
    """Return (models, rows, repeats) values per score, NaN for none; empty where each model was asked once.

    Args:
        frames: per model and repeat, the frame of :func:`lumigator_nb.storage.results.read_scores`.
    """
    most = max(map(len, frames))
    if most == 1:
        return {}
    by_row = [[frame.set_index("row") for frame in repeats] for repeats in frames]
    size = 1 + max(int(frame.index.max()) for repeats in by_row for frame in repeats if len(frame))
    names = [str(name) for name in by_row[0][0].columns]
    names = [name for name in names if not name.endswith((REASON_SUFFIX, STATISTICS_SUFFIX))]
    values = {name: np.full((len(frames), size, most), np.nan) for name in names}
    for model, repeats in enumerate(by_row):
        for repeat, frame in enumerate(repeats):
            for name in (name for name in names if name in frame):
                values[name][model, frame.index, repeat] = frame[name].to_numpy(dtype=np.float64)
    return values


def summary(models: Sequence[str], values: FloatArray, tolerance: float, confidence: float) -> pd.DataFrame:
    """See :meth:`Comparison.repeats`."""
    rows = []
    for label, scores in zip(models, values, strict=True):
        if np.isnan(scores).all():
            continue
        parts = statistics.variance_components(scores)
        found = statistics.instability(scores, tolerance=tolerance, confidence=confidence)
        rows.append(
            {
                "model": label,
                "repeats": parts.repeats,
                "n": parts.n,
                "mean": parts.mean,
                "between": parts.between,
                "within": parts.within,
                "share_within": parts.share_within,
                "error": parts.error,
                "error_examples": parts.error_examples,
                "error_repeats": parts.error_repeats,
                "unstable": found.share.estimate,
                "unstable_low": found.share.low,
                "unstable_high": found.share.high,
                "disagreement": found.disagreement,
            }
        )
    return pd.DataFrame(rows)


def unstable(values: FloatArray, tolerance: float) -> pd.DataFrame:
    """Return the examples on which the (rows, repeats) scores of one model differ; see :meth:`Comparison.unstable`."""
    found = statistics.instability(values, tolerance=tolerance)
    columns = {f"repeat {number}": scores for number, scores in enumerate(values[found.rows].T, start=1)}
    return pd.DataFrame({"spread": found.spread[found.rows], **columns}, index=pd.Index(found.rows, name="row"))


def passes(
    models: Sequence[str], values: FloatArray, k: int, threshold: float | None, confidence: float, seed: int
) -> pd.DataFrame:
    """See :meth:`Comparison.passes`."""
    rows = []
    for label, some, every in zip(
        models,
        statistics.pass_at_k(values, k, threshold=threshold),
        statistics.pass_hat_k(values, k, threshold=threshold),
        strict=True,
    ):
        row: dict[str, object] = {"model": label, "n": int((~np.isnan(some)).sum())}
        for name, chances in (("pass_at_k", some), ("pass_hat_k", every)):
            interval = bootstrap_interval(chances, confidence=confidence, seed=seed, nan="omit", bounds=(0, 1))
            row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def of_score(repeats: Mapping[str, FloatArray], score: str) -> FloatArray:
    """Return the (models, rows, repeats) values of a score.

    Raises:
        InvalidInputError: no model was asked repeatedly.
    """
    if score not in repeats:
        raise InvalidInputError("no model was asked repeatedly", "ws.workflows.launch(…, repeats=5)")
    return repeats[score]


def notes(models: Sequence[str], repeats: Mapping[str, FloatArray], score: str) -> list[str]:
    """Return a sentence for each model that was asked repeatedly: how stable it is, and what more repeats would do."""
    if score not in repeats:
        return []
    lines = []
    for label, values in zip(models, repeats[score], strict=True):
        times = int((~np.isnan(values)).any(axis=0).sum())
        if times < 2:
            continue
        parts, found = statistics.variance_components(values), statistics.instability(values)
        line = f"{label} was asked {times} times; its scores are means over repeats."
        line += f" {score} differs between repeats on {len(found.rows):,} of {count(parts.n, 'example')}"
        if len(found.rows) and parts.error > 0:
            narrower = 1 - parts.error_examples / parts.error
            line += (
                f", which causes {parts.share_within:.0%} of its variance. "
                f"More repeats would narrow its interval by at most {narrower:.0%}"
            )
        lines.append(f"{line}.")
    return lines
