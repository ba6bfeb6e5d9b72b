"""Comparisons: the workflows of one experiment, paired by example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import LATER, Contrast, not_computed, standings, verdict
from lumigator_nb.errors import InvalidInputError, LumigatorError, did_you_mean
from lumigator_nb.metrics import FloatArray, ScoreInfo, create
from lumigator_nb.metrics.copying import copies
from lumigator_nb.models import is_baseline
from lumigator_nb.services.comparison import decisions, exporting, human_labels
from lumigator_nb.services.comparison import judge_reports as passports
from lumigator_nb.services.comparison import slices as slicing
from lumigator_nb.services.comparison.costs import costs
from lumigator_nb.services.comparison.judge_reports import Passport
from lumigator_nb.services.comparison.recommendation import Recommendation
from lumigator_nb.services.comparison.score_samples import Resampling, Scored, main_score, scored_of
from lumigator_nb.specs import MetricResult, Model, is_ground_truth
from lumigator_nb.statistics.prediction_powered import About
from lumigator_nb.storage.results import REASON_SUFFIX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_COLUMNS = ("example", "ground_truth")
MOST_LOOKED_AT = 200
PlotKind = Literal["intervals", "pairwise", "pareto", "slices", "distribution"]


class Comparison(Rendered):
    """How models did on the same examples.

    Everything is computed on the examples that all compared models have a score for, so that differences are paired.

    Args:
        experiment: what was compared.
        dataset: its dataset.
        examples: (rows, …) the dataset's columns, in its order.
        workflows: those that succeeded, in the order of launch.
        jobs: of those workflows.
        predictions: per label, the frame of :meth:`Workflows.predictions`.
        scores: per label, the frame of the evaluation's shards.
        evaluations: per label how the experiment's metrics went, as far as they were computed.
        pending: the other workflows of the experiment, which are only named.
        labels: ratings by people: columns `row`, `model` (label), `rater`, `rating`.
        groups: metadata column; examples with the same value in it, such as those of one customer, are no independent
            witnesses and are resampled together.
        confidence: of all intervals.
        n_resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same numbers.

    Raises:
        InvalidInputError: no example has a score from every model, or there is no such column.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        examples: pd.DataFrame,
        workflows: Sequence[Workflow],
        jobs: Sequence[Job],
        predictions: Mapping[str, pd.DataFrame],
        scores: Mapping[str, pd.DataFrame],
        *,
        evaluations: Mapping[str, Sequence[MetricResult]] | None = None,
        pending: Sequence[Workflow] = (),
        labels: pd.DataFrame | None = None,
        groups: str | None = None,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.experiment = experiment
        self.dataset = dataset
        self.models = tuple(workflow.label for workflow in workflows)
        self.workflows = tuple(workflows)
        self.jobs = tuple(jobs)
        self.pending = tuple(pending)
        self.confidence, self.n_resamples, self.seed, self.groups = confidence, n_resamples, seed, groups
        self._labels = labels
        self._examples = examples
        self._predictions = predictions
        self._evaluations = evaluations or {}
        frames = [scores[label] for label in self.models]
        resampling = Resampling(confidence, n_resamples, seed, slicing.group_codes(examples, groups))
        found = scored_of(experiment, frames, self._evaluations, resampling)
        self._scored = {scored.info.name: scored for scored in found}
        self._contrasts: dict[str, list[Contrast]] = {}
        self._scores = {label: scores[label].set_index("row") for label in self.models}
        if not self._scored:
            raise InvalidInputError(
                "no example has a score from every model",
                " ".join([*self._why_not_computed(), "Compare fewer models, or retry."]),
            )

    @property
    def scores(self) -> tuple[ScoreInfo, ...]:
        """What was scored, in the order of the experiment's metrics."""
        return tuple(scored.info for scored in self._scored.values())

    @cached_property
    def not_computed(self) -> dict[str, dict[str, str]]:
        """The reasons why models have no scores of a metric, by the metric's title and the model.

        Where it is not all models that lack it, its scores stand in :attr:`uncompared`.
        """
        found: dict[str, dict[str, str]] = {}
        for workflow in self.workflows:
            skipped = {title: why for job in self._jobs_of(workflow) for title, why in job.skipped.items()}
            for title, why in [*skipped.items(), *self._never_asked(workflow.label, skipped)]:
                found.setdefault(title, {})[workflow.label] = why
        return found

    def _jobs_of(self, workflow: Workflow) -> list[Job]:
        return [job for job in self.jobs if job.workflow_id == workflow.id]

    def _never_asked(self, label: str, skipped: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The metrics that joined the experiment after a model was scored."""
        known = {result.metric.key for result in self._evaluations.get(label, ())}
        for spec in self.experiment.metrics if known else ():
            if spec.key not in known and spec.title not in skipped:
                yield spec.title, LATER

    @cached_property
    def uncompared(self) -> dict[str, dict[str, float]]:
        """Overall scores, by score and model, that no example has from every model: nothing is compared by them."""
        found: dict[str, dict[str, float]] = {}
        for workflow in self.workflows:
            for job in self._jobs_of(workflow):
                for score, value in job.scores.items():
                    found.setdefault(score, {})[workflow.label] = value

        def is_left_out(score: str) -> bool:
            # Those that all have, and that are not here at all, were exchanged for others: see `rescored`.
            lacking = len(found[score]) < len(self.models)
            return score not in self._scored and (lacking or all(score in each for each in self._scores.values()))

        return {score: values for score, values in found.items() if is_left_out(score)}

    def _why_not_computed(self) -> list[str]:
        return not_computed(self.not_computed, list(self.uncompared), self.models)

    @property
    def metric_notes(self) -> list[str]:
        """What to know of the scores besides their signatures, such as that METEOR did without synonyms."""
        found = []
        for spec in self.experiment.metrics:
            with suppress(LumigatorError):  # of a package that is not installed any more
                metric = create(spec)
                if metric.note and any(info.name in self._scored for info in metric.infos):
                    found.append(metric.note)
        return found

    @property
    def main_score(self) -> str:
        """The score that decides where none is named: the first of rougeL, bleu, chrf that there is, or the first."""
        return str(main_score(self.scores))

    @property
    def decides(self) -> bool:
        """Whether the main score has a better and a worse."""
        return self._of(None).decides

    @cached_property
    def needed_for_skewness(self) -> dict[str, int]:
        """How many examples a score takes before its intervals and p-values can be relied on, where these are fewer.

        By the differences to the leading model: :func:`lumigator_nb.statistics.examples_for_skewness`.
        """
        needed = {name: scored.needed_for_skewness for name, scored in self._scored.items() if scored.decides}
        return {name: number for name, number in needed.items() if number > self._scored[name].n_units}

    @property
    def rated(self) -> bool:
        """Whether people have rated answers of these models."""
        return self._labels is not None and bool(self._labels["model"].isin(self.models).any())

    @property
    def baselines(self) -> tuple[str, ...]:
        """Labels of the baselines: references for the models, no candidates."""
        return tuple(workflow.label for workflow in self.workflows if is_baseline(workflow.model))

    @cached_property
    def copied(self) -> dict[str, tuple[int, int]]:
        """Per model, baselines apart: how many answers mostly copy their input, and of how many that were looked at."""
        texts = self._examples["example"].astype(str)
        return {label: _copied(texts, self._predictions[label]) for label in self.models if label not in self.baselines}

    @property
    def n_scored(self) -> int:
        """Examples that every model has the main score for."""
        return self._of(None).n

    @property
    def near_constant(self) -> dict[str, int]:
        """The models for which nearly all examples have the same main score, and how many have; shares left out."""
        return {
            label: alike for label, alike in zip(self.models, self._of(None).alike, strict=True) if alike is not None
        }

    def best(self, score: str | None = None) -> str:
        """Return the label of the model with the best overall value.

        Raises:
            InvalidInputError: there is no such score, or it has no better or worse (a length).

        Examples:
            >>> comparison.best("rougeL")
            'baseline/copy'
        """
        return self.models[decisions.leader(self._of(score))]

    @cached_property
    def _summary(self) -> pd.DataFrame:
        return decisions.summary(self.models, list(self._scored.values()))

    def summary(self) -> pd.DataFrame:
        """Return one row per score and model.

        Columns: `score`, `model`, `overall`, `low`, `high` (BCa bootstrap interval of `overall`, Wilson's of a share),
        `best` (whether it leads), `difference`, `difference_low`, `difference_high`, `p_value` (to the leading model,
        by one test: :func:`lumigator_nb.statistics.difference`; empty for the leader and for scores without better or
        worse), `p_adjusted` (corrected for all pairs of models on this score), `p_adjusted_all` (for all pairs on all
        scores), `told_apart` (whether `p_adjusted` is at most 1 - confidence), `rank_low` and `rank_high` (which ranks
        are possible: without rank 1 among them some model is shown to be better, see :meth:`contrasts`) and `n`
        (examples).

        Examples:
            >>> table = comparison.summary()
            >>> table.loc[table["score"] == "rougeL", ["model", "overall", "low", "high"]].round(2)
                         model  overall   low  high
            6  baseline/lead-1     0.11  0.10  0.13
            7  baseline/lead-3     0.18  0.16  0.20
            8    baseline/copy     0.19  0.18  0.21
        """
        return self._summary.copy()

    def ranking(self, score: str | None = None) -> pd.DataFrame:
        """Return the models by rank on one score, the best first.

        Columns: `model`, `overall`, `rank_low`, `rank_high` (simultaneous interval of the rank), `best_set` (whether
        no other is shown to be better), `probability_best` (share of resamples in which it is best), `wins`,
        `ties`, `losses` (over all examples and other models).

        Raises:
            InvalidInputError: there is no such score, or it has no better or worse.

        Examples:
            >>> comparison.ranking("rougeL")[["model", "rank_low", "rank_high", "best_set"]]
                         model  rank_low  rank_high  best_set
            0    baseline/copy         1          2      True
            1  baseline/lead-3         1          2      True
            2  baseline/lead-1         3          3     False
        """
        return decisions.ranking(self.models, self._of(score))

    def recommend(
        self, score: str | None = None, *, margin: float | None = None, by: Literal["dollars", "seconds"] | None = None
    ) -> Recommendation:
        """Return which model to take: the best, those that may be as good, and the cheapest that is not worse.

        Baselines are references and never recommended; of the model to take it is said whether it beats each of them.

        Args:
            score: default the main score.
            margin: how much worse still counts as not worse, in units of the score; default 2% of its range.
            by: what is saved, dollars or seconds of an answer; default dollars where prices are known.

        Raises:
            InvalidInputError: there is no such score, it has no better or worse, or the margin is not above 0.

        Examples:
            >>> print(comparison.recommend("rougeL", margin=0.02))
            There is no model to recommend: baselines are references, to hold models against. Of these,
            baseline/copy has the highest rougeL, 0.195.
        """
        return decisions.recommend(
            self.models, self._of(score), self._costs, margin, by, baselines=self.baselines, copied=self.copied
        )

    def pareto(self, score: str | None = None) -> pd.DataFrame:
        """Return quality, cost and latency side by side, one row per model.

        Columns: `model`, `overall`, `low`, `high`, `dollars_per_1000`, `seconds_p50`, `baseline`, `front` (no other
        model is at least as good in all three and better in one; what is not known of a model does not count for it,
        and baselines do not take part).

        Examples:
            >>> comparison.pareto("rougeL").columns.tolist()
            ['model', 'overall', 'low', 'high', 'dollars_per_1000', 'seconds_p50', 'baseline', 'front']
        """
        return decisions.pareto(self.models, self._of(score), self._costs, self.baselines)

    @cached_property
    def _costs(self) -> pd.DataFrame:
        return costs({label: self._predictions[label] for label in self.models}, self.baselines)

    def costs(self) -> pd.DataFrame:
        """Return what the models' answers cost and how long they took, one row per model.

        Columns: `model`, `examples`, `answered`, `failed`, `cached` (found in the store), `truncated` (inputs cut to
        fit the model), `cut_off` (answers that ended at `max_new_tokens`), `prompt_tokens`, `completion_tokens`,
        `reasoning_tokens`, `cache_read_tokens` and `cache_write_tokens` (of the prompts' tokens those that the provider
        took from its prompt cache, and put there), `dollars` (when the answers were first made; 0 for baselines, empty
        where there is no price), `dollars_per_1000` (answers), `seconds_p50` and `seconds_p95` (latency of an answer),
        `tokens_per_second` (median over answers).

        Examples:
            >>> comparison.costs()[["model", "answered", "failed"]]
                         model  answered  failed
            0  baseline/lead-1        64       0
            1  baseline/lead-3        64       0
            2    baseline/copy        64       0
        """
        return self._costs.copy()

    def pairwise(self, score: str | None = None) -> pd.DataFrame:
        """Return one row per ordered pair of models.

        Columns: `model`, `other`, `difference` (model minus other) with `low` and `high`, `p_value` (at most
        1 - confidence where the interval excludes 0), `p_adjusted` (corrected for all pairs), `wins`,
        `ties`, `losses` (examples).

        Examples:
            >>> pairs = comparison.pairwise("rougeL")
            >>> pairs.columns.tolist()
            ['model', 'other', 'difference', 'low', 'high', 'p_value', 'p_adjusted', 'wins', 'ties', 'losses']
        """
        return decisions.pairwise(self.models, self._of(score))

    def examples(self, n: int | None = None) -> pd.DataFrame:
        """Return the texts side by side: `example`, `ground_truth` where known, one column per model.

        Examples:
            >>> comparison.examples(1).columns.tolist()
            ['example', 'ground_truth', 'baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        texts = self._examples[[column for column in TEXT_COLUMNS if column in self._examples]].copy()
        for label in self.models:
            texts[label] = self._predictions[label].set_index("row")["prediction"]
        return texts.head(n) if n is not None else texts

    def values(self, score: str | None = None) -> pd.DataFrame:
        """Return the score of each example: one row per example of the dataset, one column per model, NaN for none.

        Examples:
            >>> comparison.values("rougeL").round(3).head(2)
               baseline/lead-1  baseline/lead-3  baseline/copy
            0            0.226            0.232          0.283
            1            0.196            0.281          0.208
        """
        scored = self._of(score)
        found = pd.DataFrame(scored.values.T, index=scored.rows, columns=list(self.models))
        return found.reindex(range(len(self._examples)))

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of the examples, in the dataset's order.

        Examples:
            >>> comparison.metadata().columns.tolist()
            ['topic', 'channel']
        """
        return self._examples[slicing.metadata_columns(self._examples)]

    def references(self) -> list[tuple[str, ...]]:
        """Return the ground truth of each example, none, one or several texts, in the dataset's order.

        Examples:
            >>> len(comparison.references())
            64
        """
        texts = self._examples[[name for name in self._examples if is_ground_truth(str(name))]]
        return [tuple(text for text in row if isinstance(text, str)) for row in texts.itertuples(index=False)]

    def reasons(self, score: str) -> pd.DataFrame:
        """Return why each example has its score, or none: one row per example, one column per model.

        Judges say why; other metrics only where they give no score.

        Examples:
            >>> comparison.reasons("rougeL").notna().sum().tolist()
            [0, 0, 0]
        """
        self._of(score)
        found = {
            label: frame.get(score + REASON_SUFFIX, pd.Series(index=frame.index, dtype=object))
            for label, frame in self._scores.items()
        }
        return pd.DataFrame(found)

    def passports(self, human: pd.DataFrame | None = None) -> list[Passport]:
        """Return what was measured of the judges among the metrics, one passport per score.

        Args:
            human: scores by people to compare the judges with: columns `row` (of the dataset, from 0), `model` (label)
                and one per score, of the same name.

        Raises:
            InvalidInputError: a column is missing.

        Examples:
            >>> comparison.passports()
            []
        """
        if human is None:
            return list(self._passports)
        if missing := [name for name in ("row", "model") if name not in human]:
            raise InvalidInputError(f"the human labels have no column {missing[0]!r}", "row, model, and one per score")
        return self._examined(human)

    @cached_property
    def _passports(self) -> list[Passport]:
        return self._examined(None)

    def _examined(self, human: pd.DataFrame | None) -> list[Passport]:
        judged = [pair for spec in self.experiment.metrics for pair in passports.judges_of(spec)]
        return [self._passport(name, judge, human) for name, judge in judged if name in self._scored]

    def _passport(self, score: str, judge: Model | None, human: pd.DataFrame | None) -> Passport:
        texts = [self._predictions[label]["prediction"] for label in self.models]
        labels: FloatArray | None = None
        if human is not None and score in human:
            wide = human.pivot(index="model", columns="row", values=score)
            labels = wide.reindex(index=list(self.models), columns=range(len(texts[0]))).to_numpy(dtype=np.float64)
        results_of = [result for label in self.models for result in self._evaluations.get(label, ())]
        return passports.of_scores(
            f"{score}, by {judge.label if judge else 'a jury'}",
            judge,
            np.stack([self._scores[label][score].to_numpy(dtype=np.float64) for label in self.models]),
            np.stack([text.str.len().to_numpy(dtype=np.float64, na_value=np.nan) for text in texts]),
            [workflow.model for workflow in self.workflows],
            retest=[pair for result in results_of for pair in result.details.get("retest", {}).get(score, ())],
            human=labels,
            confidence=self.confidence,
            seed=self.seed,
        )

    def trust(self, human: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return how far each metric and judge follows people's ratings on this data, the closest first.

        Args:
            human: ratings of answers: columns `row` (of the dataset, from 0), `model` (label), `rating`; with several
                raters an answer counts with their mean. Default those stored in the experiment.

        Returns:
            Columns: `score`, `n` (answers), `kendall`, `spearman`, `pearson`, each with `_low` and `_high` (bootstrap
            over examples). Scores where less is better are turned round.

        Raises:
            InvalidInputError: nobody has rated anything, or the ratings do not fit the comparison.

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> comparison = ws.compare(experiment)
            >>> table = comparison.trust()
            >>> table[["score", "n"]].head(2)
                   score   n
            0     rougeL  90
            1  rougeLsum  90
        """
        ratings = human_labels.ratings_of(human, self._labels, self.models)
        judging = {name: scored for name, scored in self._scored.items() if scored.decides}
        return human_labels.trust(self.models, judging, ratings, self.confidence, self.seed)

    def prediction_powered(
        self, score: str, human: pd.DataFrame | None = None, *, about: About = "more"
    ) -> pd.DataFrame:
        """Return what people would rate the models, from few ratings and many scores of a judge.

        Unbiased whatever the judge; the closer it follows people, the narrower the interval.

        Args:
            score: of the judge, or of any metric.
            human: as of :meth:`trust`; on a random part of the examples, or with a column `probability` as
                :meth:`next_to_label` gives it. Ratings that are stored know it where they were asked for by that table
                (`ws.labels.rate(…, order=table)`); rows that were rated besides are then left out.
            about: "more" data of the same kind, of which these examples are a sample; or "these" examples, whose
                interval is narrower.

        Returns:
            One row per model of which two answers or more are rated: `estimate`, `low`, `high`; `human_only`,
            `human_low`, `human_high` (from the ratings alone); `weight` (how much the judge counts), `n_labels`, `n`,
            `about`, `weighted` (by the probabilities with which rows were drawn).

        Raises:
            InvalidInputError: there is no such model.

        Examples:
            >>> _ = ws.labels.add(experiment, ratings)
            >>> comparison = ws.compare(experiment)
            >>> table = comparison.prediction_powered("rougeL")
            >>> table[["model", "estimate", "human_only"]].round(1)
                         model  estimate  human_only
            0  baseline/lead-1       2.5         2.5
            1  baseline/lead-3       3.0         2.9
            2    baseline/copy       3.0         3.1
        """
        ratings = human_labels.ratings_of(human, self._labels, self.models)
        return human_labels.prediction_powered(self.models, self._of(score), ratings, self.confidence, about)

    def next_to_label(self, score: str | None = None, n: int = 10, *, seed: int = 0) -> pd.DataFrame:
        """Return the examples whose rating by people would tell most.

        Drawn at random, those more often on which the models' scores lie apart. The `probability` of each makes an
        estimate from them unbiased: hand the table on as it is, `ws.labels.rate(experiment, order=table)`, and
        :meth:`prediction_powered` weighs by it. A later draw is of the examples that are not rated yet.

        Returns:
            `n` rows: `row` (of the dataset) and `probability`.

        Examples:
            >>> table = comparison.next_to_label("rougeL", n=3)
            >>> table.columns.tolist(), len(table)
            (['row', 'probability'], 3)
        """
        rated = set() if self._labels is None else set(self._labels["row"])
        return human_labels.next_to_label(self._of(score), sorted(rated), n, seed)

    def rescored(self, score: Callable[[str, pd.DataFrame], pd.DataFrame]) -> Comparison:
        """Return the same answers compared by other scores.

        Args:
            score: from a model's label and its frame of scores (one row per example) to another such frame.

        Examples:
            >>> def capped(label, scores):
            ...     return scores[["rougeL"]].clip(upper=0.3)
            >>> comparison.rescored(capped).best("rougeL")
            'baseline/copy'
        """
        frames = {label: score(label, frame).rename_axis("row") for label, frame in self._scores.items()}
        return Comparison(
            self.experiment, self.dataset, self._examples, self.workflows, self.jobs, self._predictions,
            {label: frame.reset_index() for label, frame in frames.items()},
            groups=self.groups, confidence=self.confidence, n_resamples=self.n_resamples, seed=self.seed,
        )  # fmt: skip

    def worst(self, score: str | None = None, n: int = 5, *, model: str | None = None) -> pd.DataFrame:
        """Return the `n` examples on which `model` (default the best) scores worst, side by side, with its score.

        Examples:
            >>> comparison.worst("rougeL", n=2).columns.tolist()
            ['rougeL', 'example', 'ground_truth', 'baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        scored = self._of(score)
        index = self._model_index(model or self.best(score))
        order = np.argsort(scored.values[index] * (-1 if scored.info.higher_is_better is False else 1), kind="stable")
        worst = self.examples().loc[scored.rows[order[:n]]]
        worst.insert(0, scored.info.name, scored.values[index][order[:n]])
        return worst

    def disagreements(self, score: str | None = None, n: int = 5) -> pd.DataFrame:
        """Return the `n` examples on which the models' scores lie furthest apart, side by side, with every score.

        Examples:
            >>> table = comparison.disagreements("rougeL", n=2)
            >>> table["rougeL of baseline/copy"].round(2).tolist()
            [0.19, 0.35]
        """
        scored = self._of(score)
        order = np.argsort(-np.ptp(scored.values, axis=0), kind="stable")[:n]
        texts = self.examples().loc[scored.rows[order]]
        for index, label in enumerate(self.models):
            texts.insert(index, f"{scored.info.name} of {label}", scored.values[index][order])
        return texts

    def slices(self, column: str | None = None, score: str | None = None) -> pd.DataFrame:
        """Return how the models do on parts of the dataset, one row per slice.

        Args:
            column: a metadata column; "length" and "language" part the examples by themselves. Default all metadata
                columns that part them, and the length; the index then holds column and slice.
            score: default the main score.

        Returns:
            Columns: `n`, one per model (overall score), `leader`, and for the model that leads here against the one
            that leads over all: `difference`, `low`, `high`, `p_adjusted` (corrected for all slices looked at),
            `flips` (another model is better here), `too_small` (fewer examples than could show such a thing),
            `too_skewed` (fewer than such skewed differences take, so that their intervals are too narrow).

        Raises:
            InvalidInputError: the dataset has no such column.
            MissingExtraError: telling languages apart needs packages.

        Examples:
            >>> table = comparison.slices("topic", "rougeL")
            >>> table[["n", "too_small"]].head(2)
                              n  too_small
            topic
            community         4       True
            customer support  8       True
        """
        return slicing.slices(self.models, self._of(score), self._examples, column)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per example and model: `row`, `model`, texts, metadata, token counts and all scores.

        Examples:
            >>> comparison.to_pandas()[["row", "model", "rougeL"]].round(2).head(2)
               row            model  rougeL
            0    0  baseline/lead-1    0.23
            1    1  baseline/lead-1    0.20
        """
        frames = []
        for index, label in enumerate(self.models):
            frame = self._examples.merge(self._predictions[label], left_index=True, right_on="row")
            frame.insert(0, "model", label)
            for name, scored in self._scored.items():
                frame[name] = pd.Series(scored.values[index], index=scored.rows).reindex(frame["row"]).to_numpy()
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def plot(self, kind: PlotKind = "intervals", score: str | None = None, *, column: str | None = None) -> Figure:
        """Draw one score.

        Args:
            kind: "intervals" (overall scores), "pairwise" (differences of all pairs), "pareto" (against cost, or
                latency where nothing has a price), "slices" (by `column`), "distribution" (over the examples).
            score: default the main score.
            column: of the slices; default "length".

        Raises:
            InvalidInputError: there is no such kind, or nothing to draw.

        Examples:
            >>> figure = comparison.plot("intervals", "rougeL")
            >>> figure.savefig("rougeL.png")
        """
        # matplotlib takes a second to import.
        from lumigator_nb.display.charts import interval_chart
        from lumigator_nb.services.comparison import decision_charts as charts

        scored, info = self._of(score), self._of(score).info
        found = standings(self._summary, info)
        order = [one.model for one in found]
        if kind == "intervals":
            return interval_chart(found, info, self.confidence)
        if kind == "pairwise":
            if len(self.models) < 2:
                raise InvalidInputError("there is one model, and no pair", "launch another")
            return charts.pairwise_chart(self.pairwise(info.name), order, info, self.confidence)
        if kind == "pareto":
            return charts.pareto_chart(self.pareto(info.name), info)
        if kind == "slices":
            by = column or slicing.LENGTH
            return charts.slices_chart(self.slices(by, info.name), order, info, by)
        if kind == "distribution":
            return charts.distribution_chart(scored.values[[self.models.index(model) for model in order]], order, info)
        raise InvalidInputError(f"there is no chart {kind!r}", did_you_mean(kind, get_args(PlotKind)))

    def export(self, path: str | Path) -> Path:
        """Write the comparison and return the path.

        Args:
            path: ending in `.html` (a report in one file, nothing loaded from elsewhere), `.xlsx` (a workbook),
                `.csv` (all rows) or `.md` (the findings, for a wiki).

        Raises:
            InvalidInputError: another ending.
            MissingExtraError: a workbook needs packages that are not installed.

        Examples:
            >>> comparison.export("report.html").name
            'report.html'
        """
        return exporting.export(self, path)

    def verdict(self, score: str | None = None) -> str:
        """Say which model leads, and of each other what is shown: against which model, and by how much.

        Examples:
            >>> print(comparison.verdict("rougeL"))
            baseline/copy has the highest rougeL (0.195). baseline/lead-3 cannot be told apart from it at 95%
            confidence with 64 examples. baseline/lead-1 is worse by 0.080 [0.058, 0.103].
        """
        scored = self._of(score)
        found = standings(self._summary, scored.info)
        return verdict(found, self.contrasts(scored.info.name), scored.info, self.confidence)

    def contrasts(self, score: str | None = None) -> list[Contrast]:
        """Return what is shown of each model but the leading one, against which model.

        Each is held against the leading one; and where that is not shown to be better, against one that is, if any.
        Empty for a score without better or worse.

        Examples:
            >>> [contrast.model for contrast in comparison.contrasts("rougeL")]
            ['baseline/lead-1', 'baseline/lead-3']
        """
        name = self._of(score).info.name
        if name not in self._contrasts:
            self._contrasts[name] = decisions.contrasts(self.models, self._of(name))
        return list(self._contrasts[name])

    def _model_index(self, label: str) -> int:
        if label not in self.models:
            raise InvalidInputError(f"no compared model is called {label!r}", did_you_mean(label, self.models))
        return self.models.index(label)

    def _of(self, score: str | None) -> Scored:
        name = score or self.main_score
        if name in self.uncompared:
            raise InvalidInputError(
                f"no example has the score {name!r} from every model", " ".join(self._why_not_computed())
            )
        if name not in self._scored:
            raise InvalidInputError(f"there is no score {name!r} here", did_you_mean(name, self._scored))
        return self._scored[name]


def _copied(texts: pd.Series, predictions: pd.DataFrame) -> tuple[int, int]:
    answered = predictions[predictions["prediction"].notna()]
    # Evenly spread, so that a dataset sorted by length is seen whole.
    some = answered.iloc[:: max(1, -(-len(answered) // MOST_LOOKED_AT))]
    found = [copies(texts.iloc[row], answer) for row, answer in zip(some["row"], some["prediction"], strict=True)]
    return sum(found), len(found)
