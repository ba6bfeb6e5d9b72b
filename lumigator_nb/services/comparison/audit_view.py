"""A ground-truth audit in words and as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lumigator_nb.display.html import fragment, name, table, tag
from lumigator_nb.display.scores import Figures, ranks
from lumigator_nb.display.text import count

if TYPE_CHECKING:
    from lumigator_nb.services.comparison.audit import Audit


def sentence(audit: Audit) -> str:
    """Say whether the winner changes, and how alike the two orders are."""
    score = audit.info.name
    old, new = audit.before.best(score), audit.after.best(score)
    if not audit.winner_changes:
        said = f"{old} leads on {score} by both ground truths."
    elif audit.contradicted:
        said = (
            f"The winner changes: {old} leads on {score} by the ground truth of {audit.author}, {new} by that of "
            f"{audit.other_author}, and by one of the two the other's winner is shown not to be the best. "
            "The choice hangs on who wrote it."
        )
    else:
        said = (
            f"{old} leads on {score} by the ground truth of {audit.author}, {new} by that of {audit.other_author}, but "
            "by neither the other's winner is shown not to be the best."
        )
    correlation = audit.rank_correlation
    value = f"{correlation:.2f}".replace("-", "−")
    alike = "" if math.isnan(correlation) else f" Both orders correlate by {value} (Kendall's tau-b)."
    own = (
        f" {audit.other_author} is judged by what it wrote itself." if audit.other_author in audit.before.models else ""
    )
    return f"{said}{alike}{own}"


def as_text(audit: Audit) -> str:
    """Return the sentence and a line per model."""
    show = Figures(audit.info, [])
    lines = [
        f"  {row['model']}: {show.number(row['overall'])}, rank {ranks(row['rank_low'], row['rank_high'])}; by "
        f"{audit.other_author} {show.number(row['other_overall'])}, rank "
        f"{ranks(row['other_rank_low'], row['other_rank_high'])}"
        for row in audit.summary().to_dict("records")
    ]
    return "\n".join([sentence(audit), *lines])


def as_html(audit: Audit) -> str:
    """Return the sentence and a table."""
    show = Figures(audit.info, [])
    rows = [
        [
            name(row["model"]),
            show.number(row["overall"]),
            ranks(row["rank_low"], row["rank_high"]),
            show.number(row["other_overall"]),
            ranks(row["other_rank_low"], row["other_rank_high"]),
        ]
        for row in audit.summary().to_dict("records")
    ]
    headers = [
        "Model", f"{audit.info.name} by {audit.author}", "Possible ranks", f"by {audit.other_author}", "Possible ranks"
    ]  # fmt: skip
    note = f"{count(audit.n, 'example')} with both ground truths"
    return fragment(
        tag("div", sentence(audit), class_="lm-verdict"),
        table(headers, rows, numeric=range(1, 5)),
        tag("div", note, class_="lm-note"),
    )
