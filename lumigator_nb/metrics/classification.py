"""Scores of classification: how well predicted labels agree with the ground truth.

All are computed from counts by label that add up over examples, so that intervals, paired tests and slices hold for
them as for a mean. Values are those of scikit-learn, where a class that occurs neither in the ground truth nor in the
predictions is left out of averages (``zero_division=np.nan``), and an answer without a readable label is a class of
its own that no average includes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics.base import FloatArray, Metric, Rows, ScoreInfo, Scores, choice
from lumigator_nb.metrics.registry import metric_class
from lumigator_nb.models.prompts.labels import LabelReader, UnreadableError
from lumigator_nb.specs import MetricSpec, Task, check_labels
from lumigator_nb.statistics.resampling import wide


def _columns(totals: FloatArray, parts: int) -> list[FloatArray]:
    """Return (…, labels) counts of each kind from (…, parts · labels) sums."""
    return list(np.moveaxis(totals.reshape(*totals.shape[:-1], parts, -1), -2, 0))


def _ratio(numerator: FloatArray, denominator: FloatArray, *, otherwise: float = 0.0) -> FloatArray:
    known = denominator > 0
    return np.where(known, numerator / np.where(known, denominator, 1), otherwise)


@wide
def balanced_accuracy(totals: FloatArray, n: Any) -> FloatArray:
    """Return the mean recall of the classes that occur in the ground truth.

    Args:
        totals: (…, 2 · labels) numbers of right predictions and of examples by label.
        n: number of examples.
    """
    right, truth = _columns(totals, 2)
    return _ratio(_ratio(right, truth).sum(axis=-1), (truth > 0).sum(axis=-1), otherwise=np.nan)


@wide
def macro_f1(totals: FloatArray, n: Any) -> FloatArray:
    """Return the mean F1 of the classes that occur in ground truth or predictions.

    Args:
        totals: (…, 2 · labels) numbers of right predictions, and of predictions and examples together, by label.
        n: number of examples.
    """
    right, sizes = _columns(totals, 2)
    return _ratio(_ratio(2 * right, sizes).sum(axis=-1), (sizes > 0).sum(axis=-1))


def micro_f1(totals: FloatArray, n: Any) -> FloatArray:
    """Return the F1 of all labels together.

    Args:
        totals: (…, 2) numbers of right predictions, and of predictions and labels in the ground truth together.
        n: number of examples.
    """
    return _ratio(2 * totals[..., 0], totals[..., 1])


@wide
def weighted_f1(totals: FloatArray, n: Any) -> FloatArray:
    """Return the mean F1 of the classes, weighted by their numbers in the ground truth.

    Args:
        totals: (…, 3 · labels) as of :func:`macro_f1`, and numbers of examples by label.
        n: number of examples.
    """
    right, sizes, truth = _columns(totals, 3)
    return _ratio((truth * _ratio(2 * right, sizes)).sum(axis=-1), truth.sum(axis=-1))


@wide
def mcc(totals: FloatArray, n: Any) -> FloatArray:
    """Return Matthews' correlation for several classes; 0 where predictions or ground truth have one class alone.

    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", Computational Biology
    and Chemistry 28(5-6).

    Args:
        totals: (…, 2 · labels + 1) number of right predictions; numbers of predictions, and of examples, by label.
        n: number of examples.
    """
    right, predicted, truth, unreadable = _marginals(totals, n)
    covariance = right * n - (predicted * truth).sum(axis=-1)
    of_predictions = n * n - np.square(predicted).sum(axis=-1) - np.square(unreadable)
    of_truth = n * n - np.square(truth).sum(axis=-1)
    return _ratio(covariance, np.sqrt(of_predictions * of_truth))


@wide
def cohen_kappa(totals: FloatArray, n: Any) -> FloatArray:
    """Return the agreement beyond chance; 0 where predictions and ground truth have the same class alone.

    Cohen 1960, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20(1).

    Args:
        totals: as of :func:`mcc`.
        n: number of examples.
    """
    right, predicted, truth, _ = _marginals(totals, n)
    expected = (predicted * truth).sum(axis=-1)
    return _ratio(right * n - expected, n * n - expected)


def _marginals(totals: FloatArray, n: Any) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    predicted, truth = _columns(totals[..., 1:], 2)
    return totals[..., 0], predicted, truth, n - predicted.sum(axis=-1)


# The score, and the column of a confusion matrix, of answers that name no label.
UNREADABLE = "unreadable"
_SINGLE_ONLY = ("balanced_accuracy", "mcc", "cohen_kappa")


@metric_class
class Classification(Metric):
    """How well predicted labels agree with the ground truth.

    Args:
        labels: the labels; an experiment takes them from its task.
        multi_label: whether an example may have any number of labels; accuracy is then the share of examples of which
            all labels are right, and the ground truth of an example is a JSON list of labels, or labels separated by
            commas.
    """

    name = "classification"
    needs = frozenset({"ground_truth"})
    uses_pandas = False
    default_for = frozenset({"classification"})
    infos: tuple[ScoreInfo, ...] = (
        # It decides by default: a mean, whose interval holds however rare a class is, and by which models can race.
        ScoreInfo("accuracy", "share of predictions with the right label", True, (0.0, 1.0), headline=4),
        ScoreInfo("macro_f1", "mean F1 of the labels, each counting the same", True, (0.0, 1.0), macro_f1),
        ScoreInfo("balanced_accuracy", "mean share of right predictions by label", True, (0.0, 1.0), balanced_accuracy),
        ScoreInfo("micro_f1", "F1 of all labels together", True, (0.0, 1.0), micro_f1),
        ScoreInfo("weighted_f1", "mean F1 of the labels, weighted by their frequency", True, (0.0, 1.0), weighted_f1),
        ScoreInfo("mcc", "Matthews' correlation of predictions and ground truth", True, (-1.0, 1.0), mcc),
        ScoreInfo("cohen_kappa", "agreement with the ground truth beyond chance", True, (-1.0, 1.0), cohen_kappa),
        ScoreInfo(UNREADABLE, "share of answers that name no label; they count as wrong", False, (0.0, 1.0)),
    )

    def __init__(self, *, labels: Sequence[str] = (), multi_label: bool = False) -> None:
        choice(self.name, "multi_label", multi_label, (False, True))
        self.labels = check_labels(labels) if labels else ()
        self.multi_label = multi_label
        if multi_label:
            self.infos = tuple(info for info in type(self).infos if info.name not in _SINGLE_ONLY)

    @classmethod
    def options_of(cls, task: Task) -> Mapping[str, Any]:
        """As in :class:`Metric`: the labels of the task."""
        if task.kind != "classification":
            return {}
        return {"labels": list(task.labels), **({"multi_label": True} if task.multi_label else {})}

    @classmethod
    def describe(cls, spec: MetricSpec) -> str:
        """As in :class:`Metric`: with the number of labels."""
        kind = "multi-label, " if spec.options.get("multi_label") else ""
        return f"{spec.name} ({kind}{len(spec.options.get('labels', ()))} labels)"

    @property
    def signature(self) -> str:
        """As in :class:`Metric`."""
        kind = "multi" if self.multi_label else "single"
        return f"classification|impl:lumigator_nb|reader:1|kind:{kind}|absent-classes:left-out|references:any"

    def prepare(self) -> None:
        """As in :class:`Metric`.

        Raises:
            InvalidInputError: there are no labels.
        """
        if not self.labels:
            raise InvalidInputError(
                "metric 'classification' needs labels", "take them from a task: lm.Classification(['yes', 'no'])"
            )

    def _score(self, rows: Rows) -> list[Scores]:
        reader = LabelReader(self.labels, multi_label=self.multi_label)
        n, width = len(rows), len(self.labels)
        truth, predicted = np.zeros((n, width)), np.zeros((n, width))
        unscorable: list[str | None] = [None] * n
        unreadable: list[str | None] = [None] * n
        for row, (text, references) in enumerate(zip(rows.predictions, rows.ground_truth, strict=True)):
            try:
                known = [reader.stated(reference) for reference in references]
            except UnreadableError as error:
                unscorable[row] = f"the ground truth {error}"
                continue
            found: tuple[int, ...] | None = None
            try:
                found = reader.read(text)
                predicted[row, list(found)] = 1
            except UnreadableError as error:
                unreadable[row] = str(error)
            # Of several references, the one that the prediction meets is the truth.
            truth[row, list(found if found in known else known[0])] = 1
        return self._scores(truth, predicted, unscorable, unreadable)

    def _scores(
        self,
        truth: FloatArray,
        predicted: FloatArray,
        unscorable: Sequence[str | None],
        unreadable: Sequence[str | None],
    ) -> list[Scores]:
        failed = np.array([reason is not None for reason in unreadable], dtype=bool)
        right, sizes = truth * predicted, truth + predicted
        equal = ((truth == predicted).all(axis=1) & ~failed).astype(np.float64)
        totals = sizes.sum(axis=1)
        shared = np.where(totals > 0, 2 * right.sum(axis=1) / np.where(totals > 0, totals, 1), equal)
        correct = right.sum(axis=1, keepdims=True)
        statistics = {
            "accuracy": equal[:, None],
            "balanced_accuracy": np.hstack([right, truth]),
            "macro_f1": np.hstack([right, sizes]),
            "micro_f1": np.hstack([correct, sizes.sum(axis=1, keepdims=True)]),
            "weighted_f1": np.hstack([right, sizes, truth]),
            "mcc": np.hstack([correct, predicted, truth]),
            "cohen_kappa": np.hstack([correct, predicted, truth]),
            UNREADABLE: failed.astype(np.float64)[:, None],
        }
        missing = np.array([reason is not None for reason in unscorable], dtype=bool)
        reasons = {"accuracy": self._explained(predicted, equal, unscorable, unreadable), UNREADABLE: unreadable}
        scores = []
        for info in self.infos:
            table = np.where(missing[:, None], np.nan, statistics[info.name])
            # One example's share: of its labels, which for a single label is whether it is right.
            values = np.where(missing, np.nan, table[:, 0] if table.shape[1] == 1 else shared)
            told = [why or reason for why, reason in zip(unscorable, reasons.get(info.name, unscorable), strict=True)]
            scores.append(Scores(info, values, table, tuple(told) if any(told) else ()))
        return scores

    def _explained(
        self,
        predicted: FloatArray,
        equal: FloatArray,
        unscorable: Sequence[str | None],
        unreadable: Sequence[str | None],
    ) -> list[str | None]:
        """Return why an answer is wrong: the label that was read, or why none was."""
        reasons: list[str | None] = []
        for row, why in enumerate(unreadable):
            names = ", ".join(label for label, count in zip(self.labels, predicted[row], strict=True) if count)
            is_wrong = unscorable[row] is None and not equal[row]
            reasons.append(why or (f"read as {names or 'no label'}" if is_wrong else None))
        return reasons
