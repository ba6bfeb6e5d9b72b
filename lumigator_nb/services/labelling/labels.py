"""Human labels of models' answers: collect them in a notebook, import them, read them, measure agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading, writing
from lumigator_nb.database.records import Experiment, Label
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services.datasets.datasets import Datasets
from lumigator_nb.services.labelling.draws import draw_of, inclusion_probabilities, probabilities_of, with_draw
from lumigator_nb.services.labelling.plans import Question, Texts, chosen_rows, pair_questions, pairs_of, shuffled
from lumigator_nb.services.labelling.rows import (
    Kind,
    Scale,
    TableReader,
    Topic,
    checked_kind,
    checked_scale,
    comment_of,
)
from lumigator_nb.services.labelling.session import ComparingSession, RatingSession
from lumigator_nb.services.names import checked_name
from lumigator_nb.services.workflows.workflows import Workflows
from lumigator_nb.specs import Status, Step
from lumigator_nb.statistics import Interval
from lumigator_nb.statistics.agreement import Level
from lumigator_nb.storage import results
from lumigator_nb.storage.store import Store

_COLUMNS: dict[Kind, list[str]] = {
    "preference": ["row", "rater", "model", "other", "preference", "comment", "seconds", "created_at"],
    "rating": ["row", "rater", "model", "rating", "comment", "seconds", "created_at", "probability"],
}


class Labels:
    """The human labels in the experiments of a workspace.

    A label is a preference (which of two answers is better) or a rating (how good an answer is, on a scale), by a
    criterion such as "quality". A rater is identified by name. A new label replaces an older one of the same answers.
    """

    def __init__(self, database: Database, store: Store, datasets: Datasets, workflows: Workflows) -> None:
        self._database = database
        self._store = store
        self._datasets = datasets
        self._workflows = workflows

    def compare(
        self,
        experiment: Experiment | str,
        *,
        rater: str,
        models: Sequence[str] | None = None,
        criterion: str = "quality",
        sample: int | None = None,
        seed: int = 0,
        order: Sequence[int] | None = None,
    ) -> ComparingSession:
        """Start or continue a session of blind pairwise comparisons.

        The order of the items and the sides of the models are random. Items that this rater has labelled already are
        left out, and so are pairs of equal answers.

        Args:
            experiment: record, name or id.
            rater: name of the person.
            models: labels of two or more models; default: all that have succeeded. All pairs of them are compared.
            criterion: what the person judges.
            sample: number of examples to label, the same ones for every rater; default: all that every model answered.
            seed: random seed of the sample, the order and the sides.
            order: rows of the dataset (from 0) to label first, in this order; rows without all answers are left out.

        Raises:
            InvalidInputError: fewer than two models have succeeded, or an option is out of range.
            NotFoundError: there is no such experiment.

        Examples:
            >>> models = ["baseline/lead-1", "baseline/lead-3"]
            >>> session = ws.labels.compare(experiment, rater="ana", models=models, sample=5)
            >>> session.answer("a")
            >>> session.progress
            (1, 5)
        """
        topic, rater = self._topic(experiment, "preference", criterion), checked_name(rater)
        texts = self._texts(topic.experiment_id, models, at_least=2)
        rows = chosen_rows(texts, order, sample, seed)
        questions, identical = pair_questions(texts, rows, pairs_of(list(texts.answers)), seed, rater)
        remaining, options = self._remaining(topic, shuffled(questions, order, seed, rater), rater)
        return ComparingSession(remaining, texts, identical=identical, **options)

    def rate(
        self,
        experiment: Experiment | str,
        *,
        rater: str,
        scale: Scale = (1, 5),
        models: Sequence[str] | None = None,
        criterion: str = "quality",
        sample: int | None = None,
        seed: int = 0,
        order: Sequence[int] | pd.DataFrame | None = None,
    ) -> RatingSession:
        """Start or continue a session of blind ratings, one answer at a time.

        Args:
            experiment, rater, criterion, sample, seed: as for :meth:`compare`.
            order: as for :meth:`compare`; or the table that :meth:`Comparison.next_to_label` returned. Its
                probabilities are stored and weight the ratings, and only its rows are asked unless `sample` is larger.
            scale: lowest and highest rating. All ratings by one criterion must use the same scale.
            models: labels of models; default: all that have succeeded.

        Raises:
            InvalidInputError: no model has succeeded, the criterion has ratings on another scale, or an option is out
                of range.
            NotFoundError: there is no such experiment.

        Examples:
            >>> session = ws.labels.rate(experiment, rater="ana", sample=2)
            >>> session.answer(4)
            >>> session.progress
            (1, 6)
        """
        ends, rater = checked_scale(scale), checked_name(rater)
        topic = self._topic(experiment, "rating", criterion, ends)
        texts = self._texts(topic.experiment_id, models, at_least=1)
        first, drawn = draw_of(order)
        if drawn and sample is None:
            sample = len(drawn.keys() & set(texts.answered())) or None
        rows = chosen_rows(texts, first, sample, seed)
        self._note_draw(topic, drawn)
        questions = [Question(row, (label,)) for row in sorted(rows) for label in texts.answers]
        remaining, options = self._remaining(topic, shuffled(questions, first, seed, rater), rater)
        return RatingSession(remaining, texts, scale=ends, **options)

    def add(
        self,
        experiment: Experiment | str,
        labels: pd.DataFrame | Iterable[Mapping[str, Any]],
        *,
        rater: str | None = None,
        kind: Kind | None = None,
        criterion: str = "quality",
        scale: Scale = (1, 5),
    ) -> int:
        """Import labels that were made elsewhere, all of them or none, and return their number.

        Args:
            experiment: record, name or id.
            labels: one row per label. Preferences have `row` (of the dataset, from 0), `model`, `other` (labels of
                models) and `preference` (1: the model is better, −1: the other, 0: neither). Ratings have `row`,
                `model` and `rating`. Optional columns: `comment`, `seconds`, `rater`; for ratings also `probability`,
                with which the row was drawn (:meth:`Comparison.next_to_label`; import all rows of a draw at once).
                Other columns are ignored.
            rater: name of the person; default: the column `rater`.
            kind: "preference" or "rating"; default: by the columns.
            criterion: what the person judged.
            scale: lowest and highest rating.

        Raises:
            InvalidInputError: a label is malformed; the message names its row and column.
            NotFoundError: there is no such experiment.

        Examples:
            >>> ws.labels.add(experiment, [{"row": 0, "model": "baseline/copy", "rater": "ana", "rating": 2}])
            1
        """
        records: Iterable[Mapping[Any, Any]] = labels.to_dict("records") if isinstance(labels, pd.DataFrame) else labels
        rows = [dict(row) for row in records]
        if not rows:
            raise InvalidInputError("there are no labels to add", "give one row per label")
        if kind is None:
            kind = next((checked_kind(name) for name in get_args(Kind) if name in rows[0]), None)
        if kind is None:
            raise InvalidInputError(
                "the labels have neither a column 'preference' nor a column 'rating'",
                "preferences have row, model, other, preference; ratings have row, model, rating",
            )
        topic = self._topic(experiment, kind, criterion, scale)
        with reading(self._database) as work:
            record = work.experiments.get(topic.experiment_id)
            models = [workflow.label for workflow in work.workflows.of_experiment(record.id)]
            n_examples = work.data_of(record).n_examples
        name = None if rater is None else checked_name(rater)
        by_rater = TableReader(topic, models, n_examples, name).labels(rows)
        self._note_draw(topic, probabilities_of({int(row["row"]): row.get("probability") for row in rows}))
        self._store_labels(topic, by_rater)
        return len(rows)

    def preferences(self, experiment: Experiment | str, criterion: str = "quality") -> pd.DataFrame:
        """Return all preferences by a criterion.

        Columns: `row`, `rater`, `model`, `other` (in alphabetical order), `preference` (1: the model is better, −1:
        the other, 0: neither), `comment`, `seconds`, `created_at`.

        Examples:
            >>> row = {"row": 0, "model": "baseline/lead-3", "other": "baseline/copy", "preference": 1}
            >>> _ = ws.labels.add(experiment, [row], rater="ana")
            >>> ws.labels.preferences(experiment)[["model", "other", "preference"]]
                       model            other  preference
            0  baseline/copy  baseline/lead-3        -1.0
        """
        return self._table(self._topic(experiment, "preference", criterion))

    def ratings(self, experiment: Experiment | str, criterion: str = "quality") -> pd.DataFrame:
        """Return all ratings by a criterion.

        Columns: `row`, `rater`, `model`, `rating`, `comment`, `seconds`, `created_at`, `probability` (of the row's
        selection if :meth:`Comparison.next_to_label` drew it; 1 for rows rated before that draw; else missing).

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> ws.labels.ratings(experiment)["rater"].value_counts().to_dict()
            {'ana': 90, 'ben': 90}
        """
        return self._table(self._topic(experiment, "rating", criterion))

    def delete(self, experiment: Experiment | str, *, rater: str, criterion: str | None = None) -> int:
        """Delete the labels of one rater, by all criteria or by one, and return their number.

        Raises:
            InvalidInputError: no rater of that name has labelled the experiment.

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> ws.labels.delete(experiment, rater="ben")
            90
        """
        name = checked_name(rater)
        with writing(self._database) as work:
            record = work.experiments.get(experiment)
            raters = work.labels.raters(record.id)
            if name not in raters:
                hint = did_you_mean(name, raters) if raters else "it has no labels"
                raise InvalidInputError(f"{name!r} has not labelled experiment {record.name!r}", hint)
            labels = work.labels.of_rater(record.id, name)
            removed = [label for label in labels if criterion is None or label.criterion == criterion.strip()]
            for label in removed:
                work.labels.delete(label)
        return len(removed)

    def agreement(
        self,
        experiment: Experiment | str,
        kind: Kind = "preference",
        criterion: str = "quality",
        *,
        level: Level | None = None,
        confidence: float = 0.95,
        n_resamples: int = 1000,
        seed: int = 0,
    ) -> Interval:
        """Return the inter-rater agreement: Krippendorff's alpha, with a percentile-bootstrap interval over examples.

        Args:
            experiment: record, name or id.
            kind: "preference" or "rating".
            criterion: what the raters judged.
            level: level of measurement, see :func:`lumigator_nb.statistics.krippendorff_alpha`; default: "nominal" for
                preferences and "ordinal" for ratings.
            confidence, n_resamples, seed: of the bootstrap interval.

        Returns:
            The interval; NaN if no two raters labelled the same answers, or all labels are equal.

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> round(ws.labels.agreement(experiment, "rating").estimate, 2)
            0.18
        """
        topic = self._topic(experiment, kind, criterion)
        table = self._table(topic)
        subject = ["row", "model", "other"] if kind == "preference" else ["row", "model"]
        wide = table.pivot(index=subject, columns="rater", values=kind)
        shared = wide[wide.notna().sum(axis=1) >= 2]
        alpha = partial(
            statistics.krippendorff_alpha, level=level or ("nominal" if kind == "preference" else "ordinal")
        )
        return statistics.bootstrap_agreement(
            alpha,
            shared.to_numpy(dtype=float).T,
            # Labels on one example depend on each other, so whole examples are resampled.
            groups=shared.index.get_level_values("row").to_numpy(),
            confidence=confidence,
            n_resamples=n_resamples,
            seed=seed,
        )

    def _topic(self, experiment: Experiment | str, kind: Kind, criterion: str, scale: Scale | None = None) -> Topic:
        kind = checked_kind(kind)
        ends = checked_scale(scale) if kind == "rating" and scale is not None else None
        with reading(self._database) as work:
            topic = Topic(work.experiments.get(experiment).id, kind, checked_name(criterion), ends)
            _require_one_scale(work, topic)
        return topic

    def _texts(self, experiment_id: str, models: Sequence[str] | None, *, at_least: int) -> Texts:
        with reading(self._database) as work:
            record = work.experiments.get(experiment_id)
        # A workflow may have ended since its status was last recorded.
        workflows = self._workflows.refresh(record)
        done = {workflow.label: workflow for workflow in workflows if workflow.status is Status.SUCCEEDED}
        chosen = list(done) if models is None else list(dict.fromkeys(models))
        for label in chosen:
            if label not in done:
                raise InvalidInputError(f"no model that has succeeded is called {label!r}", did_you_mean(label, done))
        if len(chosen) < at_least:
            states = ", ".join(f"{workflow.label} {workflow.status}" for workflow in workflows) or "none was launched"
            needed = "two models" if at_least == 2 else "a model"
            raise InvalidInputError(
                f"labelling experiment {record.name!r} needs {needed} that succeeded, but has {len(chosen)}: {states}",
                "launch more, or wait: ws.wait(experiment)",
            )
        examples = self._datasets.to_pandas(self._datasets.of(record))
        answers = {}
        for label in sorted(chosen):
            predictions = results.read_step(self._store, done[label].id, Step.INFERENCE)
            answers[label] = predictions.set_index("row")["prediction"].reindex(range(len(examples)))
        return Texts(examples, answers)

    def _remaining(
        self, topic: Topic, questions: Sequence[Question], rater: str
    ) -> tuple[list[Question], dict[str, Any]]:
        """Return the questions that this rater has not answered yet, and the other arguments of a session."""

        def read() -> pd.DataFrame:
            table = self._table(topic)
            return table[table["rater"] == rater]

        def keep(question: Question, value: float, comment: str | None, seconds: float) -> None:
            self._store_labels(topic, {rater: [topic.label(rater, question, value, comment_of(comment), seconds)]})

        with reading(self._database) as work:
            labels = work.labels.of_experiment(topic.experiment_id, topic.kind, topic.criterion)
        # `other` is empty for ratings.
        answered = {
            (label.row, frozenset({label.model, label.other} - {""})) for label in labels if label.rater == rater
        }
        remaining = [question for question in questions if question.subject not in answered]
        return remaining, {
            "keep": keep,
            "read": read,
            "rater": rater,
            "criterion": topic.criterion,
            "labelled": len(questions) - len(remaining),
        }

    def _store_labels(self, topic: Topic, by_rater: Mapping[str, Sequence[Label]]) -> None:
        texts = [("criterion", topic.criterion), *(("name of a rater", rater) for rater in by_rater)]
        texts += [("comment", label.comment) for labels in by_rater.values() for label in labels if label.comment]
        refuse_secrets(texts, self._workflows.submitter.redact)
        with writing(self._database) as work:
            work.experiments.get(topic.experiment_id)  # raises if it was deleted in the meantime
            # Checked again: another rater may have used another scale since the session started.
            _require_one_scale(work, topic)
            for labels in by_rater.values():
                work.labels.put(labels)

    def _note_draw(self, topic: Topic, drawn: Mapping[int, float]) -> None:
        """Store a draw in the experiment, together with the rows that were rated before it."""
        if topic.kind != "rating" or not drawn:
            return
        with writing(self._database) as work:
            record = work.experiments.get(topic.experiment_id)
            rated = [label.row for label in work.labels.of_experiment(record.id, topic.kind, topic.criterion)]
            record.asked = with_draw(record.asked, topic.criterion, drawn, rated)

    def _table(self, topic: Topic) -> pd.DataFrame:
        with reading(self._database) as work:
            labels = work.labels.of_experiment(topic.experiment_id, topic.kind, topic.criterion)
            asked = work.experiments.get(topic.experiment_id).asked
        rows = [{**label.model_dump(), topic.kind: label.value} for label in labels]
        probabilities = inclusion_probabilities(asked, topic.criterion, [label.row for label in labels])
        return pd.DataFrame(rows).assign(probability=probabilities).reindex(columns=_COLUMNS[topic.kind])


def _require_one_scale(work: UnitOfWork, topic: Topic) -> None:
    """Raise InvalidInputError if the criterion has ratings on another scale: they could not be averaged."""
    if topic.scale is None:
        return
    for low, high in work.labels.scales(topic.experiment_id, topic.criterion):
        if (low, high) != topic.scale:
            raise InvalidInputError(
                f"{topic.criterion!r} has ratings on a scale from {low:g} to {high:g} already",
                "use that scale, or another criterion=",
            )
