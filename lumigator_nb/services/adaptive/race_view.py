"""A race in a notebook and in a terminal, and its certificate in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, fragment, name, table, tag
from lumigator_nb.display.scores import Figures
from lumigator_nb.display.text import MISSING, count, joined, percent

if TYPE_CHECKING:
    from lumigator_nb.metrics import ScoreInfo
    from lumigator_nb.services.adaptive.race import Selection

_HEADERS = ["Model", "State", "Examples", "Mean so far", "Difference to the leading one", "Beaten by", "Dollars"]
_NOTE = "The intervals hold at every look at once, so that watching them shrink does no harm."
_LAST_TEST = (
    "The test after all examples looks once and so shows more: it may drop a model whose interval of the difference "
    "still holds 0."
)


def certificate(selection: Selection) -> str:
    """Say what was concluded, how sure that is, and what it took and saved."""
    return " ".join([*_concluded(selection), *_at_the_end(selection), *_failed(selection), _taken(selection)])


def _concluded(selection: Selection) -> list[str]:
    show = Figures(selection.info, [])
    error = f"at most {percent(1 - selection.confidence)} chance of error"
    dropped = len(selection.summary()) - len(selection.remaining) - len(selection.failed)
    worse = f"; {count(dropped, 'other model')} {'is' if dropped == 1 else 'are'} worse" if dropped else ""
    if selection.conclusion == "best":
        return [f"{selection.best} is the best of {count(dropped + 1, 'model')} on {selection.info.name} ({error})."]
    if selection.conclusion == "equivalent":
        within = show.number(selection.indifference)
        same = f"differ by less than {within} on {selection.info.name}"
        return [f"{joined(selection.remaining)} {same}: they are equivalent{worse} ({error})."]
    left = joined(selection.remaining)
    return [f"Undecided: {_exhausted(selection)}, and {left} cannot be told apart on {selection.info.name}{worse}."]


def _at_the_end(selection: Selection) -> list[str]:
    """What the race could not show while it went on, and what the test after all examples made of it."""
    if selection.by_last_test:
        worse = f"{joined(selection.by_last_test)} {'is' if len(selection.by_last_test) == 1 else 'are'} worse"
        return [
            f"While it went on, the race could not show that {worse}; one test after all "
            f"{count(selection.n_examples, 'example')} did, for which half of the error was kept."
        ]
    if selection.conclusion == "undecided" and selection.ended_by == "examples":
        return [
            "Neither the race nor one test after it, with half of the error each, told them apart; a comparison that "
            "looks only once has the whole error and may."
        ]
    return []


def _exhausted(selection: Selection) -> str:
    if selection.ended_by == "budget":
        return f"the next question might exceed the budget after {count(selection.n_seen, 'example')}"
    return f"all {count(selection.n_examples, 'example')} were asked"


def _failed(selection: Selection) -> list[str]:
    return [f"{label} left the race: {reason}." for label, reason in selection.failed.items()]


def _taken(selection: Selection) -> str:
    grid = selection.answers + selection.answers_saved
    said = f"It took {count(selection.answers, 'answer')} on {selection.n_seen:,} of {selection.n_examples:,} examples"
    if selection.dollars is not None:
        said += f" and {dollars(selection.dollars)}"
        if selection.dollars_now < 0.999 * selection.dollars:
            said += f" ({dollars(selection.dollars_now)} of it now, the rest was there)"
    if not selection.answers_saved:
        return f"{said}; nothing was saved."
    money = "" if selection.dollars_saved is None else f" and about {dollars(selection.dollars_saved)}"
    saved = f"{count(selection.answers_saved, 'answer')} ({selection.answers_saved / grid:.0%}){money}"
    return f"{said}; asking everything would have taken {saved} more."


def standing(row: Mapping[Any, Any], info: ScoreInfo) -> str:
    """Say how one model stands, for a progress display: mean with interval, and what it means for the race."""
    if row["state"] == "failed" or not _known(row["mean"]):
        return ""
    show = Figures(info, [])
    said = f"{info.name} {show.number(row['mean'])} {show.interval(row['low'], row['high'])}".rstrip()
    state = {"leads": "leads", "dropped": f"dropped, worse than {row['beaten_by']}", "equivalent": "equivalent"}
    return ", ".join(part for part in (said, state.get(row["state"], "")) if part)


def as_text(selection: Selection) -> str:
    """Return the certificate and a line per model."""
    lines = [
        f"  {row['model']}: {row['state']}, {count(int(row['examples']), 'example')}"
        + (f", {said}" if (said := standing({**row, "state": ""}, selection.info)) else "")
        for row in selection.summary().to_dict("records")
    ]
    return "\n".join([f"{selection.experiment}: {certificate(selection)}", *lines])


def as_html(selection: Selection) -> str:
    """Return the certificate and a table of the models."""
    rows = [_row(row, selection.info, selection.best) for row in selection.summary().to_dict("records")]
    return fragment(
        tag("div", f"{selection.experiment}: race on {selection.info.name}", class_="lm-title"),
        tag("div", certificate(selection), class_="lm-verdict"),
        table(_HEADERS, rows, numeric=(2, 3, 4, 6)),
        tag("div", " ".join(_below(selection)), class_="lm-note"),
    )


def _below(selection: Selection) -> list[str]:
    said = [f"{percent(selection.confidence)} confidence sequences.", _NOTE]
    return [*said, _LAST_TEST] if selection.by_last_test else said


def _row(row: Mapping[Any, Any], info: ScoreInfo, leading: str) -> list[object]:
    show = Figures(info, [])
    beaten = name(row["beaten_by"]) if isinstance(row["beaten_by"], str) else ""
    return [
        name(row["model"]),
        row["state"],
        f"{int(row['examples']):,}",
        _with_interval(show.number, show, row, "mean", "low", "high"),
        MISSING
        if row["model"] == leading
        else _with_interval(show.signed, show, row, "difference", "difference_low", "difference_high"),
        beaten,
        dollars(row["dollars"]) if _known(row["dollars"]) else MISSING,
    ]


def _with_interval(written: Any, show: Figures, row: Mapping[Any, Any], value: str, low: str, high: str) -> Html | str:
    if not _known(row[value]):
        return MISSING
    return tag("span", written(row[value]), " ", tag("span", show.interval(row[low], row[high]), class_="lm-sub"))


def _known(value: Any) -> bool:
    return value is not None and not math.isnan(value)
