"""What people say of models' answers: labels made in a notebook or elsewhere, and how far the raters agree."""

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
from lumigator_nb.services.labelling.draws import chances, draw_of, noted, probabilities_of
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
    """What people said of the answers in the experiments of a workspace.

    A label is a preference (which of two answers is better) or a rating (how good one is, on a scale), by a criterion
    such as "quality". Raters are told apart by their names; labelling the same again replaces.
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
        """Begin, or go on, to say blindly which of two answers is better.

        The order of the items, and which model stands as A, are by chance. What this rater has labelled already is
        left out, and so are answers that read the same.

        Args:
            experiment: record, name or id.
            rater: name of the person.
            models: labels of two or more; default all that have succeeded, each against each.
            criterion: what the person looks at.
            sample: examples to label, the same ones for every rater; default all that every model answered.
            seed: of the sample, the order and the sides.
            order: rows of the dataset (from 0) to do first, in this order; those without all answers are left out.

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
        left, options = self._left(topic, shuffled(questions, order, seed, rater), rater)
        return ComparingSession(left, texts, identical=identical, **options)

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
        """Begin, or go on, to say blindly how good answers are, one at a time.

        Args:
            experiment, rater, criterion, sample, seed: as of :meth:`compare`.
            order: as of :meth:`compare`; or the table that :meth:`Comparison.next_to_label` returned, whose
                probabilities are then kept and weigh the ratings, and only whose rows are asked unless `sample` is
                more.
            scale: lowest and highest rating. All ratings by one criterion are on one scale.
            models: labels; default all that have succeeded.

        Raises:
            InvalidInputError: no model has succeeded, the criterion is rated on another scale already, or an option
                is out of range.
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
        left, options = self._left(topic, shuffled(questions, first, seed, rater), rater)
        return RatingSession(left, texts, scale=ends, **options)

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
        """Store labels that were made elsewhere, all of them or none; return how many.

        Args:
            experiment: record, name or id.
            labels: of preferences `row` (of the dataset, from 0), `model`, `other` (labels of models) and
                `preference` (1 the model is better, −1 the other, 0 neither); of ratings `row`, `model` and `rating`.
                `comment`, `seconds` and `rater` may be there; of ratings also `probability`, with which the row was
                drawn (:meth:`Comparison.next_to_label`; give all of a draw at once); more columns are ignored.
            rater: name of the person; default what the column `rater` says.
            kind: default by the column that is there, `preference` or `rating`.
            criterion: what the person looked at.
            scale: lowest and highest rating.

        Raises:
            InvalidInputError: a label is malformed; the message names its row and column.
            NotFoundError: there is no such experiment.

        Examples:
            >>> ws.labels.add(experiment, [{"row": 0, "model": "baseline/copy", "rater": "ana", "rating": 2}])
            1
        """
        given: Iterable[Mapping[Any, Any]] = labels.to_dict("records") if isinstance(labels, pd.DataFrame) else labels
        rows = [dict(row) for row in given]
        if not rows:
            raise InvalidInputError("there are no labels to add", "give one row per label")
        topic = self._topic(experiment, kind or _kind_of(rows[0]), criterion, scale)
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

        Columns: `row`, `rater`, `model`, `other` (in alphabetical order), `preference` (1 the model is better, −1 the
        other, 0 neither), `comment`, `seconds`, `created_at`.

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

        Columns: `row`, `rater`, `model`, `rating`, `comment`, `seconds`, `created_at`, `probability` (with which the
        row came to be rated, where it was drawn by :meth:`Comparison.next_to_label`; 1 for rows rated before that).

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> ws.labels.ratings(experiment)["rater"].value_counts().to_dict()
            {'ana': 90, 'ben': 90}
        """
        return self._table(self._topic(experiment, "rating", criterion))

    def delete(self, experiment: Experiment | str, *, rater: str, criterion: str | None = None) -> int:
        """Remove what one person said, by all criteria or by one; return how many labels that were.

        Raises:
            InvalidInputError: nobody of that name has labelled the experiment.

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
                hint = did_you_mean(name, raters) if raters else "nobody has"
                raise InvalidInputError(f"{name!r} has not labelled experiment {record.name!r}", hint)
            labels = work.labels.of_rater(record.id, name)
            removed = [each for each in labels if criterion is None or each.criterion == criterion.strip()]
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
        """Return how far raters agree: Krippendorff's alpha, with its percentile-bootstrap interval over examples.

        Args:
            experiment: record, name or id.
            kind: "preference" or "rating".
            criterion: what the raters looked at.
            level: see :func:`lumigator_nb.statistics.krippendorff_alpha`; default "nominal" for preferences and
                "ordinal" for ratings.
            confidence, n_resamples, seed: of the interval.

        Returns:
            NaN where no two raters labelled the same, and where all labels are equal.

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
            groups=shared.index.get_level_values("row").to_numpy(),
            confidence=confidence,
            n_resamples=n_resamples,
            seed=seed,
        )

    def _experiment(self, experiment: Experiment | str) -> Experiment:
        with reading(self._database) as work:
            return work.experiments.get(experiment)

    def _topic(self, experiment: Experiment | str, kind: Kind, criterion: str, scale: Scale | None = None) -> Topic:
        kind = checked_kind(kind)
        ends = checked_scale(scale) if kind == "rating" and scale is not None else None
        topic = Topic(self._experiment(experiment).id, kind, checked_name(criterion), ends)
        with reading(self._database) as work:
            _require_one_scale(work, topic)
        return topic

    def _texts(self, experiment_id: str, models: Sequence[str] | None, *, at_least: int) -> Texts:
        record = self._experiment(experiment_id)
        workflows = self._workflows.refresh(record)
        done = {each.label: each for each in workflows if each.status is Status.SUCCEEDED}
        chosen = list(done) if models is None else list(dict.fromkeys(models))
        for label in chosen:
            if label not in done:
                raise InvalidInputError(f"no model that succeeded is called {label!r}", did_you_mean(label, done))
        if len(chosen) < at_least:
            states = ", ".join(f"{each.label} {each.status}" for each in workflows) or "none was launched"
            needed = "two models" if at_least == 2 else "a model"
            raise InvalidInputError(
                f"labelling experiment {record.name!r} needs {needed} that succeeded, not {len(chosen)}: {states}",
                "launch more, or wait: ws.wait(experiment)",
            )
        examples = self._datasets.to_pandas(self._datasets.of(record))
        found = {label: results.read_step(self._store, done[label].id, Step.INFERENCE) for label in sorted(chosen)}
        rows = range(len(examples))
        return Texts(
            examples, {label: frame.set_index("row")["prediction"].reindex(rows) for label, frame in found.items()}
        )

    def _left(self, topic: Topic, questions: Sequence[Question], rater: str) -> tuple[list[Question], dict[str, Any]]:
        """Return what this rater has not labelled yet, and what a session needs besides."""

        def said() -> pd.DataFrame:
            table = self._table(topic)
            return table[table["rater"] == rater]

        def keep(asked: Question, value: float, comment: str | None, seconds: float) -> None:
            self._store_labels(topic, {rater: [topic.label(rater, asked, value, comment_of(comment), seconds)]})

        with reading(self._database) as work:
            labels = work.labels.of_experiment(topic.experiment_id, topic.kind, topic.criterion)
        known = {(each.row, frozenset({each.model, each.other} - {""})) for each in labels if each.rater == rater}
        left = [each for each in questions if each.subject not in known]
        labelled = len(questions) - len(left)
        return left, {
            "keep": keep, "said": said, "rater": rater, "criterion": topic.criterion, "labelled": labelled
        }  # fmt: skip

    def _store_labels(self, topic: Topic, by_rater: Mapping[str, Sequence[Label]]) -> None:
        texts = [("criterion", topic.criterion), *(("name of a rater", rater) for rater in by_rater)]
        texts += [("comment", label.comment) for labels in by_rater.values() for label in labels if label.comment]
        refuse_secrets(texts, self._workflows.submitter.redact)
        with writing(self._database) as work:
            work.experiments.get(topic.experiment_id)  # it may be gone by now
            _require_one_scale(work, topic)
            for labels in by_rater.values():
                work.labels.put(labels)

    def _note_draw(self, topic: Topic, drawn: Mapping[int, float]) -> None:
        if topic.kind != "rating" or not drawn:
            return
        with writing(self._database) as work:
            record = work.experiments.get(topic.experiment_id)
            rated = [each.row for each in work.labels.of_experiment(record.id, topic.kind, topic.criterion)]
            record.asked = noted(record.asked, topic.criterion, drawn, rated)

    def _table(self, topic: Topic) -> pd.DataFrame:
        with reading(self._database) as work:
            labels = work.labels.of_experiment(topic.experiment_id, topic.kind, topic.criterion)
            asked = work.experiments.get(topic.experiment_id).asked
        rows = [{**each.model_dump(), topic.kind: each.value} for each in labels]
        known = chances(asked, topic.criterion, [each.row for each in labels])
        return pd.DataFrame(rows).assign(probability=known).reindex(columns=_COLUMNS[topic.kind])


def _kind_of(row: Mapping[Any, Any]) -> Kind:
    for kind in get_args(Kind):
        if kind in row:
            return checked_kind(kind)
    raise InvalidInputError(
        "the labels have neither a column 'preference' nor a column 'rating'",
        "preferences have row, model, other, preference; ratings have row, model, rating",
    )


def _require_one_scale(work: UnitOfWork, topic: Topic) -> None:
    """Numbers on different scales must never be averaged."""
    if topic.scale is None:
        return
    for low, high in work.labels.scales(topic.experiment_id, topic.criterion):
        if (low, high) != topic.scale:
            raise InvalidInputError(
                f"{topic.criterion!r} is rated on a scale from {low:g} to {high:g} already",
                "take that scale, or another criterion=",
            )
