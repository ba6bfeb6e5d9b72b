"""Ground-truth audit: does the same model win if another model has written the ground truth?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lumigator_nb import metrics, statistics
from lumigator_nb.display import render
from lumigator_nb.display.html import fragment, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.scores import Figures, ranks
from lumigator_nb.display.tables import Cell, Table, to_html
from lumigator_nb.display.text import count
from lumigator_nb.errors import InvalidInputError, did_you_mean
from lumigator_nb.metrics import ScoreInfo
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.repeats import averaged
from lumigator_nb.storage.results import STATISTICS_SUFFIX

if TYPE_CHECKING:
    from lumigator_nb.metrics import Metric


@dataclass(frozen=True, repr=False)
class Audit(Rendered):
    """How models rank by two ground truths.

    Attributes:
        info: the score that decides.
        before: the comparison by the dataset's ground truth.
        after: the comparison by the other ground truth.
        author: the model that wrote the dataset's ground truth, or "the dataset".
        other_author: the model that wrote the other ground truth.
        n: number of examples that have both.
    """

    info: ScoreInfo
    before: Comparison
    after: Comparison
    author: str
    other_author: str
    n: int

    @property
    def winner_changes(self) -> bool:
        """Whether the two ground truths have different winners."""
        return self.before.best(self.info.name) != self.after.best(self.info.name)

    @property
    def contradicted(self) -> bool:
        """Whether one ground truth shows that the other's winner is not the best: the choice depends on the author."""
        before, after = (
            set(comparison.ranking(self.info.name).query("best_set")["model"])
            for comparison in (self.before, self.after)
        )
        return self.before.best(self.info.name) not in after or self.after.best(self.info.name) not in before

    @property
    def rank_correlation(self) -> float:
        """Kendall's tau-b of the models' overall scores, in [-1, 1]; NaN with fewer than two different scores."""
        table = self.summary()
        return statistics.kendall_tau(table["overall"].to_numpy(), table["other_overall"].to_numpy())

    def summary(self) -> pd.DataFrame:
        """Return one row per model, the best by the dataset's ground truth first.

        Columns: `model`, `overall`, `rank_low`, `rank_high` by the dataset's ground truth, and `other_overall`,
        `other_rank_low`, `other_rank_high` by the other.
        """
        columns = ["model", "overall", "rank_low", "rank_high"]
        before = self.before.ranking(self.info.name)[columns]
        after = self.after.ranking(self.info.name)[columns]
        return before.merge(after.rename(columns={name: f"other_{name}" for name in columns[1:]}), on="model")


def audit(comparison: Comparison, truth: Sequence[str | None], other_author: str, score: str | None = None) -> Audit:
    """Rank the models by another ground truth; see :meth:`Workspace.audit`.

    Args:
        comparison: the comparison by the dataset's ground truth.
        truth: one text per row of the dataset; None for a row without one.
        other_author: label of the model that wrote it.
        score: default the main score.

    Raises:
        InvalidInputError: fewer than two rows have a text, or the score cannot be computed again.
    """
    name = score or comparison.main_score
    info, metric = _metric_of(comparison, name)
    has_truth = np.array([text is not None for text in truth])
    n = int(has_truth.sum())
    if n < 2:
        raise InvalidInputError(f"{other_author} gave a ground truth for {n} examples", "two are needed")
    examples = comparison.examples()

    def score_where_both(label: str, frame: pd.DataFrame) -> pd.DataFrame:
        # Both comparisons have to be on the same examples: those that both ground truths cover.
        scores = frame[[column for column in (name, name + STATISTICS_SUFFIX) if column in frame]].copy()
        scores.loc[~has_truth, name] = np.nan
        return scores

    def score_by_other(label: str, frame: pd.DataFrame) -> pd.DataFrame:
        frames = []
        for answers in _repeats_of(comparison, label, examples):
            texts = [text if isinstance(text, str) else None for text in answers]
            results = metric.score(texts, list(truth), examples["example"].tolist())
            scores = next(result for result in results if result.info.name == name)
            columns = {"row": frame.index, name: scores.values, name + STATISTICS_SUFFIX: list(scores.statistics)}
            frames.append(pd.DataFrame(columns))
        return averaged(frames).set_index("row")

    return Audit(
        info=info,
        before=comparison.rescored(score_where_both),
        after=comparison.rescored(score_by_other),
        author=comparison.dataset.author or "the dataset",
        other_author=other_author,
        n=n,
    )


