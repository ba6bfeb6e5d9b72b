"""Which model to take, in words that somebody who pays for it can read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import Html, fragment, name, table, tag
from lumigator_nb.display.scores import Figures, ranks
from lumigator_nb.display.text import MISSING, count, joined, percent

if TYPE_CHECKING:
    from lumigator_nb.services.decisions import Recommendation

_HEADERS = ["Model", "Score", "Possible ranks", "Worse than the best by at most", "Per 1,000 answers", "Latency"]
_NAMED = 3


def sentence(found: Recommendation) -> str:
    """Return the recommendation in one to three sentences."""
    return " ".join([advice(found), *_alternatives(found)])


def advice(found: Recommendation) -> str:
    """Return which model to take, and why."""
    show, rows = Figures(found.info, []), _by_model(found)
    best, choice = rows[found.best], rows[found.choice]
    score = f"the {'highest' if found.info.higher_is_better else 'lowest'} {found.info.name}"
    if found.choice == found.best:
        return f"Take {found.best}: it has {score}, {show.number(best['overall'])}{_unrivalled(found)}."
    column, written, unit = {
        "dollars": ("dollars_per_1000", dollars, "per 1,000 answers"),
        "seconds": ("seconds_p50", seconds, "per answer"),
    }[found.by or "dollars"]
    price = f"{written(choice[column])} instead of {written(best[column])} {unit}"
    less = "less" if found.by == "dollars" else "less time"
    behind = show.number(max(0.0, choice["worse_by_at_most"]))
    return (
        f"Take {found.choice}: it takes {found.saved or 0:.0%} {less} than {found.best} ({price}), and with "
        f"{percent(found.confidence)} confidence its {found.info.name} ({show.number(choice['overall'])}) is at most "
        f"{behind} worse than that of any other model; {found.best} has {score}, {show.number(best['overall'])}."
    )


def _unrivalled(found: Recommendation) -> str:
    if found.by is None or len(found.table) == 1:
        return ""
    cheaper = "cheaper" if found.by == "dollars" else "faster"
    within = Figures(found.info, []).number(found.margin)
    return f", and no {cheaper} model is shown to be within {within} of the best"


def _alternatives(found: Recommendation) -> list[str]:
    others = [model for model in found.best_set if model != found.best]
    if not others:
        return [f"{found.best} is better than every other model at {percent(found.confidence)} confidence."] * (
            len(found.table) > 1
        )
    named = [*others[:_NAMED], *([count(len(others) - _NAMED, "other")] if len(others) > _NAMED else [])]
    return [f"{joined(named)} cannot be told apart from {found.best} with {count(found.n, 'example')}."]


def _by_model(found: Recommendation) -> dict[str, Mapping[Any, Any]]:
    return {row["model"]: row for row in found.table.to_dict("records")}


def as_html(found: Recommendation) -> str:
    """Return the recommendation and what it rests on, for a notebook."""
    return fragment(*body(found))


def body(found: Recommendation) -> list[Html]:
    """Return the recommendation and what it rests on."""
    show = Figures(found.info, [])
    rows = [
        [
            tag("b", name(row["model"])) if row["model"] == found.choice else name(row["model"]),
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            show.number(row["worse_by_at_most"]) + (" ✓" if row["not_worse"] else ""),
            _known(dollars, row["dollars_per_1000"]),
            _known(seconds, row["seconds_p50"]),
        ]
        for row in found.table.to_dict("records")
    ]
    note = (
        f"✓ not worse than the best by more than {show.number(found.margin)}, whichever model that is "
        f"({percent(found.confidence)} confidence, for all models at once)"
    )
    return [
        tag("div", sentence(found), class_="lm-verdict"),
        table(_HEADERS, rows, numeric=range(1, len(_HEADERS))),
        tag("div", note, class_="lm-note"),
    ]


def _known(written: Any, value: float) -> str:
    return MISSING if math.isnan(value) else str(written(value))
