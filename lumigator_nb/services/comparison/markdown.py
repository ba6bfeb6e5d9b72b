"""A comparison as Markdown, for a wiki or a pull request."""

from __future__ import annotations

from lumigator_nb.display import render
from lumigator_nb.display.tables import escaped, to_markdown
from lumigator_nb.display.text import count, moment
from lumigator_nb.services.comparison import tables
from lumigator_nb.services.comparison.comparison import Comparison
from lumigator_nb.services.comparison.overview import notes, recommended
from lumigator_nb.specs import now


@render.as_markdown.register
def as_markdown(comparison: Comparison) -> str:
    """Return verdict, recommendation, scores, cost and notes as Markdown."""
    dataset = comparison.dataset
    models, examples = count(len(comparison.models), "model"), count(dataset.n_examples, "example")
    lines = [
        f"# {escaped(comparison.experiment.name)}\n",
        f"{models} on {escaped(dataset.name)} ({examples}), {moment(now())}\n",
        f"**{escaped(comparison.verdict())}**\n",
    ]
    if advice := recommended(comparison):
        lines.append(escaped(advice) + "\n")
    scores = [tables.one_score(comparison, info) for info in tables.ordered_scores(comparison)]
    for table in filter(None, [*scores, tables.uncompared(comparison), tables.costs(comparison)]):
        lines += to_markdown(table)
    lines += [f"- {escaped(note)}" for note in notes(comparison)]
    return "\n".join(lines)
