"""Blind labelling in a notebook cell: an example, the answers to it, and buttons that keys press, too."""

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
from lumigator_nb.workspace import Workspace

# An answer that comes sooner is a double click or a key held down: nobody has read the item yet.
QUICKEST_S = 0.3
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
    """Label models' answers blindly, in a notebook cell; each answer is stored at once, and the kernel stays free.

    Running the cell again goes on where the rater stopped. To use the keys, click into the box for them first.

    Args:
        ws: workspace.
        experiment: record, name or id.
        rater: name of the person; asked for where it is left out.
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
        raise InvalidInputError(f"there is no kind of label {kind!r}", f"known: {', '.join(begins)}")
    record = ws.experiments.get(experiment)
    # A misspelt option is told here, and not only when the rater has given a name.
    inspect.signature(begins[kind]).bind(record, rater="", **options)
    return Rating(partial(begins[kind], record, **options), record.name, rater)


class Rating(ipywidgets.VBox):  # type: ignore[misc]
    """The form; made by :func:`rate`.

    Args:
        begin: opens the session of the rater of that name.
        title: the experiment's name.
        rater: None asks for it.
    """

    def __init__(self, begin: Callable[..., Session], title: str, rater: str | None = None) -> None:
        super().__init__()
        self._begin, self._title = begin, title
        self._drawn_at = 0.0
        self.session: Session | None = None
        self.head, self.item, self.problem = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        if rater is not None:
            self._start(rater)
        else:
            self._ask_name()

    def _ask_name(self) -> None:
        wide = {"description_width": "initial"}
        self.name = ipywidgets.Text(description="Your name:", style=wide, continuous_update=False)
        start = ipywidgets.Button(description="Start", button_style="primary")
        # Enter and leaving the field both change the value; the button is for whoever looks for one.
        self.name.observe(lambda change: self._try(self._start, change["new"]), "value")
        start.on_click(lambda _: self._try(self._start, self.name.value))
        self.children = [ipywidgets.HBox([self.name, start]), self.problem]

    def _start(self, rater: str) -> None:
        if self.session is not None:
            return
        session = self._begin(rater=rater)
        self._answers, self.session = _answers_of(session), session
        self._given_by_key = {key: given for given, keys in self._answers.values() for key in keys}
        self._buttons = [_button(name, self._pressed, partial(self._answer, given)) for name, (given, _)
                         in self._answers.items()]  # fmt: skip
        self._back_button = _button("Back (z)", self._pressed, self._back)
        self._skip_button = _button("Skip (s)", self._pressed, self._skip)
        self.comment = ipywidgets.Text(
            placeholder="Comment on this item (optional)", layout=ipywidgets.Layout(width="auto", flex="1 1 20em")
        )
        # A text field, since nothing else that ipywidgets has hears keys, and since JupyterLab, where a bare "a" adds
        # a cell and "z" takes one back, leaves keys in a text field alone.
        self.key_field = ipywidgets.Text(
            placeholder="click here to use keys", layout=ipywidgets.Layout(width="13em"), style={"text_color": "#0000"}
        )
        self.key_field.observe(self._typed, "value")
        self.children = [
            self.head,
            self.item,
            self._row(*self._buttons),
            self._row(self._back_button, self._skip_button, self.key_field, self.comment),
            self.problem,
        ]
        self._draw()

    @staticmethod
    def _row(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
        return ipywidgets.HBox(widgets, layout=ipywidgets.Layout(flex_flow="row wrap"))

    def _typed(self, change: dict[str, str]) -> None:
        # The field is never emptied: that would race with the next key. What was typed is what stands behind the rest;
        # of several keys at once only the first was pressed on what is shown.
        old, new = change["old"], change["new"]
        key = new[len(old) :][:1].lower() if new.startswith(old) else ""
        acts: dict[str, Callable[[], None]] = {"s": self._skip, "z": self._back}
        if key in self._given_by_key:
            self._try(self._answer, self._given_by_key[key])
        elif key in acts:
            self._try(acts[key])

    def _pressed(self, act: Callable[[], None]) -> None:
        self._try(act)
        # Keys would go to the notebook as long as the button has the focus.
        self.key_field.focus()

    def _answer(self, given: Given) -> None:
        if self.session is None or self.session.done or time.monotonic() - self._drawn_at < QUICKEST_S:
            return
        self.session.answer(given, comment=self.comment.value or None)
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
        asked = tag("div", _criterion(self.session.criterion), class_="lm-note") if item else None
        self.head.value = fragment(tag("div", f"{self._title}: {place}", class_="lm-title"), asked)
        self.item.value = _item(item) if item else _thanks(self.session)
        for each in (*self._buttons, self._skip_button, self.comment):
            each.disabled = item is None

    def __repr__(self) -> str:
        # The default lists everything inside.
        if self.session is None:
            return f"Rating({self._title!r})"
        labelled, total = self.session.progress
        return f"Rating({self._title!r}, {labelled} of {total} labelled)"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        note = f"{self!r}: run the cell to label."
        return {**bundle, "text/html": fragment(tag("div", note, class_="lm-note"))}


def _answers_of(session: Session) -> dict[str, tuple[Given, str]]:
    """What each button answers, and by which keys."""
    if not isinstance(session, RatingSession):
        return _PREFERENCES
    low, high = session.scale
    if not (low.is_integer() and high.is_integer() and high - low <= _MOST_STEPS):
        raise InvalidInputError(
            f"there is no room for a button for each number from {low:g} to {high:g}",
            f"take a scale of whole numbers with at most {_MOST_STEPS} steps, such as (1, 5)",
        )
    steps = range(int(low), int(high) + 1)
    return {str(step): (float(step), str(step) if 0 <= step <= 9 else "") for step in steps}


def _button(name: str, pressed: Callable[..., None], act: Callable[[], None]) -> ipywidgets.Button:
    button = ipywidgets.Button(description=name, layout=ipywidgets.Layout(width="auto", min_width="4em"))
    button.on_click(lambda _: pressed(act))
    return button


def _criterion(name: str) -> str:
    known = KNOWN.get(name)
    return f"{name.capitalize()}. {known.description}" if known else name


def _item(item: Item) -> str:
    sides = [_text(name, text) for name, text in item.answers.items()]
    said = f"{item.given:g}" if isinstance(item.given, float) else item.given
    return fragment(
        Html(f"<style>{_STYLE}</style>"),
        _text("Example", item.example),
        None if item.ground_truth is None else _text("Ground truth", item.ground_truth),
        tag("div", *sides, class_="lm-sides"),
        None if said is None else tag("div", f"You said: {said}. Another answer replaces it.", class_="lm-note"),
    )


def _text(name: str, text: str) -> Html:
    return tag("div", tag("div", name, class_="lm-soft"), tag("div", text, class_="lm-text"), class_="lm-rate")


def _thanks(session: Session) -> str:
    """Who was behind the names."""
    summary = session.summary()
    names = {"model": "Model", "other": "Against", "identical": "Same answers"}
    headers = [names.get(column, column.capitalize()) for column in summary.columns]
    texts = {"model", "other"}
    rows = [[_cell(value) for value in row] for row in summary.astype(object).to_numpy().tolist()]
    numeric = [place for place, column in enumerate(summary.columns) if column not in texts]
    labelled, total = session.progress
    left = f" {count(total - labelled, 'item')} skipped: run the cell again to see them." if labelled < total else ""
    return fragment(tag("div", f"Thank you, {session.rater}!{left}"), table(headers, rows, numeric=numeric))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3g}"
    return str(value)
