"""What a file of another evaluation tool says: one model's scores, and as far as it has them texts and costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from lumigator_nb.errors import DamagedError, InvalidInputError, UnknownMetricError
from lumigator_nb.metrics import FloatArray, ScoreInfo, info
from lumigator_nb.specs import Model

Better = Literal["higher", "lower"] | None
# Columns of a model's rows besides `item`, all optional; the numbers have the names of `Workflows.predictions`.
TEXTS = ("example", "ground_truth", "prediction", "error")
NUMBERS = (
    "seconds", "cost", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cache_read_tokens",
    "cache_write_tokens",
)  # fmt: skip
# Scores whose name says that less is better. A wrong guess would turn a verdict around, so every guess is reported.
_LESS_IS_BETTER = re.compile(
    r"(?:^|[^a-z])(?:costs?|prices?|dollars?|usd|latency|latencies|seconds|secs?|ms|time|duration|errors?|loss|nll"
    r"|perplexity|ppl|wer|cer|ter|mae|mse|rmse|toxicity|hallucinations?)(?:$|[^a-z])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ModelResults:
    """One model's results on one task, as a file has them.

    Attributes:
        model: the model's name in the file.
        rows: `item`, the id of the example, and any of `TEXTS` and `NUMBERS`; rows of the same item are repeats.
            `ground_truth` is a text or a tuple of texts.
        scores: (n,) values in the order of the rows, by name; NaN for none.
        infos: name, direction and range of each score.
        metadata: the examples' other columns, in the order of the rows.
        task: the name of the task or benchmark.
        tool: the name of the tool.
        source: the name of the file.
        reported: the overall scores that the file itself reports.
        details: settings and versions, for the report.
        statistics: (n, k) sufficient statistics of scores that are not a mean of the examples' scores.
        spec: the model's settings in this package, if it made the file.
    """

    model: str
    rows: pd.DataFrame
    scores: Mapping[str, FloatArray]
    infos: Mapping[str, ScoreInfo]
    metadata: pd.DataFrame = field(default_factory=pd.DataFrame)
    task: str = ""
    tool: str = ""
    source: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, FloatArray] = field(default_factory=dict)
    spec: Model | None = None


def results_of(
    model: str,
    records: Sequence[Mapping[str, Any]],
    *,
    better: Mapping[str, Better] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    **fields: Any,
) -> ModelResults:
    """Return results from records.

    Args:
        model: the model's name.
        records: one per answer: `item`; any of `TEXTS` and `NUMBERS`; `scores` and `metadata`, by name.
        better, ranges: direction and range of scores, as far as the file states them.
        fields: other attributes of :class:`ModelResults`.
    """
    names = dict.fromkeys(name for record in records for name in record["scores"])
    scores = {
        name: np.array([record["scores"].get(name, math.nan) for record in records], dtype=np.float64) for name in names
    }
    columns = [name for name in (*TEXTS, *NUMBERS) if any(record.get(name) is not None for record in records)]
    rows = pd.DataFrame({name: [record.get(name) for record in records] for name in ("item", *columns)})
    metadata = pd.DataFrame([record.get("metadata") or {} for record in records])
    tool = str(fields.get("tool", ""))
    infos = {
        name: describe(name, values, tool, better or {}, (ranges or {}).get(name)) for name, values in scores.items()
    }
    return ModelResults(model, rows, scores, infos, plain_columns(metadata), **fields)


def describe(
    name: str,
    values: FloatArray,
    tool: str = "",
    better: Mapping[str, Better] | None = None,
    bounds: tuple[float, float] | None = None,
) -> ScoreInfo:
    """Return the description of a score that another tool computed.

    Without `bounds`, scores that are all 0 or 1 are between 0 and 1, and others have no bounds. A score without stated
    direction that has the name and the range of one of this package's has its direction; otherwise more is better,
    unless its name says that it counts costs, time or errors.

    Args:
        name: of the score.
        values: (n,) all of its values; NaN for none.
        tool: that computed it.
        better: stated directions, by name; None for a score that only describes.
        bounds: least and greatest possible value.
    """
    known = values[~np.isnan(values)]
    own = _own(name, known)
    if bounds is None:
        is_binary = len(known) > 0 and bool(np.isin(known, (0.0, 1.0)).all())
        bounds = own.range if own else (0.0, 1.0) if is_binary else (-np.inf, np.inf)
    elif len(known) and (known.min() < bounds[0] or known.max() > bounds[1]):
        worst = known.min() if known.min() < bounds[0] else known.max()
        raise InvalidInputError(f"{name} has the value {worst:g}, outside of {bounds}", "correct the range: ranges=…")
    if better is not None and name in better:
        direction = None if better[name] is None else better[name] == "higher"
    elif own:
        direction = own.higher_is_better
    else:
        direction = not guessed_lower(name)
    description = own.description if own else f"as computed by {tool}" if tool else "as given"
    return ScoreInfo(name, description, direction, bounds)


def guessed_lower(name: str) -> bool:
    """Return whether the name of a score says that less is better."""
    return _LESS_IS_BETTER.search(name) is not None


def _own(name: str, values: FloatArray) -> ScoreInfo | None:
    """This package's score of that name, if the values are in its range and it is a mean."""
    try:
        own = info(name)
    except UnknownMetricError:
        return None
    low, high = own.range
    return own if not len(values) or (values.min() >= low and values.max() <= high) else None


def plain_columns(metadata: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that hold texts, numbers and truth values; lists and objects divide no examples."""
    plain = [
        name
        for name in metadata.columns
        if all(value is None or isinstance(value, (str, int, float, bool, np.generic)) for value in metadata[name])
    ]
    return metadata[plain].rename(columns=str)


def number(value: Any) -> float:
    """Return a score as a number: truth values and Inspect's C, P, I and N count 1, 0.5, 0 and 0; NaN if it is none."""
    letters = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
    if isinstance(value, str):
        try:
            return letters[value] if value in letters else float(value)
        except ValueError:
            return math.nan
    return float(value) if isinstance(value, (bool, int, float, np.number)) else math.nan


def text(value: Any) -> str | None:
    """Return a text; messages of a chat become their contents, other values JSON-like text; None for nothing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        parts = [item.get("content", item.get("text", "")) if isinstance(item, Mapping) else item for item in value]
        return "\n\n".join(text(part) or "" for part in parts)
    return str(value)


def references(value: Any) -> str | tuple[str, ...] | None:
    """Return a target as ground truth: a text, several, or none."""
    if isinstance(value, (list, tuple, np.ndarray)):
        texts = tuple(str(item) for item in value if item is not None)
        return texts[0] if len(texts) == 1 else texts or None
    return None if value is None or value == "" else str(value)


def malformed(source: str, problem: str) -> DamagedError:
    """Return the error for a file that is not what its format promises."""
    return DamagedError(f"{source}: {problem}", "export it again with the tool that wrote it")
