"""What goes, what nobody needs, what is not in order, and what the cache holds: for a terminal and a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lumigator_nb.display.html import card, chip, clipped, fragment, name, table, tag
from lumigator_nb.display.text import MISSING, count, joined, moment, one_line, size

if TYPE_CHECKING:
    from lumigator_nb.services.answer_cache import CacheSize, Trimmed
    from lumigator_nb.services.deletion import Deletion
    from lumigator_nb.services.upkeep.garbage import Garbage
    from lumigator_nb.services.upkeep.inspection import Inspection
    from lumigator_nb.specs import Status

_MOST_NAMES = 12
_KEPT_HINT = "ws.cache.size() shows them, ws.cache.clear('model') removes them"


def deletion_text(deletion: Deletion) -> str:
    """Return a deletion, or its preview, as aligned lines."""
    return _lines(_deletion_title(deletion), _deletion_facts(deletion))


def deletion_html(deletion: Deletion) -> str:
    """Return a deletion, or its preview, as a card."""
    return fragment(card(_deletion_title(deletion), _deletion_facts(deletion)))


def _deletion_title(deletion: Deletion) -> str:
    return "Deleted" if deletion.done else "Would be deleted (nothing was)"


def _deletion_facts(deletion: Deletion) -> list[tuple[str, str]]:
    facts = [
        ("Datasets", _names(deletion.datasets)),
        ("Experiments", _names(deletion.experiments)),
        ("Jobs", _names(deletion.jobs)),
        ("Workflows", _by_status(deletion.workflows)),
        ("Labels", f"{deletion.labels:,} by people" if deletion.labels else ""),
        ("Files", f"{count(deletion.n_files, 'file')}, {size(deletion.n_bytes)}"),
        ("Kept", f"answers of {_names(deletion.keeps)}, for other experiments: {_KEPT_HINT}" if deletion.keeps else ""),
        *(("Problem", problem) for problem in deletion.problems),
    ]
    return [(label, text) for label, text in facts if text]


def garbage_text(garbage: Garbage) -> str:
    """Return what belongs to nobody as aligned lines."""
    rows = [(each.kind, each.name, count(each.n_files, "file"), size(each.n_bytes)) for each in garbage.orphans]
    return "\n".join([_garbage_title(garbage), *_columns(rows), *(f"  {note}" for note in _garbage_notes(garbage))])


def garbage_html(garbage: Garbage) -> str:
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


def inspection_text(inspection: Inspection) -> str:
    """Return what is not in order, each with its remedy."""
    lines = [_inspection_title(inspection)]
    for fault in inspection.faults:
        lines += [f"  {fault.where}: {one_line(fault.what)}", f"      {one_line(fault.remedy)}"]
    return "\n".join(lines)


def inspection_html(inspection: Inspection) -> str:
    """Return what is not in order as a table."""
    rows = [[clipped(each.where), clipped(each.what), clipped(each.remedy)] for each in inspection.faults]
    title = chip(_inspection_title(inspection), "bad" if rows else "good")
    return fragment(tag("div", title, class_="lm-title"), table(["Where", "What", "Remedy"], rows) if rows else None)


def _inspection_title(inspection: Inspection) -> str:
    looked = joined([count(number, kind) for kind, number in inspection.looked_at.items()])
    found = count(len(inspection.faults), "fault") if inspection.faults else "no fault"
    return f"{found} in {looked}"


def cache_text(cache: CacheSize) -> str:
    """Return what the kept answers take as aligned lines."""
    rows = [
        (each.model, count(each.answers, "answer"), size(each.n_bytes), f"used {moment(each.used_at)}")
        for each in cache.folders
    ]
    return "\n".join([_cache_title(cache), *_columns(rows)])


def cache_html(cache: CacheSize) -> str:
    """Return what the kept answers take as a table."""
    rows = [[name(each.model), f"{each.answers:,}", size(each.n_bytes), moment(each.used_at)] for each in cache.folders]
    found = table(["Model", "Answers", "Size", "Last used"], rows, numeric=(1, 2)) if rows else None
    return fragment(tag("div", _cache_title(cache), class_="lm-title"), found)


def _cache_title(cache: CacheSize) -> str:
    limit = f" of {size(cache.limit)}" if cache.limit is not None else ", without limit (LUMIGATOR_CACHE_GB)"
    return f"Kept answers: {count(cache.answers, 'answer')}, {size(cache.n_bytes)}{limit}"


def trimmed_text(trimmed: Trimmed) -> str:
    """Return what was taken out of the cache in a line or two."""
    gone = f" of {_names(trimmed.models)}" if trimmed.models else ""
    line = f"Removed {count(trimmed.n_files, 'file')} of kept answers{gone}, {size(trimmed.n_bytes)}"
    spared = f"; {size(trimmed.spared)} are in use and stay" if trimmed.spared else ""
    return f"{line}; {size(trimmed.left)} are left{spared}"


def trimmed_html(trimmed: Trimmed) -> str:
    """As :func:`trimmed_text`."""
    return fragment(tag("div", trimmed_text(trimmed)))


def _names(names: Sequence[str]) -> str:
    shown = [one_line(each, 60) for each in names[:_MOST_NAMES]]
    more = [f"{len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
    return joined([*shown, *more])


def _by_status(workflows: Mapping[Status, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in sorted(workflows.items()))


def _lines(title: str, facts: Sequence[tuple[str, str]]) -> str:
    width = max((len(label) for label, _ in facts), default=0)
    return "\n".join([title, *(f"  {label:<{width}}  {one_line(text, 1000)}" for label, text in facts)])


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell or MISSING:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
