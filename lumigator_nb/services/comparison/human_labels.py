"""What people's ratings say about metrics, judges and models: whom to trust, and what the few labels make of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lumigator_nb import statistics
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.metrics import FloatArray
from lumigator_nb.services.comparison.score_samples import Scored
from lumigator_nb.statistics.prediction_powered import About

_RATE = "rate answers with lm.ui.rate(ws, experiment, kind='rating'), or give them: human=…"


def ratings_of(human: pd.DataFrame | None, stored: pd.DataFrame | None, models: Sequence[str]) -> pd.DataFrame:
    """Return the mean rating of every rated answer: columns `row`, `model`, `rating`, `raters`, `probability`.

    The last is that with which the row came to be rated, NaN where that is not known.

    Args:
        human: as :meth:`Comparison.trust` takes them; None takes those that are stored.
        stored: ratings of the experiment.
        models: the labels there are.

    Raises:
        InvalidInputError: there is none, or a column is missing.
    """
    given = stored if human is None else human
    if given is None or not len(given):
        raise InvalidInputError("nobody has rated an answer yet", _RATE)
    if missing := [name for name in ("row", "model", "rating") if name not in given]:
        raise InvalidInputError(f"the ratings have no column {missing[0]!r}", "row, model, rating; and rater, if known")
    # Stored ratings may be of models that are not compared now; those given by hand are meant.
    given = given[given["model"].isin(models)] if human is None else given
    if unknown := sorted(set(given["model"]) - set(models)):
        raise InvalidInputError(f"the ratings name the model {unknown[0]!r}, which is not compared", None)
    known = given if "probability" in given else given.assign(probability=np.nan)
    grouped = known.dropna(subset=["rating"]).groupby(["row", "model"])
    return grouped.agg(
        rating=("rating", "mean"), raters=("rating", "size"), probability=("probability", "first")
    ).reset_index()


def trust(
    models: Sequence[str], found: Mapping[str, Scored], ratings: pd.DataFrame, confidence: float, seed: int
) -> pd.DataFrame:
    """See :meth:`Comparison.trust`."""
    at = {label: index for index, label in enumerate(models)}
    answers = [at[model] for model in ratings["model"]]
    scores = np.stack([_of_answers(scored, answers, ratings["row"].to_numpy()) for scored in found.values()])
    measured = statistics.trust(
        scores,
        ratings["rating"].to_numpy(dtype=np.float64),
        groups=ratings["row"].to_numpy(),
        higher_is_better=[bool(scored.info.higher_is_better) for scored in found.values()],
        confidence=confidence,
        seed=seed,
    )
    rows = []
    for name, each in zip(found, measured, strict=True):
        row = {"score": name, "n": each.n}
        for kind in ("kendall", "spearman", "pearson"):
            interval = getattr(each, kind)
            row |= {kind: interval.estimate, f"{kind}_low": interval.low, f"{kind}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("kendall", ascending=False, ignore_index=True, na_position="last")


def _of_answers(scored: Scored, models: Sequence[int], rows: np.ndarray) -> FloatArray:
    """(answers,) the scores of those answers; NaN where there is none."""
    wide = np.full((len(scored.values), max(int(scored.rows.max()), int(rows.max())) + 1), np.nan)
    wide[:, scored.rows] = scored.values
    found: FloatArray = wide[models, rows]
    return found


def prediction_powered(
    models: Sequence[str], scored: Scored, ratings: pd.DataFrame, confidence: float, about: About
) -> pd.DataFrame:
    """See :meth:`Comparison.prediction_powered`."""
    rows = []
    drawn = bool((ratings["probability"] < 1).any())
    for index, label in enumerate(models):
        mine = ratings[ratings["model"] == label].set_index("row")
        # It is not known how those were chosen that were rated beside a draw.
        mine = mine.dropna(subset=["probability"]) if drawn else mine
        known = np.isin(scored.rows, mine.index)
        if known.sum() < 2:
            continue
        rated = mine.loc[scored.rows[known]]
        found = statistics.prediction_powered_mean(
            rated["rating"].to_numpy(dtype=np.float64),
            scored.values[index][known],
            scored.values[index][~known],
            probabilities=rated["probability"].to_numpy(dtype=np.float64) if drawn else None,
            confidence=confidence,
            about=about,
        )
        rows.append(
            {
                "model": label,
                "estimate": found.estimate,
                "low": found.low,
                "high": found.high,
                "human_only": found.human_only.estimate,
                "human_low": found.human_only.low,
                "human_high": found.human_only.high,
                "weight": found.weight,
                "n_labels": int(known.sum()),
                "n": scored.n,
                "about": found.about,
                "weighted": drawn,
            }
        )
    if not rows:
        raise InvalidInputError(f"of no model did people rate two answers that have a {scored.info.name}", _RATE)
    return pd.DataFrame(rows)


def next_to_label(scored: Scored, rated: Sequence[int], n: int, seed: int) -> pd.DataFrame:
    """See :meth:`Comparison.next_to_label`."""
    drawn = statistics.next_to_label(
        scored.values.std(axis=0), n, labelled=np.isin(scored.rows, list(rated)), seed=seed
    )
    return pd.DataFrame({"row": scored.rows[drawn.indices], "probability": drawn.probabilities})