def _repeats_of(comparison: Comparison, label: str, examples: pd.DataFrame) -> list[pd.Series]:
    """Return a model's answers, one series over all examples for each of its repeats."""
    if label not in comparison.data.answers:
        return [examples[label]]
    answers = comparison.data.answers[label]
    number = answers.groupby("row").cumcount()
    return [
        answers[number == repeat].set_index("row")["prediction"].reindex(examples.index)
        for repeat in range(int(number.max()) + 1)
    ]


def _metric_of(comparison: Comparison, name: str) -> tuple[ScoreInfo, Metric]:
    """The metric that reports a score; only one that can be computed here, from the texts alone, without a model."""
    for spec in comparison.experiment.metrics:
        metric = metrics.create(spec)
        info = next((info for info in metric.infos if info.name == name), None)
        if info is None:
            continue
        if "ground_truth" not in metric.needs:
            raise InvalidInputError(f"{name} does not look at the ground truth", "audit another score, such as rougeL")
        if metric.asks or "metadata" in metric.needs:
            raise InvalidInputError(f"{name} asks a judge, or is your own", "audit one like rougeL, bleu or chrf")
        return info, metric
    names = [info.name for info in comparison.scores]
    raise InvalidInputError(f"no metric of the experiment reports {name!r}", did_you_mean(name, names))


def sentence(audit: Audit) -> str:
    """Return whether the winner changes, and how strongly the two orders correlate."""
    score = audit.info.name
    old, new = audit.before.best(score), audit.after.best(score)
    if not audit.winner_changes:
        winner = f"{old} leads on {score} by both ground truths."
    elif audit.contradicted:
        winner = (
            f"The winner changes: {old} leads on {score} by the ground truth of {audit.author}, {new} by that of "
            f"{audit.other_author}, and at least one of the two shows that the other's winner is not the best. "
            "The choice depends on who wrote the ground truth."
        )
    else:
        winner = (
            f"{old} leads on {score} by the ground truth of {audit.author}, {new} by that of {audit.other_author}, but "
            "neither shows that the other's winner is not the best."
        )
    correlation = audit.rank_correlation
    value = f"{correlation:.2f}".replace("-", "−")
    agreement = "" if math.isnan(correlation) else f" Both orders correlate by {value} (Kendall's tau-b)."
    is_own = audit.other_author in audit.before.models
    own = f" {audit.other_author} is measured against its own text." if is_own else ""
    return f"{winner}{agreement}{own}"


@render.as_text.register
def _as_text(audit: Audit) -> str:
    """Return the audit for a terminal: the sentence and a line per model."""
    show = Figures(audit.info, [])
    lines = [
        f"  {row['model']}: {show.number(row['overall'])}, rank {ranks(row['rank_low'], row['rank_high'])}; by "
        f"{audit.other_author} {show.number(row['other_overall'])}, rank "
        f"{ranks(row['other_rank_low'], row['other_rank_high'])}"
        for row in audit.summary().to_dict("records")
    ]
    return "\n".join([sentence(audit), *lines])


@render.as_html.register
def _as_html(audit: Audit) -> str:
    """Return the audit for a notebook: the sentence and a table."""
    show = Figures(audit.info, [])
    rows = [
        [
            row["model"],
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            show.number(row["other_overall"]),
            ranks(row["other_rank_low"], row["other_rank_high"]),
        ]
        for row in audit.summary().to_dict("records")
    ]
    headers: list[str | Cell] = [
        "model", Cell(f"{audit.info.name} by {audit.author}"), "possible ranks", Cell(f"by {audit.other_author}"),
        "possible ranks",
    ]  # fmt: skip
    note = f"{count(audit.n, 'example')} with both ground truths"
    return fragment(
        tag("div", sentence(audit), class_="lm-verdict"),
        to_html(Table(headers, rows, note=note)),
    )
