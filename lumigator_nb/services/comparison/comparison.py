"""Comparison: the models of one experiment, paired by example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import LATER, Contrast, not_computed, score_rows, verdict
from lumigator_nb.errors import InvalidInputError, LumigatorError, did_you_mean
from lumigator_nb.metrics import FloatArray, ScoreInfo, create
from lumigator_nb.metrics.copying import copies
from lumigator_nb.services.comparison import decisions, exporting, gates, human_labels, judge_reports
from lumigator_nb.services.comparison import repeats as repeating
from lumigator_nb.services.comparison import slices as slicing
from lumigator_nb.services.comparison.confusion import Confusion, confusion
from lumigator_nb.services.comparison.costs import costs
from lumigator_nb.services.comparison.data import ComparisonData
from lumigator_nb.services.comparison.gates import Gate
from lumigator_nb.services.comparison.judge_reports import JudgeReport
from lumigator_nb.services.comparison.recommendation import Recommendation
from lumigator_nb.services.comparison.score_samples import Resampling, Scored, main_score, scored_of
from lumigator_nb.specs import is_ground_truth
from lumigator_nb.statistics.prediction_powered import About
from lumigator_nb.storage.results import REASON_SUFFIX

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT_COLUMNS = ("example", "ground_truth")
# Answers per model that `copied` checks: enough for a share, and quick for datasets of any size.
MOST_CHECKED = 200
PlotKind = Literal["intervals", "pairwise", "pareto", "slices", "distribution"]


class Comparison(Rendered):
    """The scores of several models on the same examples.

    Everything is computed on the examples for which every compared model has a score, so that differences are paired.

    Args:
        data: the models, their answers and scores, and what they were asked.
        groups: metadata column; examples with the same value, such as those of one customer, are not independent and
            are resampled together.
        confidence: level of all intervals, in (0, 1).
        n_resamples: number of bootstrap resamples.
        seed: of the bootstrap; the same seed gives the same numbers.

    Raises:
        InvalidInputError: no example has a score from every model, or there is no such column.
    """

    def __init__(
        self,
        data: ComparisonData,
        *,
        groups: str | None = None,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.data = data
        self.experiment, self.dataset, self.workflows = data.experiment, data.dataset, data.models
        self.models = tuple(model.label for model in data.models)
        self.confidence, self.n_resamples, self.seed, self.groups = confidence, n_resamples, seed, groups
        self._labels = data.labels
        self._examples = data.examples
        self._predictions = data.predictions
        self._evaluations = data.evaluations
        resampling = Resampling(confidence, n_resamples, seed, slicing.group_codes(data.examples, groups))
        self._scored = {scored.info.name: scored for scored in scored_of(data, resampling)}
        # Per score, because they take a test for each pair of models, and several views show them.
        self._contrasts: dict[str, list[Contrast]] = {}
        self._scores = {label: data.scores[label].set_index("row") for label in self.models}
        if not self._scored:
            raise InvalidInputError(
                "no example has a score from every model",
                " ".join([*self._why_not_computed(), "Compare fewer models, or retry."]),
            )

    @property
    def scores(self) -> tuple[ScoreInfo, ...]:
        """The scores that every model has, in the order of the experiment's metrics."""
        return tuple(scored.info for scored in self._scored.values())

    @cached_property
    def not_computed(self) -> dict[str, dict[str, str]]:
        """The reasons why models have no scores of a metric, by the metric's title and the model.

        If only some models lack them, :attr:`uncompared` has the scores of the others.
        """
        reasons: dict[str, dict[str, str]] = {}
        for workflow in self.workflows:
            missing = {title: reason for step in workflow.steps for title, reason in step.skipped.items()}
            evaluated = {result.metric.key for result in self._evaluations.get(workflow.label, ())}
            if evaluated:
                # A metric that joined the experiment after this model was scored has neither a result nor a reason.
                late = [spec.title for spec in self.experiment.metrics if spec.key not in evaluated]
                missing |= {title: LATER for title in late if title not in missing}
            for title, reason in missing.items():
                reasons.setdefault(title, {})[workflow.label] = reason
        return reasons

    @cached_property
    def uncompared(self) -> dict[str, dict[str, float]]:
        """Overall scores, by score and model, that no example has from every model: models are not compared on them."""
        overall: dict[str, dict[str, float]] = {}
        for workflow in self.workflows:
            for step in workflow.steps:
                for score, value in step.scores.items():
                    overall.setdefault(score, {})[workflow.label] = value

        def is_left_out(score: str) -> bool:
            # The steps' records still list the scores that `rescored` replaced: all models have them, and no frame.
            is_partial = len(overall[score]) < len(self.models)
            return score not in self._scored and (is_partial or all(score in frame for frame in self._scores.values()))

        return {score: values for score, values in overall.items() if is_left_out(score)}

    def _why_not_computed(self) -> list[str]:
        return not_computed(self.not_computed, list(self.uncompared), self.models)

    @property
    def metric_notes(self) -> list[str]:
        """Facts about the scores that their signatures do not tell, such as that METEOR ran without synonyms."""
        notes = []
        for spec in self.experiment.metrics:
            # The metric's package may have been uninstalled since; its scores are still there.
            with suppress(LumigatorError):
                metric = create(spec)
                if metric.note and any(info.name in self._scored for info in metric.infos):
                    notes.append(metric.note)
        return notes

    @property
    def main_score(self) -> str:
        """The score used by default: the first of rougeL, bleu and chrf in the experiment, or else its first score."""
        return str(main_score(self.scores))

    @property
    def decides(self) -> bool:
        """Whether the main score has a better and a worse."""
        return self._of(None).decides

    @cached_property
    def needed_for_skewness(self) -> dict[str, int]:
        """Per score, how many examples reliable intervals and p-values need; only scores that have fewer.

        By the skewness of the differences to the leading model: :func:`lumigator_nb.statistics.examples_for_skewness`.
        """
        needed = {name: scored.needed_for_skewness for name, scored in self._scored.items() if scored.decides}
        return {name: number for name, number in needed.items() if number > self._scored[name].n_units}

    @property
    def rated(self) -> bool:
        """Whether there are human ratings of these models' answers."""
        return self._labels is not None and bool(self._labels["model"].isin(self.models).any())

    @property
    def baselines(self) -> tuple[str, ...]:
        """Labels of the baselines: points of reference, never recommended."""
        return tuple(model.label for model in self.workflows if model.is_baseline)

    @cached_property
    def copied(self) -> dict[str, tuple[int, int]]:
        """Per model without the baselines: how many answers mostly copy their input, and how many were checked."""
        counts: dict[str, tuple[int, int]] = {}
        if not self.data.has_texts:
            return counts
        texts = self._examples["example"].astype(str)
        for label in self.models:
            if label in self.baselines:
                continue
            frame = self._predictions[label]
            answered = frame[frame["prediction"].notna()]
            # Every k-th answer, so that the sample covers all of a dataset that is sorted by length.
            sample = answered.iloc[:: max(1, -(-len(answered) // MOST_CHECKED))]
            copied = [
                copies(texts.iloc[row], answer) for row, answer in zip(sample["row"], sample["prediction"], strict=True)
            ]
            counts[label] = (sum(copied), len(copied))
        return counts

    @property
    def n_scored(self) -> int:
        """The number of examples for which every model has the main score."""
        return self._of(None).n

    @property
    def near_constant(self) -> dict[str, int]:
        """The models for which nearly all examples have the same main score, and how many do; not for shares."""
        return {label: n for label, n in zip(self.models, self._of(None).alike, strict=True) if n is not None}

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
        scores), `told_apart` (whether `p_adjusted` is at most 1 - confidence), `rank_low` and `rank_high` (the possible
        ranks: if 1 is not among them, some model is shown to be better, see :meth:`contrasts`) and `n`
        (examples).

        Examples:
            >>> table = comparison.summary()
            >>> table.loc[table["score"] == "rougeL", ["model", "overall", "low", "high"]].round(2)
                         model  overall   low  high
            6  baseline/lead-1     0.11  0.10  0.13
            7  baseline/lead-3     0.18  0.16  0.20
            8    baseline/copy     0.19  0.18  0.21
        """
        # A copy: other methods read the cached frame, and the caller may change what it gets.
        return self._summary.copy()

    def ranking(self, score: str | None = None) -> pd.DataFrame:
        """Return the models by rank on one score, the best first.

        Columns: `model`, `overall`, `rank_low`, `rank_high` (simultaneous interval of the rank), `best_set` (whether
        no other model is shown to be better), `probability_best` (share of resamples in which the model is best),
        `wins`, `ties`, `losses` (over all examples and other models).

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

        Baselines are never recommended; the recommendation says whether the chosen model beats each of them.

        Args:
            score: default the main score.
            margin: the largest difference that still counts as not worse, in units of the score; default 2% of its
                range.
            by: what to save, dollars or seconds per answer; default dollars if prices are known.

        Raises:
            InvalidInputError: there is no such score, it has no better or worse, or the margin is not above 0.

        Examples:
            >>> print(comparison.recommend("rougeL", margin=0.02))
            There is no model to recommend: baselines only serve for comparison. Of these, baseline/copy has
            the highest rougeL, 0.195.
        """
        return decisions.recommend(
            self.models, self._of(score), self._costs, margin, by, baselines=self.baselines, copied=self.copied
        )

    def gate(
        self,
        candidate: str,
        baseline: str | None = None,
        *,
        score: str | None = None,
        margin: float | Mapping[str, float] | None = None,
        at_most: Mapping[str, float] | None = None,
        at_least: Mapping[str, float] | None = None,
        confidence: float | None = None,
    ) -> Gate:
        """Decide whether a model may replace another one: passed, failed, or undecided for want of examples.

        No threshold on a bare number: a rule is passed if a one-sided bound keeps it, and failed if the other bound
        breaks it (:func:`lumigator_nb.statistics.decide_mean`, exact for shares and for percentiles of the latency).

        Args:
            candidate: label of the model to decide about.
            baseline: label of the model that it must not be worse than; if omitted, there are only limits.
            score: the score that must not be worse; default the main score.
            margin: the largest difference that does not matter, in units of the score; default 2% of its range. 0 asks
                for a model that is shown to be better. A mapping has one margin for each of several scores.
            at_most, at_least: limits of the candidate, by name: a score, "dollars_per_1000" (mean cost of 1,000
                answers), "seconds_p95" (latency within which 95% of answers came, or another percentile), or
                "answered", "failed", "cut_off", "truncated" (shares of the examples).
            confidence: probability of not passing a candidate that breaks a rule, and of not failing one that keeps
                all; in (0.5, 1), default that of the comparison.

        Raises:
            InvalidInputError: there is no such model, score or limit, a number is out of range, there is no rule, or a
                limit is about costs or latencies that are unknown.

        Examples:
            >>> gate = comparison.gate("baseline/lead-3", "baseline/copy", margin=0.05, at_least={"answered": 0.9})
            >>> gate.outcome
            'passed'
            >>> gate.to_pandas()[["rule", "kind", "outcome", "further"]]
                   rule       kind outcome  further
            0    rougeL  not worse  passed        0
            1  answered   at least  passed        0
        """
        for label in filter(None, (candidate, baseline)):
            self.data.position_of(label)
        if candidate == baseline:
            raise InvalidInputError(f"{candidate!r} is compared with itself", "name another baseline")
        return gates.decide(
            self.models, self._scored, self._of(score).info.name, self._predictions[candidate], candidate, baseline,
            margin=margin, at_most=at_most or {}, at_least=at_least or {},
            confidence=self.confidence if confidence is None else confidence, is_free=candidate in self.baselines,
        )  # fmt: skip

    def pareto(self, score: str | None = None) -> pd.DataFrame:
        """Return quality, cost and latency side by side, one row per model.

        Columns: `model`, `overall`, `low`, `high`, `dollars_per_1000`, `seconds_p50`, `baseline`, `front` (whether the
        model is on the Pareto front: no other model is at least as good in all three and better in one. An unknown
        value never counts in a model's favour, and baselines do not take part).

        Examples:
            >>> comparison.pareto("rougeL").columns.tolist()
            ['model', 'overall', 'low', 'high', 'dollars_per_1000', 'seconds_p50', 'baseline', 'front']
        """
        return decisions.pareto(self.models, self._of(score), self._costs, self.baselines)

    @cached_property
    def _costs(self) -> pd.DataFrame:
        repeated, first = self.data.answers, self._predictions
        answers = {label: repeated[label] if label in repeated else first[label] for label in self.models}
        return costs(answers, self.baselines)

    def costs(self) -> pd.DataFrame:
        """Return what the models' answers cost and how long they took, one row per model.

        Columns: `model`, `examples`, `answered`, `failed`, `cached` (taken from the answer cache), `truncated` (inputs
        cut to fit the model), `cut_off` (answers that ended at `max_new_tokens`), `prompt_tokens`,
        `completion_tokens`, `reasoning_tokens`, `cache_read_tokens` and `cache_write_tokens` (prompt tokens that the
        provider read from its prompt cache, and wrote to it), `dollars` (paid when the answers were first generated;
        0 for baselines, NaN without a price), `dollars_per_1000` (answers), `seconds_p50` and `seconds_p95` (latency
        of an answer), `tokens_per_second` (median over answers).

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
        """Return the texts side by side: `example`, `ground_truth` if there is one, and one column per model.

        Examples from a file of another tool have their id there, `item`, in front.

        Examples:
            >>> comparison.examples(1).columns.tolist()
            ['example', 'ground_truth', 'baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        texts = self._examples[[column for column in TEXT_COLUMNS if column in self._examples]].copy()
        if self.data.items and self.data.has_texts:
            texts.insert(0, "item", list(self.data.items))
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
        frame = pd.DataFrame(scored.values.T, index=scored.rows, columns=list(self.models))
        return frame.reindex(range(len(self._examples)))

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of the examples, in the dataset's order.

        Examples:
            >>> comparison.metadata().columns.tolist()
            ['topic', 'channel']
        """
        return self._examples[slicing.metadata_columns(self._examples)]

    def references(self) -> list[tuple[str, ...]]:
        """Return the ground-truth texts of each example (none, one or several), in the dataset's order.

        Examples:
            >>> len(comparison.references())
            64
        """
        texts = self._examples[[name for name in self._examples if is_ground_truth(str(name))]]
        return [tuple(text for text in row if isinstance(text, str)) for row in texts.itertuples(index=False)]

    def confusion(self, model: str | None = None) -> Confusion:
        """Return what a model confuses: labels it gave against the ground truth, precision and recall of each label.

        Args:
            model: its label; default the best by the main score.

        Raises:
            InvalidInputError: the experiment is no classification, or has no such model.

        Examples:
            >>> task = lm.Classification(["account", "billing", "delivery", "privacy", "product", "returns"])
            >>> routing = ws.experiments.create("routing", dataset=ws.datasets.sample("support"), task=task)
            >>> _ = ws.wait(ws.workflows.launch(routing, "baseline/majority"), progress=False)
            >>> ws.compare(routing).confusion().by_label()[["label", "n", "recall"]].head(3)
                  label   n  recall
            0   account  18     0.0
            1   billing  28     0.0
            2  delivery  34     1.0
        """
        label = model or self.best()
        if label not in self.models:
            raise InvalidInputError(f"there is no model {label!r}", did_you_mean(label, self.models))
        answers = self._predictions[label]
        return confusion(label, answers, self.references(), self.experiment.metrics, self.confidence)

    def reasons(self, score: str) -> pd.DataFrame:
        """Return why each example has its score, or none: one row per example, one column per model.

        Judges give a reason for each score; other metrics only for a missing one.

        Examples:
            >>> comparison.reasons("rougeL").notna().sum().tolist()
            [0, 0, 0]
        """
        self._of(score)
        reasons = {
            label: frame.get(score + REASON_SUFFIX, pd.Series(index=frame.index, dtype=object))
            for label, frame in self._scores.items()
        }
        return pd.DataFrame(reasons)

    def judge_reports(self, human: pd.DataFrame | None = None) -> list[JudgeReport]:
        """Return the measured reliability of the judges among the metrics, one report per score.

        Args:
            human: human scores to compare the judges with: columns `row` (of the dataset, from 0), `model` (label)
                and one per score, of the same name.

        Raises:
            InvalidInputError: a column is missing.

        Examples:
            >>> comparison.judge_reports()
            []
        """
        if human is None:
            return list(self._judge_reports)
        if missing := [name for name in ("row", "model") if name not in human]:
            raise InvalidInputError(f"the human labels have no column {missing[0]!r}", "row, model, and one per score")
        return self._examined(human)

    passports = judge_reports  # the name in version 0.1

    @cached_property
    def _judge_reports(self) -> list[JudgeReport]:
        return self._examined(None)

    def _examined(self, human: pd.DataFrame | None) -> list[JudgeReport]:
        texts = [self._predictions[label]["prediction"] for label in self.models]
        results = [result for label in self.models for result in self._evaluations.get(label, ())]
        reports = []
        for score, judge in (pair for spec in self.experiment.metrics for pair in judge_reports.judges_of(spec)):
            if score not in self._scored:
                continue
            human_scores: FloatArray | None = None
            if human is not None and score in human:
                wide = human.pivot(index="model", columns="row", values=score)
                wide = wide.reindex(index=list(self.models), columns=range(len(texts[0])))
                human_scores = wide.to_numpy(dtype=np.float64)
            reports.append(
                judge_reports.of_scores(
                    f"{score}, by {judge.label if judge else 'a jury'}",
                    judge,
                    np.stack([self._scores[label][score].to_numpy(dtype=np.float64) for label in self.models]),
                    np.stack([text.str.len().to_numpy(dtype=np.float64, na_value=np.nan) for text in texts]),
                    [workflow.model for workflow in self.workflows],
                    retest=[pair for result in results for pair in result.details.get("retest", {}).get(score, ())],
                    human=human_scores,
                    confidence=self.confidence,
                    seed=self.seed,
                )
            )
        return reports

    def trust(self, human: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return how well each metric and judge agrees with human ratings on this data, the closest first.

        Args:
            human: ratings of answers: columns `row` (of the dataset, from 0), `model` (label), `rating`; several
                ratings of one answer are averaged. Default: the ratings stored with the experiment.

        Returns:
            Columns: `score`, `n` (answers), `kendall`, `spearman`, `pearson`, each with `_low` and `_high` (bootstrap
            over examples). Scores for which less is better enter with the opposite sign.

        Raises:
            InvalidInputError: there are no ratings, or they do not fit the comparison.

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
        deciding = {name: scored for name, scored in self._scored.items() if scored.decides}
        return human_labels.trust(self.models, deciding, ratings, self.confidence, self.seed)

    def prediction_powered(
        self, score: str, human: pd.DataFrame | None = None, *, about: About = "more"
    ) -> pd.DataFrame:
        """Estimate the models' mean human rating from few ratings and many scores of a judge.

        The estimate is unbiased whatever the judge; the better the judge agrees with people, the narrower the
        interval.

        Args:
            score: a score of the judge, or of any metric.
            human: ratings as in :meth:`trust`, of a random sample of the examples, or with the column `probability`
                of :meth:`next_to_label`. Stored ratings have it if that table was passed to
                `ws.labels.rate(…, order=table)`; ratings of other rows are then left out.
            about: "more" estimates for more data of the same kind, of which these examples are a sample; "these" for
                exactly these examples, with a narrower interval.

        Returns:
            One row per model with at least two rated answers: `estimate`, `low`, `high`; `human_only`,
            `human_low`, `human_high` (from the ratings alone); `weight` (of the judge's scores), `n_labels`, `n`,
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
        """Draw the examples whose human rating would be most informative.

        They are drawn at random, with a higher probability where the models' scores differ more. The column
        `probability` keeps an estimate from them unbiased: pass the whole table on,
        `ws.labels.rate(experiment, order=table)`, and :meth:`prediction_powered` weighs by it. A later call draws from
        the examples that are not rated yet.

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
        """Compare the same answers by other scores.

        Args:
            score: maps a model's label and its frame of scores (one row per example) to another such frame.

        Examples:
            >>> def capped(label, scores):
            ...     return scores[["rougeL"]].clip(upper=0.3)
            >>> comparison.rescored(capped).best("rougeL")
            'baseline/copy'
        """
        frames = {label: score(label, frame).rename_axis("row") for label, frame in self._scores.items()}
        # Without evaluations and ratings, which belong to the scores that are replaced.
        data = replace(
            self.data,
            scores={label: frame.reset_index() for label, frame in frames.items()},
            evaluations={}, labels=None, pending=(), repeats={},
        )  # fmt: skip
        return Comparison(
            data, groups=self.groups, confidence=self.confidence, n_resamples=self.n_resamples, seed=self.seed
        )

    def worst(self, score: str | None = None, n: int = 5, *, model: str | None = None) -> pd.DataFrame:
        """Return the `n` examples on which `model` (default the best) scores worst, side by side, with its score.

        Examples:
            >>> comparison.worst("rougeL", n=2).columns.tolist()
            ['rougeL', 'example', 'ground_truth', 'baseline/lead-1', 'baseline/lead-3', 'baseline/copy']
        """
        scored = self._of(score)
        label = model or self.best(score)
        index = self.data.position_of(label)
        # Stable, so that examples with equal scores stay in the dataset's order.
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
        """Return the models' scores on parts of the dataset, one row per slice.

        Args:
            column: a metadata column, or "length" or "language", which are computed from the examples. Default: all
                metadata columns that divide the examples, and the length; the index then holds column and slice.
            score: default the main score.

        Returns:
            Columns: `n`, one per model (overall score), `leader` (of the slice), and for that model against the one
            that leads on all examples: `difference`, `low`, `high`, `p_adjusted` (corrected for all slices examined),
            `flips` (whether another model is better here), `too_small` (too few examples to show a flip),
            `too_skewed` (too few for differences this skewed: their intervals are too narrow).

        Raises:
            InvalidInputError: the dataset has no such column.
            MissingExtraError: the package that detects languages is not installed.

        Examples:
            >>> table = comparison.slices("topic", "rougeL")
            >>> table[["n", "too_small"]].head(2)
                              n  too_small
            topic
            community         4       True
            customer support  8       True
        """
        return slicing.slices(self.models, self._of(score), self._examples, column, has_texts=self.data.has_texts)

    def slice_labels(self, column: str, score: str | None = None) -> pd.Series:
        """Return the slice of each example of :meth:`slices`, by row; examples without the score have none.

        Raises:
            InvalidInputError: the dataset has no such column.

        Examples:
            >>> comparison.slice_labels("topic", "rougeL").head(2).tolist()
            ['community', 'leisure']
        """
        labels = slicing.labels_of(self._of(score), self._examples, column)
        return labels.reindex(range(len(self._examples)))

    def repeats(self, score: str | None = None, *, tolerance: float = 0.0) -> pd.DataFrame:
        """Return how stable the models are, one row per model, if they were launched with `repeats=`.

        Args:
            score: default the main score.
            tolerance: the largest difference between two repeats of an example that still counts as alike.

        Returns:
            Columns: `model`, `repeats` (per example), `n`, `mean`, `between` and `within` (standard deviation between
            examples, and between repeats of one example), `share_within` (of the variance of one answer), `error`
            (standard error of the mean) with its parts `error_examples` and `error_repeats`, `unstable` (share of
            examples whose repeats differ) with `unstable_low` and `unstable_high`, `disagreement` (probability that
            two answers to one example differ). Of a score whose overall value is no mean, all is about single
            examples. See :func:`lumigator_nb.statistics.variance_components` and
            :func:`lumigator_nb.statistics.instability`.

        Raises:
            InvalidInputError: no model was asked repeatedly.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-1", repeats=2)
            >>> _ = ws.wait(experiment, progress=False)
            >>> table = ws.compare(experiment).repeats("rougeL")
            >>> table[["model", "repeats", "unstable"]].head(1)
                         model  repeats  unstable
            0  baseline/lead-1      2.0       0.0
        """
        values = repeating.of_score(self.data.repeats, self._of(score).info.name)
        return repeating.summary(self.models, values, tolerance, self.confidence)

    def unstable(
        self, score: str | None = None, n: int = 5, *, model: str | None = None, tolerance: float = 0.0
    ) -> pd.DataFrame:
        """Return the `n` examples on which the repeats of `model` (default the best) differ most.

        Columns: `spread` (between the highest and the lowest score), `repeat 1`, … (scores), `example` and
        `ground_truth`.

        Raises:
            InvalidInputError: no model was asked repeatedly, or there is no such model.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-1", repeats=2)
            >>> _ = ws.wait(experiment, progress=False)
            >>> len(ws.compare(experiment).unstable("rougeL", model="baseline/lead-1"))
            0
        """
        name, label = self._of(score).info.name, model or self.best(score)
        position = self.data.position_of(label)
        values = repeating.of_score(self.data.repeats, name)[position]
        texts = self._examples[[column for column in TEXT_COLUMNS if column in self._examples]]
        return repeating.unstable(values, tolerance).head(n).join(texts)

    def passes(self, k: int, score: str | None = None, *, threshold: float | None = None) -> pd.DataFrame:
        """Return pass@k and pass^k: how often at least one, and how often all, of k answers pass.

        Args:
            k: number of answers, at most that of repeats.
            score: default the main score.
            threshold: the least score that passes; may be left out for scores of 0 and 1.

        Returns:
            One row per model: `model`, `n` (examples), `pass_at_k` and `pass_hat_k`, each with `_low` and `_high`. See
            :func:`lumigator_nb.statistics.pass_at_k`.

        Raises:
            InvalidInputError: no model was asked repeatedly, k is out of range, or the score needs a threshold.

        Examples:
            >>> _ = ws.workflows.launch(experiment, "baseline/lead-1", repeats=2)
            >>> _ = ws.wait(experiment, progress=False)
            >>> table = ws.compare(experiment).passes(2, "rougeL", threshold=0.1)
            >>> table[["model", "pass_at_k", "pass_hat_k"]].round(2).head(1)
                         model  pass_at_k  pass_hat_k
            0  baseline/lead-1       0.52        0.52
        """
        values = repeating.of_score(self.data.repeats, self._of(score).info.name)
        return repeating.passes(self.models, values, k, threshold, self.confidence, self.seed)

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
            if self.data.items:
                frame.insert(0, "item", np.asarray(self.data.items, dtype=object)[frame["row"]])
            for name, scored in self._scored.items():
                frame[name] = pd.Series(scored.values[index], index=scored.rows).reindex(frame["row"]).to_numpy()
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def plot(self, kind: PlotKind = "intervals", score: str | None = None, *, column: str | None = None) -> Figure:
        """Draw one score.

        Args:
            kind: "intervals" (overall scores), "pairwise" (differences of all pairs), "pareto" (against cost, or
                latency if no model has a price), "slices" (by `column`), "distribution" (over the examples).
            score: default the main score.
            column: for "slices"; default "length".

        Raises:
            InvalidInputError: there is no such kind, or nothing to draw.

        Examples:
            >>> figure = comparison.plot("intervals", "rougeL")
            >>> figure.savefig("rougeL.png")
        """
        # Imported here because matplotlib takes a second to import.
        from lumigator_nb.display.charts import interval_chart
        from lumigator_nb.services.comparison import decision_charts as charts

        scored, info = self._of(score), self._of(score).info
        ranked = score_rows(self._summary, info)
        order = [row.model for row in ranked]
        if kind == "intervals":
            return interval_chart(ranked, info, self.confidence)
        if kind == "pairwise":
            if len(self.models) < 2:
                raise InvalidInputError("one model makes no pair", "launch another model")
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
            path: ending in `.html` (a self-contained report in one file), `.xlsx` (a workbook),
                `.csv` (all rows), `.md` (the findings, for a wiki) or `.eee.json` (Every Eval Ever: one file per model,
                whose name gets the model's, and beside it the samples; the first one's path is returned).

        Raises:
            InvalidInputError: another ending.
            MissingExtraError: a workbook needs packages that are not installed.

        Examples:
            >>> comparison.export("report.html").name
            'report.html'
        """
        return exporting.export(self, path)

    def verdict(self, score: str | None = None) -> str:
        """Return which model leads, and for each other model which model it was compared with and what was shown.

        Examples:
            >>> print(comparison.verdict("rougeL"))
            baseline/copy has the highest rougeL (0.195). baseline/lead-3 cannot be told apart from it at 95%
            confidence with 64 examples. baseline/lead-1 is worse by 0.080 [0.058, 0.103].
        """
        info = self._of(score).info
        return verdict(score_rows(self._summary, info), self.contrasts(info.name), info, self.confidence)

    def contrasts(self, score: str | None = None) -> list[Contrast]:
        """Return what the score shows about each model except the leading one.

        Each is compared with the leading model, and if that is not shown to be better, also with one that is, if any.
        Empty for a score without better or worse.

        Examples:
            >>> [contrast.model for contrast in comparison.contrasts("rougeL")]
            ['baseline/lead-1', 'baseline/lead-3']
        """
        name = self._of(score).info.name
        if name not in self._contrasts:
            self._contrasts[name] = decisions.contrasts(self.models, self._of(name))
        return list(self._contrasts[name])

    def _of(self, score: str | None) -> Scored:
        name = score or self.main_score
        if name in self.uncompared:
            raise InvalidInputError(
                f"no example has the score {name!r} from every model", " ".join(self._why_not_computed())
            )
        if name not in self._scored:
            raise InvalidInputError(f"there is no score {name!r} here", did_you_mean(name, self._scored))
        return self._scored[name]
