"""Views of garbage and inspections for terminal and notebook."""

from __future__ import annotations

from collections import Counter

from lumigator_nb.display import render
from lumigator_nb.display.html import chip, clipped, fragment, table, tag
from lumigator_nb.display.text import columns, count, joined, moment, one_line, size
from lumigator_nb.services.upkeep.garbage import Garbage
from lumigator_nb.services.upkeep.inspection import Inspection


@render.as_text.register
def _garbage_text(garbage: Garbage) -> str:
    """Return orphans as aligned lines."""
    rows = [(item.kind, item.name, count(item.n_files, "file"), size(item.n_bytes)) for item in garbage.orphans]
    return "\n".join([_garbage_title(garbage), *columns(rows), *(f"  {note}" for note in _garbage_notes(garbage))])


@render.as_html.register
def _garbage_html(garbage: Garbage) -> str:
    """Return orphans as a table."""
    rows = [[item.kind, item.name, item.n_files, size(item.n_bytes), moment(item.modified)] for item in garbage.orphans]
    listing = table(["What", "Where", "Files", "Size", "Last written"], rows, numeric=(2, 3)) if rows else None
    notes = [tag("div", note, class_="lm-note") for note in _garbage_notes(garbage)]
    return fragment(tag("div", _garbage_title(garbage), class_="lm-title"), listing, *notes)


def _garbage_title(garbage: Garbage) -> str:
    if not garbage.orphans:
        return "Nothing is left behind"
    counts = Counter(orphan.kind for orphan in garbage.orphans)
    kinds = joined([f"{number:,} × {kind}" for kind, number in counts.items()])
    verb = "Removed" if garbage.collected else "Orphaned"
    return f"{verb}: {kinds}, {size(garbage.n_bytes)}"


def _garbage_notes(garbage: Garbage) -> list[str]:
    notes = []
    if garbage.n_younger:
        hours = garbage.older_than.total_seconds() / 3600
        notes.append(f"left alone: {garbage.n_younger:,} younger than {hours:g} hours, which may be in use")
    if garbage.orphans and not garbage.collected:
        notes.append("nothing was removed; lumigator-nb gc or ws.gc() removes it")
    return [*notes, *garbage.problems]


@render.as_text.register
def _inspection_text(inspection: Inspection) -> str:
    """Return the faults, each with its remedy."""
    lines = [_inspection_title(inspection)]
    for fault in inspection.faults:
        lines += [f"  {fault.where}: {one_line(fault.what)}", f"      {one_line(fault.remedy)}"]
    return "\n".join(lines)


@render.as_html.register
def _inspection_html(inspection: Inspection) -> str:
    """Return the faults as a table."""
    rows = [[clipped(fault.where), clipped(fault.what), clipped(fault.remedy)] for fault in inspection.faults]
    title = chip(_inspection_title(inspection), "bad" if rows else "good")
    return fragment(tag("div", title, class_="lm-title"), table(["Where", "What", "Remedy"], rows) if rows else None)


def _inspection_title(inspection: Inspection) -> str:
    checked = joined([count(number, kind) for kind, number in inspection.looked_at.items()])
    faults = count(len(inspection.faults), "fault") if inspection.faults else "no fault"
    return f"{faults} in {checked}"
