"""Orphans and faults, for a terminal and a notebook."""

from __future__ import annotations

from collections import Counter

from lumigator_nb.display import render
from lumigator_nb.display.html import chip, clipped, fragment, table, tag
from lumigator_nb.display.text import columns, count, joined, moment, one_line, size
from lumigator_nb.services.upkeep.garbage import Garbage
from lumigator_nb.services.upkeep.inspection import Inspection


@render.as_text.register
def _garbage_text(garbage: Garbage) -> str:
    """Return what belongs to nobody as aligned lines."""
    rows = [(each.kind, each.name, count(each.n_files, "file"), size(each.n_bytes)) for each in garbage.orphans]
    return "\n".join([_garbage_title(garbage), *columns(rows), *(f"  {note}" for note in _garbage_notes(garbage))])


@render.as_html.register
def _garbage_html(garbage: Garbage) -> str:
    """Return what belongs to nobody as a table."""
    rows = [[each.kind, each.name, each.n_files, size(each.n_bytes), moment(each.modified)] for each in garbage.orphans]
    found = table(["What", "Where", "Files", "Size", "Last written"], rows, numeric=(2, 3)) if rows else None
    notes = [tag("div", note, class_="lm-note") for note in _garbage_notes(garbage)]
    return fragment(tag("div", _garbage_title(garbage), class_="lm-title"), found, *notes)


def _garbage_title(garbage: Garbage) -> str:
    if not garbage.orphans:
        return "Nothing is left behind"
    counts = Counter(each.kind for each in garbage.orphans)
    kinds = joined([f"{number:,} × {kind}" for kind, number in counts.items()])
    verb = "Removed" if garbage.collected else "Belongs to nobody"
    return f"{verb}: {kinds}, {size(garbage.n_bytes)}"


def _garbage_notes(garbage: Garbage) -> list[str]:
    notes = []
    if garbage.n_younger:
        hours = garbage.older_than.total_seconds() / 3600
        notes.append(f"left alone: {garbage.n_younger:,} younger than {hours:g} hours, which may be at work")
    if garbage.orphans and not garbage.collected:
        notes.append("nothing was removed: lumigator-nb gc, or ws.gc(), does")
    return [*notes, *garbage.problems]


@render.as_text.register
def _inspection_text(inspection: Inspection) -> str:
    """Return what is not in order, each with its remedy."""
    lines = [_inspection_title(inspection)]
    for fault in inspection.faults:
        lines += [f"  {fault.where}: {one_line(fault.what)}", f"      {one_line(fault.remedy)}"]
    return "\n".join(lines)


@render.as_html.register
def _inspection_html(inspection: Inspection) -> str:
    """Return what is not in order as a table."""
    rows = [[clipped(each.where), clipped(each.what), clipped(each.remedy)] for each in inspection.faults]
    title = chip(_inspection_title(inspection), "bad" if rows else "good")
    return fragment(tag("div", title, class_="lm-title"), table(["Where", "What", "Remedy"], rows) if rows else None)


def _inspection_title(inspection: Inspection) -> str:
    looked = joined([count(number, kind) for kind, number in inspection.looked_at.items()])
    found = count(len(inspection.faults), "fault") if inspection.faults else "no fault"
    return f"{found} in {looked}"
