"""Where a result comes from, and whether it came out again: as tables and as aligned lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lumigator_nb.display.html import chip, clipped, fragment, table, tag, unfolding
from lumigator_nb.display.text import MISSING, count, joined, one_line

if TYPE_CHECKING:
    from lumigator_nb.services.workflows.provenance import Provenance
    from lumigator_nb.services.workflows.reproduction import Again, Reproduction

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
_VERBATIM = ("lumigator_nb",)
_HASH_LENGTH = 16
_MOST_SAID = 3
_SIGNS = {"equal": "=", "close": "≈", "differs": "→", "missing": "→"}


def as_text(provenance: Provenance) -> str:
    """Return where a result comes from as aligned lines, section by section."""
    lines = [_title(provenance)]
    for heading, facts in _sections(provenance):
        lines.append(f"  {heading}")
        width = max(len(label) for label, _ in facts)
        lines += [f"    {label:<{width}}  {one_line(text)}" for label, text in facts]
    return "\n".join(lines)


def as_html(provenance: Provenance) -> str:
    """Return where a result comes from as tables that unfold."""
    parts = [
        unfolding(
            heading, table(["What", "Value"], [[label, clipped(text)] for label, text in facts]), open_=number < 4
        )
        for number, (heading, facts) in enumerate(_sections(provenance))
    ]
    return fragment(tag("div", _title(provenance), class_="lm-title"), *parts)


def _title(provenance: Provenance) -> str:
    known = provenance.workflow
    return f"Provenance of {one_line(known['label'])} in {one_line(known['experiment'])}"


def _sections(provenance: Provenance) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for name, heading in _SECTIONS.items():
        section = getattr(provenance, name)
        facts = list(_facts({"versions": section} if name in ("versions", "metrics") else section))
        if facts:
            yield heading, facts
    if provenance.earlier:
        yield "Earlier", [(f"attempt {each.get('attempt', '?')}", _launch(each)) for each in provenance.earlier]


def _facts(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        label = before + (name if name in _VERBATIM else name.replace("_", " "))
        if name == "versions":
            yield from ((package, str(number)) for package, number in value.items())
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{label} ")
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
    lines += [f"  {score_text(each)} ({each.verdict})" for each in found.scores]
    lines += [f"  {what}: {before} → {after}" for what, before, after in _change_rows(found)]
    return "\n".join(lines)


def reproduction_html(found: Reproduction) -> str:
    """As :func:`reproduction_text`, with tables."""
    title = chip(_heading(found), "good" if found.reproduced else "bad")
    scores, changed = _score_rows(found), _change_rows(found)
    rows = [
        [str(each.row), clipped(value_text(each.before)), clipped(value_text(each.after))] for each in found.examples
    ]
    return fragment(
        tag("div", title, class_="lm-title"),
        tag("div", found.sentence, class_="lm-verdict"),
        table(["Score", "Before", "Now", ""], scores, numeric=(1, 2)) if scores else None,
        table(["Changed since", "Before", "Now"], changed) if changed else None,
        unfolding(count(len(rows), "answer") + " that differ", table(["Row", "Before", "Now"], rows)) if rows else None,
    )


def score_text(score: Again) -> str:
    """Return a score before and now: "rougeL 0.412 = 0.412"; as many digits as it takes to see a difference."""
    before, after = _figures(score)
    return f"{score.name} {before} {_SIGNS[score.verdict]} {after}"


def _figures(score: Again) -> tuple[str, str]:
    if score.after is None:
        return f"{score.before:.4g}", MISSING
    for digits in range(4, 18):
        texts = f"{score.before:.{digits}g}", f"{score.after:.{digits}g}"
        if score.agrees or texts[0] != texts[1]:
            break
    return texts


def sentence(found: Reproduction) -> str:
    """Return in words whether predictions and scores are the same, and where they are not, what may be the reason."""
    differing = found.n - found.identical
    same = f"the predictions of {found.identical:,} of {count(found.n, 'example')} are identical"
    said = [f"{differing:,} of {found.n:,} predictions differ" if differing else same]
    notable = [score for score in found.scores if not score.agrees] or found.scores[:1]
    said += [score_text(score) for score in notable[:_MOST_SAID]]
    return "; ".join([*said, *([] if found.reproduced else _reasons(found))])


def _reasons(found: Reproduction) -> Iterator[str]:
    if found.changes:
        told = [f"{each.what} went from {_short(each.before)} to {_short(each.after)}" for each in found.changes]
        more = [f"{len(told) - _MOST_SAID} more changed"] if len(told) > _MOST_SAID else []
        yield f"since then {joined([*told[:_MOST_SAID], *more])}"
    if found.identical == found.n:
        return
    if found.temperature > 0:
        yield f"temperature is {found.temperature:g}: sampled answers differ by nature"
    elif not found.changes:
        who = "the service answers in another way" if found.remote else "the model answers in another way each time"
        yield f"nothing that was noted has changed: {who}"


def _short(value: object) -> str:
    return one_line(value_text(value), 60)


def _heading(found: Reproduction) -> str:
    return f"{one_line(found.label)} in {one_line(found.experiment)}: {'reproduced' if found.reproduced else 'differs'}"


def _score_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.name, *_figures(each), each.verdict) for each in found.scores]


def _change_rows(found: Reproduction) -> list[Sequence[str]]:
    return [(each.what, one_line(value_text(each.before)), one_line(value_text(each.after))) for each in found.changes]
