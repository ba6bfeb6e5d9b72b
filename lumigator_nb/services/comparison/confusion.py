"""What a model confuses: predicted labels against the ground truth, and how well it knows each label."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lumigator_nb.display import render
from lumigator_nb.display.html import fragment, join, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.tables import Table, to_html, to_text
from lumigator_nb.display.text import percent
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.metrics import create
from lumigator_nb.metrics.classification import UNREADABLE, Classification
from lumigator_nb.models.prompts.labels import LabelReader, UnreadableError
from lumigator_nb.specs import MetricSpec
from lumigator_nb.statistics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With fewer examples of a label, its shares are hardly known, and neither are averages over labels.
FEW = 20
_WIDTH = 100


@dataclass(frozen=True, repr=False)
class Confusion(Rendered):
    """The answers of one model to a classification.

    Attributes:
        model: label of the model.
        labels: of the task, in its order.
        truth, predicted: (n, labels) booleans: the labels of each example with an answer and readable ground truth.
        readable: (n,) booleans: whether a label could be read out of the answer.
        rows: (n,) positions of these examples in the dataset.
        confidence: level of the intervals, in (0, 1).
        multi_label: whether an example may have any number of labels.
    """

    model: str
    labels: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    readable: np.ndarray
    rows: np.ndarray
    confidence: float
    multi_label: bool

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Numbers of examples: a row for each label of the ground truth, a column for each that was predicted.

        The last column has the answers of which no label could be read.

        Raises:
            InvalidInputError: examples may have several labels, of which no one is confused with a single other.
        """
        if self.multi_label:
            raise InvalidInputError("several labels have no confusion matrix", "look at .by_label()")
        columns = np.column_stack([self.predicted, ~self.readable])
        counts = self.truth.T.astype(int) @ columns.astype(int)
        return pd.DataFrame(counts, index=list(self.labels), columns=[*self.labels, UNREADABLE])

    def by_label(self) -> pd.DataFrame:
        """Return one row per label: `label`, `n`, `predicted`, `precision`, `recall`, `f1` and the intervals.

        `n` counts the examples that have the label, `predicted` those to which the model gave it. `precision_low`,
        `precision_high`, `recall_low` and `recall_high` are Wilson's intervals of the two shares; NaN of nothing.
        """
        rows = []
        for number, label in enumerate(self.labels):
            truth, predicted = self.truth[:, number], self.predicted[:, number]
            right, n, given = int((truth & predicted).sum()), int(truth.sum()), int(predicted.sum())
            row = {"label": label, "n": n, "predicted": given, "f1": 2 * right / (n + given) if n + given else np.nan}
            for name, total in (("precision", given), ("recall", n)):
                low = high = share = np.nan
                if total:
                    interval = wilson_interval(right, total, self.confidence)
                    share, low, high = interval.estimate, interval.low, interval.high
                row |= {name: share, f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
        order = ["label", "n", "predicted", "precision", "precision_low", "precision_high", "recall", "recall_low"]
        return pd.DataFrame(rows)[[*order, "recall_high", "f1"]]

    def examples(self, truth: str, predicted: str) -> list[int]:
        """Return the positions in the dataset of the examples in one cell: "unreadable" for answers without a label.

        Raises:
            InvalidInputError: there is no such label.
        """
        known = (*self.labels, UNREADABLE)
        for name, allowed in ((truth, self.labels), (predicted, known)):
            if name not in allowed:
                raise InvalidInputError(f"there is no label {name!r}", did_you_mean(name, allowed))
        given = self.predicted[:, self.labels.index(predicted)] if predicted in self.labels else ~self.readable
        found: list[int] = self.rows[self.truth[:, self.labels.index(truth)] & given].tolist()
        return found

    def plot(self) -> Figure:
        """Draw the matrix; the darker a cell, the greater its share of the label's examples.

        Raises:
            InvalidInputError: as :attr:`counts`.
        """
        from lumigator_nb.services.comparison.decision_charts import confusion_chart

        return confusion_chart(self.counts, self.model)


def confusion(
    model: str,
    answers: pd.DataFrame,
    references: Sequence[tuple[str, ...]],
    metrics: Sequence[MetricSpec],
    confidence: float,
) -> Confusion:
    """Return what a model confuses.

    Args:
        model: its label.
        answers: frame with `row` and `prediction`.
        references: of each example of the dataset.
        metrics: of the experiment, one of which is a classification.
        confidence: of the intervals.

    Raises:
        InvalidInputError: no metric is a classification.
    """
    metric = next((each for each in map(create, metrics) if isinstance(each, Classification)), None)
    if metric is None:
        raise InvalidInputError(
            "only a classification has a confusion matrix", "add the metric 'classification' with its labels"
        )
    reader = LabelReader(metric.labels, multi_label=metric.multi_label)
    rows, truth, predicted, readable = [], [], [], []
    for row, text in zip(answers["row"], answers["prediction"], strict=True):
        if not isinstance(text, str) or not references[row]:
            continue
        with suppress(UnreadableError):  # of the ground truth: the example has no score either
            known = [reader.stated(reference) for reference in references[row]]
            found: tuple[int, ...] | None = None
            with suppress(UnreadableError):
                found = reader.read(text)
            rows.append(row)
            readable.append(found is not None)
            truth.append(found if found in known else known[0])
            predicted.append(found or ())
    width = len(metric.labels)
    return Confusion(
        model, metric.labels, _indicators(truth, width), _indicators(predicted, width), np.array(readable, dtype=bool),
        np.array(rows, dtype=np.int64), confidence, metric.multi_label,
    )  # fmt: skip


def _indicators(numbers: Sequence[Sequence[int] | None], width: int) -> np.ndarray:
    table = np.zeros((len(numbers), width), dtype=bool)
    for row, chosen in enumerate(numbers):
        table[row, list(chosen or ())] = True
    return table


def _tables(confused: Confusion) -> list[Table]:
    shares = confused.by_label()

    def share(row: pd.Series, name: str) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return "" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"

    rows = [
        [row["label"], str(row["n"]), str(row["predicted"]), share(row, "precision"), share(row, "recall"),
         "" if np.isnan(row["f1"]) else f"{row['f1']:.2f}"]
        for _, row in shares.iterrows()
    ]  # fmt: skip
    few = [row["label"] for _, row in shares.iterrows() if row["n"] < FEW]
    note = f"Intervals of {percent(confused.confidence)} (Wilson)."
    if few:
        note += (
            f" Fewer than {FEW} examples: {', '.join(few)}. Scores that average over labels (macro_f1, "
            "balanced_accuracy) then have intervals that are too narrow."
        )
    title = f"Labels of {confused.model}"
    headers = ("label", "examples", "predicted", "precision", "recall", "F1")
    found = [Table(headers, rows, title=title, note=note)]
    if not confused.multi_label:
        counts = confused.counts.astype(str).to_numpy().tolist()
        cells = [[label, *values] for label, values in zip(confused.labels, counts, strict=True)]
        matrix = Table(("ground truth", *confused.counts.columns), cells, title="Predicted label, by ground truth")
        found.insert(0, matrix)
    return found


@render.as_html.register
def _as_html(confused: Confusion) -> str:
    return fragment(join([join([tag("h3", table.title), to_html(table)]) for table in _tables(confused)]))


@render.as_text.register
def _as_text(confused: Confusion) -> str:
    return "\n\n".join(to_text(table, _WIDTH) for table in _tables(confused))
