"""A plan with its quote, in words and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from lumigator_nb.display.costs import dollars, seconds
from lumigator_nb.display.html import fragment, name, table, tag
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.text import MISSING, count

if TYPE_CHECKING:
    from lumigator_nb.services.adaptive.power_study import Study

_HEADERS = ["Model", "Pilot", "Failed", "One answer", "", "The examples needed", "", "All examples", ""]


def _title(study: Study) -> str:
    return f"{study.experiment}: plan for {study.info.name} ({count(study.n_examples, 'example')} there)"


def as_text(study: Study) -> str:
    """Return the plan and a line per model."""
    lines = [
        f"  {row['model']}: neither time nor price is known"
        if math.isnan(row["seconds"]) and math.isnan(row["dollars"])
        else f"  {row['model']}: {_time(row['needed_seconds'])} and {_money(row['needed_dollars'])} for the examples "
        f"needed, {_time(row['all_seconds'])} and {_money(row['all_dollars'])} for all"
        for row in study.quotes().to_dict("records")
    ]
    return "\n".join([_title(study), str(study.plan), *lines])


def as_html(study: Study) -> str:
    """Return the plan and a table of what it costs."""
    show = Figures(study.info, [])
    rows = [
        [
            name(row["model"]),
            show.number(row["mean"]),
            f"{row['failed']:,} of {row['answered'] + row['failed']:,}",
            *(written(row[f"{what}{unit}"]) for what in ("", "needed_", "all_") for unit, written in _UNITS),
        ]
        for row in study.quotes().to_dict("records")
    ]
    return fragment(
        tag("div", _title(study), class_="lm-title"),
        tag("div", str(study.plan), class_="lm-verdict"),
        table(_HEADERS, rows, numeric=range(1, len(_HEADERS))),
        tag("div", "Time of one answer after the other; services answer many at once.", class_="lm-note"),
    )


def _time(value: float) -> str:
    return MISSING if math.isnan(value) else seconds(value)


def _money(value: float) -> str:
    return "no price" if math.isnan(value) else dollars(value)


_UNITS: tuple[tuple[str, Callable[[float], str]], ...] = (("seconds", _time), ("dollars", _money))
