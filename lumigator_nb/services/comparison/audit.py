"""Ground-truth audits: does the winner stay the winner when another model has written the ground truth?"""

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
from lumigator_nb.storage.results import STATISTICS_SUFFIX

if TYPE_CHECKING:
    from lumigator_nb.metrics import Metric


@dataclass(frozen=True, repr=False)
class Audit(Rendered):
    """How models rank by two ground truths.

    Attributes:
        info: of the score that decides.
        before: the comparison by the dataset's ground truth; `after` by the other.
        author: who wrote the dataset's ground truth; `other_author` the other.
        n: examples that have both.
    """

    info: ScoreInfo
    before: Comparison
    after: Comparison
    author: str
    other_author: str
    n: int

    @property
    def winner_changes(self) -> bool:
        """Whether another model leads."""
        return self.before.best(self.info.name) != self.after.best(self.info.name)

    @property
    def contradicted(self) -> bool:
        """Whether the winner of one is told apart from the best by the other: the choice hangs on the ground truth."""
        sets = [set(each.ranking(self.info.name).query("best_set")["model"]) for each in (self.before, self.after)]
        winners = [each.best(self.info.name) for each in (self.before, self.after)]
        return winners[0] not in sets[1] or winners[1] not in sets[0]

    @property
    def rank_correlation(self) -> float:
        """Kendall's tau-b of the models' overall scores; NaN with fewer than two different ones."""
        table = self.summary()
        return statistics.kendall_tau(table["overall"].to_numpy(), table["other_overall"].to_numpy())

    def summary(self) -> pd.DataFrame:
        """Return one row per model, the best by the dataset's ground truth first.

        Columns: `model`, `overall`, `rank_low`, `rank_high` by the dataset's ground truth, and `other_overall`,
        `other_rank_low`, `other_rank_high` by the other.
        """
        columns = ["model", "overall", "rank_low", "rank_high"]
        before, after = (each.ranking(self.info.name)[columns] for each in (self.before, self.after))
        return before.merge(after.rename(columns={name: f"other_{name}" for name in columns[1:]}), on="model")


def audit(comparison: Comparison, truth: Sequence[str | None], other_author: str, score: str | None = None) -> Audit:
    """Rank by another ground truth; see :meth:`Workspace.audit`.

    Args:
        comparison: by the dataset's ground truth.
        truth: one text per row of the dataset; None where there is none.
        other_author: who wrote it.
        score: default the main score.
    """
    name = score or comparison.main_score
    info, metric = _metric_of(comparison, name)
    known = np.array([text is not None for text in truth])
    if known.sum() < 2:
        raise InvalidInputError(f"{other_author} gave a ground truth for {known.sum()} examples", "two are needed")
    before = comparison.rescored(lambda label, frame: _only_known(frame, name, known))
    examples = comparison.examples()

    def score_anew(label: str, frame: pd.DataFrame) -> pd.DataFrame:
        texts = [text if isinstance(text, str) else None for text in examples[label]]
        found = metric.score(texts, list(truth), examples["example"].tolist())
        chosen = next(each for each in found if each.info.name == name)
        return pd.DataFrame({name: chosen.values, name + STATISTICS_SUFFIX: list(chosen.statistics)})

    return Audit(info, before, comparison.rescored(score_anew), _author(comparison), other_author, int(known.sum()))


def _only_known(frame: pd.DataFrame, name: str, known: np.ndarray) -> pd.DataFrame:
    kept = frame[[column for column in (name, name + STATISTICS_SUFFIX) if column in frame]].copy()
    kept.loc[~known, name] = np.nan
    return kept


def _author(comparison: Comparison) -> str:
    return comparison.dataset.author or "the dataset"


def _metric_of(comparison: Comparison, name: str) -> tuple[ScoreInfo, Metric]:
    for spec in comparison.experiment.metrics:
        metric = metrics.create(spec)
        info = next((each for each in metric.infos if each.name == name), None)
        if info is None:
            continue
        if "ground_truth" not in metric.needs:
            raise InvalidInputError(f"{name} does not look at the ground truth", "audit another score, such as rougeL")
        if metric.asks or "metadata" in metric.needs:
            raise InvalidInputError(f"{name} asks a judge, or is your own", "audit one like rougeL, bleu or chrf")
        return info, metric
    known = [info.name for info in comparison.scores]
    raise InvalidInputError(f"no metric of the experiment reports {name!r}", did_you_mean(name, known))


def sentence(audit: Audit) -> str:
    """Say whether the winner changes, and how alike the two orders are."""
    score = audit.info.name
    old, new = audit.before.best(score), audit.after.best(score)
    if not audit.winner_changes:
        said = f"{old} leads on {score} by both ground truths."
    elif audit.contradicted:
        said = (
            f"The winner changes: {old} leads on {score} by the ground truth of {audit.author}, {new} by that of "
            f"{audit.other_author}, and by one of the two the other's winner is shown not to be the best. "
            "The choice hangs on who wrote it."
        )
    else:
        said = (
            f"{old} leads on {score} by the ground truth of {audit.author}, {new} by that of {audit.other_author}, but "
            "by neither the other's winner is shown not to be the best."
        )
    correlation = audit.rank_correlation
    value = f"{correlation:.2f}".replace("-", "−")
    alike = "" if math.isnan(correlation) else f" Both orders correlate by {value} (Kendall's tau-b)."
    own = (
        f" {audit.other_author} is judged by what it wrote itself." if audit.other_author in audit.before.models else ""
    )
    return f"{said}{alike}{own}"


@render.as_text.register
def _as_text(audit: Audit) -> str:
    """Return the sentence and a line per model."""
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
    """Return the sentence and a table."""
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
