"""Judgements in a notebook and in a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lumigator_nb.display.html import fragment, name, table, tag
from lumigator_nb.display.text import MISSING
from lumigator_nb.services.comparison import judge_reports_view

if TYPE_CHECKING:
    import pandas as pd

    from lumigator_nb.services.judging.pairwise import Judgements

_HEADERS = ["Model", "Against", "Wins", "Ties", "Losses", "Wins less losses", "n"]


def as_text(judgements: Judgements) -> str:
    """Return judgements for a terminal, the passports of the judges below."""
    summary = judgements.summary()
    lines = [_title(judgements)]
    for _, row in summary.iterrows():
        lines.append(
            f"  {row['model']} against {row['other']}: {row['wins']} wins, {row['ties']} ties, {row['losses']} losses; "
            f"{_net(row)}"
        )
    return "\n\n".join(["\n".join(lines), *(judge_reports_view.as_text(each) for each in judgements.passports())])


def as_html(judgements: Judgements) -> str:
    """Return judgements for a notebook, the passports of the judges below."""
    rows = [
        [name(row["model"]), name(row["other"]), row["wins"], row["ties"], row["losses"], _net(row), f"{row['n']:,}"]
        for _, row in judgements.summary().iterrows()
    ]
    note = "A pair whose two orders were judged differently is a tie."
    return fragment(
        tag("div", _title(judgements), class_="lm-title"),
        table(_HEADERS, rows, numeric=(2, 3, 4, 5, 6)),
        tag("div", note, class_="lm-note"),
        *(judge_reports_view.body(each) for each in judgements.passports()),
    )


def _title(judgements: Judgements) -> str:
    cost = "" if judgements.cost is None else f", ${judgements.cost:.4f}"
    return f"{judgements.title}, judged by {', '.join(judgements.judges)}{cost}"


def _net(row: pd.Series) -> str:
    if math.isnan(row["net"]):
        return MISSING
    low, high = (judge_reports_view.number(row[name], "+") for name in ("low", "high"))
    return judge_reports_view.number(row["net"], "+") + ("" if math.isnan(row["low"]) else f" [{low}, {high}]")
