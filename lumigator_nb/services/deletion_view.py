"""Deletions, and what they would delete, for a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lumigator_nb.display.html import card, fragment
from lumigator_nb.display.text import count, listed, one_line, size

if TYPE_CHECKING:
    from lumigator_nb.services.deletion import Deletion
    from lumigator_nb.specs import Status

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
        ("Datasets", listed(deletion.datasets)),
        ("Experiments", listed(deletion.experiments)),
        ("Jobs", listed(deletion.jobs)),
        ("Workflows", _by_status(deletion.workflows)),
        ("Labels", f"{deletion.labels:,} by people" if deletion.labels else ""),
        ("Files", f"{count(deletion.n_files, 'file')}, {size(deletion.n_bytes)}"),
        ("Kept", f"answers of {listed(deletion.keeps)}, for other experiments: {_KEPT_HINT}" if deletion.keeps else ""),
        *(("Problem", problem) for problem in deletion.problems),
    ]
    return [(label, text) for label, text in facts if text]


def _by_status(workflows: Mapping[Status, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in sorted(workflows.items()))


def _lines(title: str, facts: Sequence[tuple[str, str]]) -> str:
    width = max((len(label) for label, _ in facts), default=0)
    return "\n".join([title, *(f"  {label:<{width}}  {one_line(text, 1000)}" for label, text in facts)])
