"""Blind labelling in a notebook cell: an example, the answers to it, and buttons with keyboard shortcuts."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets
import pandas as pd

from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, fragment, table, tag
from lumigator_nb.display.text import count
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.metrics.judges.criteria import KNOWN
from lumigator_nb.services.labelling.rows import Kind
from lumigator_nb.services.labelling.session import Given, Item, RatingSession, Session
from lumigator_nb.widgets.kit import CellWidget, with_hint
from lumigator_nb.workspace import Workspace

# A faster answer is a double click or a key held down, since the rater cannot have read the item yet.
QUICKEST_S = 0.3
# Buttons of a rating scale that fit into a row.
_MOST_STEPS = 10
_STYLE = """
.lm .lm-rate { border: 1px solid var(--lm-line); border-radius: 4px; padding: 8px 12px; }
.lm .lm-rate > .lm-text { max-height: 16em; overflow-y: auto; }
.lm .lm-sides { display: grid; grid-auto-columns: minmax(0, 1fr); grid-auto-flow: column; gap: 10px; margin-top: 10px; }
.lm .lm-sides .lm-text { height: 100%; }
"""
_PREFERENCES: dict[str, tuple[Given, str]] = {
    "A is better (a or 1)": ("A", "a1"),
    "B is better (b or 2)": ("B", "b2"),
    "Tie (t or 0)": ("tie", "t0"),
}


def rate(
    ws: Workspace, experiment: Experiment | str, rater: str | None = None, kind: Kind = "preference", **options: Any
) -> Rating:
    """Label models' answers blindly in a notebook cell. Each label is stored at once, and the kernel stays free.

    Running the cell again continues where the rater stopped. To use the keyboard, first click into its box.

    Args:
        ws: workspace.
        experiment: record, name or id.
        rater: name of the person who labels; default asks for it.
        kind: "preference" shows two answers side by side, "rating" one.
        options: of ``ws.labels.compare`` or ``ws.labels.rate``, such as `models`, `sample` or `criterion`.

    Raises:
        InvalidInputError: too few models have succeeded, or an option is out of range.
        NotFoundError: there is no such experiment.

    Examples:
        >>> widget = lm.ui.rate(ws, experiment, "ana", sample=5)
        >>> widget.close()
    """
    begins: dict[str, Callable[..., Session]] = {"preference": ws.labels.compare, "rating": ws.labels.rate}
    if kind not in begins:
        raise InvalidInputError(f"there is no kind of label {kind!r}", f"the kinds are {' and '.join(begins)}")
    record = ws.experiments.get(experiment)
    # Reports a misspelt option now, and not only after the rater has entered a name.
    inspect.signature(begins[kind]).bind(record, rater="", **options)
    call = f"ws.labels.{'compare' if kind == 'preference' else 'rate'}({record.name!r}, rater={rater or 'NAME'!r})"
    return with_hint(Rating(partial(begins[kind], record, **options), record.name, rater, call))


class Rating(CellWidget):
    """The form; made by :func:`rate`.

    Args:
        begin: opens the session of a rater.
        title: name of the experiment.
        rater: name of the rater; None asks for it.
        call: the call that opens the same session without a widget.
    """

    in_dashboard = False

    def __init__(self, begin: Callable[..., Session], title: str, rater: str | None, call: str) -> None:
        super().__init__()
        self._begin, self._title, self._call = begin, title, call
        self._drawn_at = 0.0
        self.session: Session | None = None
        self.head, self.item, self.problem = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        if rater is not None:
            self._start(rater)
            return
        wide = {"description_width": "initial"}
        self.name = ipywidgets.Text(description="Your name:", style=wide, continuous_update=False)
        start = ipywidgets.Button(description="Start", button_style="primary")
        # Enter and leaving the field change the value, which starts too. The button is there to be found.
        self.name.observe(lambda change: self._try(self._start, change["new"]), "value")
        start.on_click(lambda _: self._try(self._start, self.name.value))
        self.children = [ipywidgets.HBox([self.name, start]), self.problem]

    def _start(self, rater: str) -> None:
        if self.session is not None:
            return
        session = self._begin(rater=rater)
        answers = _answers_of(session)
        self.session = session
        self._answer_by_key = {key: answer for answer, keys in answers.values() for key in keys}
        self._buttons = [self._button(label, partial(self._answer, answer)) for label, (answer, _) in answers.items()]
        self._skip_button = self._button("Skip (s)", self._skip)
        self.comment = ipywidgets.Text(
            placeholder="Comment on this item (optional)", layout=ipywidgets.Layout(width="auto", flex="1 1 20em")
        )
        # A text field, because no other widget of ipywidgets receives keys, and because JupyterLab does not handle keys
        # in text fields. Elsewhere "a" adds a cell and "z" undoes a change.
        self.key_field = ipywidgets.Text(
            placeholder="click here to use keys", layout=ipywidgets.Layout(width="13em"), style={"text_color": "#0000"}
        )
        self.key_field.observe(self._typed, "value")
        self.children = [
            self.head,
            self.item,
            ipywidgets.HBox(self._buttons, layout=ipywidgets.Layout(flex_flow="row wrap")),
            ipywidgets.HBox(
                [self._button("Back (z)", self._back), self._skip_button, self.key_field, self.comment],
                layout=ipywidgets.Layout(flex_flow="row wrap"),
            ),
            self.problem,
        ]
        self._draw()

    def _button(self, label: str, act: Callable[[], None]) -> ipywidgets.Button:
        def pressed(_: object) -> None:
            self._try(act)
            # The button has the focus now, and the notebook would receive the next key.
            self.key_field.focus()

        button = ipywidgets.Button(description=label, layout=ipywidgets.Layout(width="auto", min_width="4em"))
        button.on_click(pressed)
        return button

    def _typed(self, change: dict[str, str]) -> None:
        # To empty the field after each key would race with the next one, so the new key is what follows the old text.
        # Of several new keys only the first was meant for the item on display.
        old, new = change["old"], change["new"]
        key = new[len(old) :][:1].lower() if new.startswith(old) else ""
        acts: dict[str, Callable[[], None]] = {"s": self._skip, "z": self._back}
        if key in self._answer_by_key:
            self._try(self._answer, self._answer_by_key[key])
        elif key in acts:
            self._try(acts[key])

    def _answer(self, answer: Given) -> None:
        if self.session is None or self.session.done or time.monotonic() - self._drawn_at < QUICKEST_S:
            return
        self.session.answer(answer, comment=self.comment.value or None)
        self._draw()

    def _skip(self) -> None:
        if self.session is not None and time.monotonic() - self._drawn_at >= QUICKEST_S:
            self.session.skip()
            self._draw()

    def _back(self) -> None:
        if self.session is not None:
            self.session.back()
            self._draw()

    def _try(self, act: Callable[..., None], *arguments: Any) -> None:
        self.problem.value = ""
        try:
            act(*arguments)
        except LumigatorError as error:
            self.problem.value = fragment(tag("div", str(error), class_="lm-error lm-text"))

    def _draw(self) -> None:
        if self.session is None:
            return
        item = self.session.current
        self.comment.value = (item.comment or "") if item else ""
        self._drawn_at = time.monotonic()
        labelled, total = self.session.progress
        place = f"{item.number} of {total}" if item else f"{labelled} of {total} labelled"
        criterion = self.session.criterion
        if criterion in KNOWN:
            criterion = f"{criterion.capitalize()}. {KNOWN[criterion].description}"
        below = tag("div", criterion, class_="lm-note") if item else None
        self.head.value = fragment(tag("div", f"{self._title}: {place}", class_="lm-title"), below)
        self.item.value = _item(item) if item else _summary(self.session)
        for widget in (*self._buttons, self._skip_button, self.comment):
            widget.disabled = item is None

    def __repr__(self) -> str:
        # ipywidgets' own lists every widget inside.
        if self.session is None:
            return f"Rating({self._title!r})"
        labelled, total = self.session.progress
        return f"Rating({self._title!r}, {labelled} of {total} labelled)"

    @property
    def otherwise(self) -> str:
        return f"call {self._call}, whose answer() takes one label after the other"

    def static(self) -> Html:
        labelled = "" if self.session is None else ": {} of {} labelled".format(*self.session.progress)
        return tag("div", f"Labels of {self._title}{labelled}", class_="lm-title")


def _answers_of(session: Session) -> dict[str, tuple[Given, str]]:
    """Return the answer and the keys of each button, by its label."""
    if not isinstance(session, RatingSession):
        return _PREFERENCES
    low, high = session.scale
    if not (low.is_integer() and high.is_integer() and high - low <= _MOST_STEPS):
        raise InvalidInputError(
            f"the scale from {low:g} to {high:g} needs too many buttons",
            f"use a scale of whole numbers with at most {_MOST_STEPS} steps, such as (1, 5)",
        )
    steps = range(int(low), int(high) + 1)
    return {str(step): (float(step), str(step) if 0 <= step <= 9 else "") for step in steps}


def _item(item: Item) -> str:
    sides = [_text(name, text) for name, text in item.answers.items()]
    label = f"{item.given:g}" if isinstance(item.given, float) else item.given
    return fragment(
        Html(f"<style>{_STYLE}</style>"),
        _text("Example", item.example),
        None if item.ground_truth is None else _text("Ground truth", item.ground_truth),
        tag("div", *sides, class_="lm-sides"),
        None if label is None else tag("div", f"Your label: {label}. A new one replaces it.", class_="lm-note"),
    )


def _text(name: str, text: str) -> Html:
    return tag("div", tag("div", name, class_="lm-soft"), tag("div", text, class_="lm-text"), class_="lm-rate")


def _summary(session: Session) -> str:
    """Return the results, which name the models behind the answers."""
    summary = session.summary()
    names = {"model": "Model", "other": "Against", "identical": "Same answers"}
    headers = [names.get(column, column.capitalize()) for column in summary.columns]
    texts = {"model", "other"}
    rows = []
    for record in summary.astype(object).to_numpy().tolist():
        cells = [("–" if pd.isna(cell) else f"{cell:.3g}") if isinstance(cell, float) else str(cell) for cell in record]
        rows.append(cells)
    numeric = [place for place, column in enumerate(summary.columns) if column not in texts]
    labelled, total = session.progress
    left = f" {count(total - labelled, 'item')} skipped. Run the cell again to see them." if labelled < total else ""
    return fragment(tag("div", f"Thank you, {session.rater}!{left}"), table(headers, rows, numeric=numeric))
