"""Display the progress of workflows in a notebook, in a terminal, or line by line in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, chip, fragment, join, name, status_chip, tag
from lumigator_nb.display.place import Place, place
from lumigator_nb.display.text import duration, elide, first_line, one_line
from lumigator_nb.specs import Progress, Status, Step, now

if TYPE_CHECKING:
    from rich.table import Table

Show = Callable[[Sequence["ProgressRow"]], None]

LINE_INTERVAL_S = 15.0
STALE = "cluster unreachable, last known"
# After this time without a heartbeat, the display says so. Workers send one every 20 s, and clocks of machines differ.
SILENT_S = 120.0


@dataclass(frozen=True)
class ProgressRow:
    """The progress of one workflow.

    Attributes:
        label: the model's label.
        step: the current step; None before the first and after the last.
        done, total: numbers of examples in this step.
        rate: examples per second; None before the first example.
        seconds_left: estimated time until the end of this step.
        note: the current activity, such as loading the model.
        error: why the workflow failed or stopped.
        skipped: the metrics that could not be computed, with reasons.
        stale: whether the cluster did not answer, so that `status` may be out of date.
        failed: number of the `done` examples that have no answer.
        cost: cost of this attempt in dollars; None if nothing has a price.
        result: interim scores, as text.
        silent: seconds since the worker's last heartbeat; None if it is recent.
    """

    label: str
    status: Status
    step: Step | None = None
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None
    note: str = ""
    error: str | None = None
    stale: bool = False
    failed: int = 0
    cost: float | None = None
    result: str = ""
    silent: float | None = None
    skipped: str = ""

    @classmethod
    def of(
        cls, label: str, status: Status, progress: Progress | None, *, error: str | None = None, stale: bool = False
    ) -> ProgressRow:
        """Make the row of a workflow from the progress of its current step, if there is one."""
        if progress is None:
            return cls(label, status, error=error, stale=stale)
        rate = progress.rate
        silent = (now() - progress.updated_at).total_seconds()
        return cls(
            label=label,
            status=status,
            step=progress.step,
            done=progress.done,
            total=progress.total,
            rate=rate,
            seconds_left=(progress.total - progress.done) / rate if rate else None,
            note=progress.note,
            error=error,
            stale=stale,
            failed=progress.failed,
            cost=progress.cost,
            silent=silent if status is Status.RUNNING and silent > SILENT_S else None,
        )

    @property
    def state(self) -> str:
        """Status and step, as text."""
        # A stopped workflow with a result is one that a race has dropped.
        if self.status is Status.STOPPED and self.result:
            return "dropped"
        return f"{self.status}, {self.step}" if self.step and not self.status.ended else str(self.status)

    @property
    def share(self) -> float:
        """The share of examples that are done, in [0, 1]."""
        if self.status is Status.SUCCEEDED:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def counted(self) -> str:
        """``23/40``, or "" before the first count."""
        return f"{self.done:,}/{self.total:,}" if self.total else ""

    @property
    def speed(self) -> str:
        """The rate as text: examples per second, or seconds per example if it is slow."""
        if not self.rate or self.status.ended:
            return ""
        if self.rate >= 100:
            return f"{self.rate:,.0f} examples/s"
        return f"{self.rate:.3g} examples/s" if self.rate >= 1 else f"{1 / self.rate:.3g} s/example"

    @property
    def left(self) -> str:
        """The time left, as text."""
        return "" if self.seconds_left is None or self.status.ended else f"{duration(self.seconds_left)} left"

    @property
    def remarks(self) -> list[str]:
        """Further facts as texts: scores, staleness, silence, note, failures, cost, error, skipped metrics."""
        note = "" if self.status.ended else one_line(self.note)
        failed = f"{self.failed:,} failed" if self.failed else ""
        spent = "" if self.cost is None or self.status.ended else f"{dollars(self.cost)} so far"
        silent = f"no sign of life for {duration(self.silent)}" if self.silent else ""
        error = first_line(self.error or "")
        stale = STALE if self.stale else ""
        texts = (self.result, stale, silent, note, failed, spent, error, one_line(self.skipped))
        return [text for text in texts if text]


def as_text(rows: Sequence[ProgressRow]) -> str:
    """Return a line per workflow."""
    return "\n".join(_line(row) for row in rows)


def as_html(rows: Sequence[ProgressRow]) -> str:
    """Return a table with a bar per workflow."""
    return fragment(
        tag(
            "div",
            tag("table", tag("tbody", *(_html_row(row) for row in rows)), class_="lm-grid lm-progress"),
            class_="lm-scroll",
        )
    )


def _html_row(row: ProgressRow) -> Html:
    filled = tag("div", class_="lm-full" if row.share == 1 else None, style=f"width:{row.share:.1%}")
    bar = tag("span", filled, class_="lm-bar", role="progressbar", aria_valuenow=round(100 * row.share))
    cells = (
        tag("td", name(row.label)),
        tag("td", chip(row.state) if row.state == "dropped" else status_chip(row.status, row.state)),
        tag("td", bar),
        tag("td", row.counted, class_="lm-n"),
        tag("td", row.speed, class_="lm-n"),
        tag("td", row.left, class_="lm-n"),
    )
    kind = "lm-error" if row.error and not row.stale else "lm-soft"
    below = tag("tr", tag("td", " · ".join(row.remarks), colspan=len(cells), class_=kind), class_="lm-under")
    return join([tag("tr", *cells), below if row.remarks else Html("")])


def _line(row: ProgressRow) -> str:
    facts = [f"{row.state} {row.counted}".strip(), row.speed, row.left, *row.remarks]
    return f"{one_line(row.label)}: {', '.join(fact for fact in facts if fact)}"


@contextmanager
def live_progress(enabled: bool = True) -> Iterator[Show]:
    """Yield a function that displays rows, replacing the rows of the previous call.

    A notebook shows an output that is updated, and a terminal a table with bars, on stderr. Elsewhere (a pipe, a log),
    stderr gets a line for each workflow when its status changes, and otherwise at most every 15 s.

    Args:
        enabled: False displays nothing.
    """
    if not enabled:
        yield lambda rows: None
    elif place() is Place.MARIMO:
        yield _MarimoView()
    elif place().has_cells:
        yield _NotebookView()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console
        from rich.live import Live

        # Without auto_refresh, which would redraw from another thread although nothing has changed.
        with Live(console=Console(stderr=True), auto_refresh=False) as live:
            yield lambda rows: live.update(_rich_table(rows), refresh=True)
    else:
        yield _LineView(sys.stderr)


def say(line: str) -> None:
    """Print a message for the user. Programs print it on stderr, as another program may read their stdout."""
    print(line, file=sys.stdout if place().has_cells else sys.stderr, flush=True)


class _NotebookView:
    """Updates a single output of the cell, and only if it has changed, so that saved notebooks stay small."""

    def __init__(self) -> None:
        self._shown = ""
        self._handle: Any = None

    def __call__(self, rows: Sequence[ProgressRow]) -> None:
        from IPython.display import display

        html = as_html(rows)
        if html == self._shown:
            return
        self._shown = html
        bundle = {"text/html": html, "text/plain": as_text(rows)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class _MarimoView:
    """Replaces the output of the running cell, which ends with the value of the cell's last line."""

    def __init__(self) -> None:
        self._shown = ""

    def __call__(self, rows: Sequence[ProgressRow]) -> None:
        marimo = import_module("marimo")
        html = as_html(rows)
        if html != self._shown:
            self._shown = html
            marimo.output.replace(marimo.Html(html))


def _rich_table(rows: Sequence[ProgressRow]) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True)
    for row in rows:
        bar = ProgressBar(total=1.0, completed=row.share, width=20)
        pace = ", ".join(part for part in (row.speed, row.left) if part)
        texts = (row.counted, pace, " · ".join(row.remarks))
        table.add_row(Text(elide(row.label, 32)), Text(row.state), bar, *(Text(text) for text in texts))
    return table


class _LineView:
    """Writes lines to a log, only as many as one can read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[tuple[int, str], tuple[ProgressRow, float]] = {}

    def __call__(self, rows: Sequence[ProgressRow]) -> None:
        for index, row in enumerate(rows):
            # Labels alone need not be unique.
            key = index, row.label
            last, written_at = self._last.get(key, (None, 0.0))
            is_new = last is None or (row.status, row.stale) != (last.status, last.stale)
            if is_new or (row != last and time.monotonic() - written_at >= LINE_INTERVAL_S):
                self._last[key] = row, time.monotonic()
                self._stream.write(_line(row) + "\n")
        self._stream.flush()
