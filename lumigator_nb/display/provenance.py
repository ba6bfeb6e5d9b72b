"""Where a result comes from, and whether it came out again: as cards and as aligned lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.html import card, chip, clipped, fragment, table, tag, unfolding
from lumigator_nb.display.text import MISSING, count, one_line

if TYPE_CHECKING:
    from lumigator_nb.services.provenance import Provenance
    from lumigator_nb.services.reproduction import Reproduction

_SECTIONS = {
    "launch": "Launched",
    "git": "Git",
    "dataset": "Dataset",
    "asked": "Asked",
    "versions": "Versions",
    "inference": "Inference",
    "evaluation": "Evaluation",
    "metrics": "Metrics",
}
_HASH_LENGTH = 16


def as_text(provenance: Provenance) -> str:
    """Return where a result comes from as aligned lines, section by section."""
    lines = [_title(provenance)]
    for heading, facts in _sections(provenance):
        lines.append(f"  {heading}")
        width = max(len(label) for label, _ in facts)
        lines += [f"    {label:<{width}}  {one_line(text)}" for label, text in facts]
    return "\n".join(lines)


def as_html(provenance: Provenance) -> str:
    """Return where a result comes from as a card."""
    rows = [
        (heading, table(["", ""], [[label, clipped(text)] for label, text in facts]))
        for heading, facts in _sections(provenance)
    ]
    return fragment(card(_title(provenance), rows))


def _title(provenance: Provenance) -> str:
    known = provenance.workflow
    return f"Provenance of {one_line(known['label'])} in {one_line(known['experiment'])}"


def _sections(provenance: Provenance) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for name, heading in _SECTIONS.items():
        facts = list(_facts(getattr(provenance, name)))
        if facts:
            yield heading, facts
    if provenance.earlier:
        yield "Earlier", [(f"attempt {each.get('attempt', '?')}", _launch(each)) for each in provenance.earlier]


def _facts(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        label = f"{prefix}{name}".replace("_", " ") if not prefix else f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _facts(value, f"{label} " if name != "versions" else "")
        else:
            yield label, value_text(value)


def _launch(earlier: Mapping[str, Any]) -> str:
    known = earlier.get("launch", {})
    version = earlier.get("versions", {}).get("lumigator_nb")
    parts = [known.get("when"), known.get("user"), known.get("host"), f"lumigator_nb {version}" if version else None]
    return ", ".join(str(part) for part in parts if part)


def value_text(value: object) -> str:
    """Return a noted value as text; a long hash by its beginning."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    text = str(value)
    is_hash = len(text) in (40, 64) and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:_HASH_LENGTH]}…" if is_hash else text


def reproduction_text(found: Reproduction) -> str:
    """Return whether a result came out again, with scores and what has changed since."""
    lines = [_heading(found), f"  {found.sentence}"]
    lines += [f"  {' '.join(row)}" for row in _score_rows(found)]
    lines += [f"  {what}: {before} -> {after}" for what, before, after in _change_rows(found)]
    return "\n".join(lines)


def reproduction_html(found: Reproduction) -> str:
    """As :func:`reproduction_text`, as a card with tables."""
    title = chip(_heading(found), "good" if found.reproduced else "bad")
    scores, changed = _score_rows(found), _change_rows(found)
    rows = [
        [str(each.row), clipped(value_text(each.before)), clipped(value_text(each.after))] for each in found.examples
    ]
    return fragment(
        tag("div", title, class_="lm-title"),
        tag("div", found.sentence, class_="lm-verdict"),
        table(["Score", "Before", "", "After", ""], scores, numeric=(1, 3)) if scores else None,
        table(["Changed since", "Before", "Now"], changed) if changed else None,
        unfolding(count(len(rows), "answer") + " that differ", table(["Row", "Before", "Now"], rows)) if rows else None,
    )


def _heading(found: Reproduction) -> str:
    return f"{one_line(found.label)} in {one_line(found.experiment)}: {'reproduced' if found.reproduced else 'differs'}"


def _score_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.name, each.texts[0], each.sign, each.texts[1], each.verdict) for each in found.scores]


def _change_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.what, one_line(value_text(each.before)), one_line(value_text(each.after))) for each in found.changes]
