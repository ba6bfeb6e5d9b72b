"""Human ratings: which metrics and judges agree with them, and estimates that extend few ratings to all examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.services.comparison.score_samples import Scored
from lumigator_nb.statistics.prediction_powered import About

_RATE = "rate answers with lm.ui.rate(ws, experiment, kind='rating'), or give them: human=…"


def ratings_of(human: pd.DataFrame | None, stored: pd.DataFrame | None, models: Sequence[str]) -> pd.DataFrame:
    """Return the mean rating of every rated answer: columns `row`, `model`, `rating`, `raters`, `probability`.

    `probability` is that with which the row was drawn for rating; NaN if it is unknown.

    Args:
        human: ratings as in :meth:`Comparison.trust`; None takes the stored ones.
        stored: the ratings stored with the experiment.
        models: the labels of the compared models.

    Raises:
        InvalidInputError: there are no ratings, a column is missing, or a model is not compared.
    """
    ratings = stored if human is None else human
    if ratings is None or not len(ratings):
        raise InvalidInputError("there are no ratings yet", _RATE)
    if missing := [name for name in ("row", "model", "rating") if name not in ratings]:
        raise InvalidInputError(f"the ratings have no column {missing[0]!r}", "row, model, rating; and rater, if known")
    # Stored ratings may be of models outside this comparison. In ratings given by the caller that is a mistake.
    ratings = ratings[ratings["model"].isin(models)] if human is None else ratings
    if unknown := sorted(set(ratings["model"]) - set(models)):
        raise InvalidInputError(f"the ratings name the model {unknown[0]!r}, which is not compared", None)
    if "probability" not in ratings:
        ratings = ratings.assign(probability=np.nan)
    grouped = ratings.dropna(subset=["rating"]).groupby(["row", "model"])
    # A row was drawn once for all raters, so that its probability is the same in all of its ratings.
    return grouped.agg(
        rating=("rating", "mean"), raters=("rating", "size"), probability=("probability", "first")
    ).reset_index()


def trust(
    models: Sequence[str], samples: Mapping[str, Scored], ratings: pd.DataFrame, confidence: float, seed: int
) -> pd.DataFrame:
    """See :meth:`Comparison.trust`."""
    positions = {label: index for index, label in enumerate(models)}
    rated_models = [positions[model] for model in ratings["model"]]
    rated_rows = ratings["row"].to_numpy()
    scores = []  # (metrics, answers): the scores of the rated answers, NaN for none
    for scored in samples.values():
        by_row = np.full((len(models), max(int(scored.rows.max()), int(rated_rows.max())) + 1), np.nan)
        by_row[:, scored.rows] = scored.values
        scores.append(by_row[rated_models, rated_rows])
    correlations = statistics.trust(
        np.stack(scores),
        ratings["rating"].to_numpy(dtype=np.float64),
        groups=rated_rows,
        higher_is_better=[bool(scored.info.higher_is_better) for scored in samples.values()],
        confidence=confidence,
        seed=seed,
    )
    table = []
    for name, correlation in zip(samples, correlations, strict=True):
        line = {"score": name, "n": correlation.n}
        for kind in ("kendall", "spearman", "pearson"):
            interval = getattr(correlation, kind)
            line |= {kind: interval.estimate, f"{kind}_low": interval.low, f"{kind}_high": interval.high}
        table.append(line)
    return pd.DataFrame(table).sort_values("kendall", ascending=False, ignore_index=True, na_position="last")


def prediction_powered(
    models: Sequence[str], scored: Scored, ratings: pd.DataFrame, confidence: float, about: About
) -> pd.DataFrame:
    """See :meth:`Comparison.prediction_powered`."""
    rows = []
    is_weighted = bool((ratings["probability"] < 1).any())
    for index, label in enumerate(models):
        own = ratings[ratings["model"] == label].set_index("row")
        # Besides the drawn rows, people rated rows of their choice, whose probability is unknown: they would bias it.
        own = own.dropna(subset=["probability"]) if is_weighted else own
        is_rated = np.isin(scored.rows, own.index)
        if is_rated.sum() < 2:
            continue
        rated = own.loc[scored.rows[is_rated]]
        mean = statistics.prediction_powered_mean(
            rated["rating"].to_numpy(dtype=np.float64),
            scored.values[index][is_rated],
            scored.values[index][~is_rated],
            probabilities=rated["probability"].to_numpy(dtype=np.float64) if is_weighted else None,
            confidence=confidence,
            about=about,
        )
        rows.append(
            {
                "model": label,
                "estimate": mean.estimate,
                "low": mean.low,
                "high": mean.high,
                "human_only": mean.human_only.estimate,
                "human_low": mean.human_only.low,
                "human_high": mean.human_only.high,
                "weight": mean.weight,
                "n_labels": int(is_rated.sum()),
                "n": scored.n,
                "about": mean.about,
                "weighted": is_weighted,
            }
        )
    if not rows:
        raise InvalidInputError(f"no model has two rated answers that have a {scored.info.name}", _RATE)
    return pd.DataFrame(rows)


def next_to_label(scored: Scored, rated: Sequence[int], n: int, seed: int) -> pd.DataFrame:
    """See :meth:`Comparison.next_to_label`."""
    # Where the models' scores differ most, a rating decides most between them.
    drawn = statistics.next_to_label(
        scored.values.std(axis=0), n, labelled=np.isin(scored.rows, list(rated)), seed=seed
    )
    return pd.DataFrame({"row": scored.rows[drawn.indices], "probability": drawn.probabilities})
