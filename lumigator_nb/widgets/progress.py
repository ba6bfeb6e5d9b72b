"""A live progress display with buttons to stop, resume and retry; the kernel stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets

from lumigator_nb.display.html import Html, tag
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.markup import style
from lumigator_nb.presentation.progress import markup as shown
from lumigator_nb.presentation.progress.view import (
    ACTS,
    Act,
    ModelProgress,
    ProgressView,
    detailed,
    perform_all,
    progress_view,
)
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.services.workflows.workflows import Target
from lumigator_nb.workspace import Workspace

MOST_AT_ONCE = 25
_ICONS: dict[Act, str] = {"stop": "stop", "resume": "play", "retry": "repeat", "score": "calculator"}


def progress(ws: Workspace, target: Target) -> Progress:
    """Show how far workflows are, live, with buttons to stop, resume and retry them.

    The work does not depend on it: a closed tab or a restarted kernel ends only the display, and running the cell
    again shows how things stand. It rests when all have ended.

    Args:
        ws: workspace.
        target: experiment, workflow or workflows.

    Raises:
        NotFoundError: there is no such experiment or workflow.

    Examples:
        >>> widget = lm.ui.progress(ws, experiment)
        >>> widget.close()
    """
    return Progress(ws, target)


class Progress(ipywidgets.VBox):  # type: ignore[misc]
    """The display; made by :func:`progress`.

    Attributes:
        view: what is shown.
        rows: one per model, in the order of their launch.
        buttons: what can be done with all models.
    """

    def __init__(self, ws: Workspace, target: Target) -> None:
        super().__init__()
        self._ws, self._target = ws, target
        self._drawing, self._due, self._most = threading.Lock(), threading.Event(), MOST_AT_ONCE
        self._unsubscribe: Callable[[], None] | None = None
        self._busy: set[str] = set()
        self.view = progress_view(ws, target)
        self.head, self.problem, self.message, self.foot = (ipywidgets.HTML() for _ in range(4))
        self.buttons = {act: _button() for act in ACTS}
        for act, button in self.buttons.items():
            button.on_click(lambda _, act=act: self._start(act, self.view.able(act), button=self.buttons[act]))
        self.more = _button()
        self.more.on_click(lambda _: self._show_more())
        self.rows: dict[str, _Row] = {}
        self._list = ipywidgets.VBox()
        self.children = [
            self.head, self.problem, _line(*self.buttons.values()), self.message, self._list, self.more, self.foot,
        ]  # fmt: skip
        self._draw(self.view)
        self._changed()
        if not self.view.ended:
            self._follow()

    def _follow(self) -> None:
        if self._unsubscribe is None:
            self._unsubscribe = watcher_of(self._ws).subscribe(self._changed)

    def _rest(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def close(self) -> None:
        """Take the display away; the work goes on."""
        self._rest()
        super().close()

    def _changed(self) -> None:
        """Draw anew in a thread: the watcher waits for nobody. Changes while that goes on are drawn after it."""
        self._due.set()
        if not self._drawing.locked():
            threading.Thread(target=self._redraw, name="lumigator-progress", daemon=True).start()

    def _redraw(self) -> None:
        while self._due.is_set() and self._drawing.acquire(blocking=False):
            try:
                self._due.clear()
                self._draw(self._read())
                self._problem("")
            except LumigatorError as error:
                self._problem(str(error))  # a service that does not answer now may answer the next time
            finally:
                self._drawing.release()
        if self.view.ended and not self._busy:
            self._rest()

    def _read(self) -> ProgressView:
        view = progress_view(self._ws, self._target, before=self.view)
        return detailed(self._ws, view, [model.workflow.id for model in view.models[: self._most]])

    def _draw(self, view: ProgressView) -> None:
        self.view = view
        # Sent once for all: the parts are no pages of their own.
        sheet = Html(f"<style>{style()}</style>")
        problem = watcher_of(self._ws).problem
        warning = tag("div", problem, class_="lm-banner", role="alert") if problem else None
        _put(self.head, tag("div", sheet, shown.heading(view), warning, shown.summary(view), class_="lm"))
        for act, button in self.buttons.items():
            able = view.able(act)
            button.layout.display = "" if len(view.models) > 1 and able else "none"
            if act not in self._busy:
                _label(button, shown.act_words(act, able), _ICONS[act])
        self._draw_rows(view)
        _put(self.foot, tag("div", _next(view), class_="lm"))

    def _draw_rows(self, view: ProgressView) -> None:
        visible = view.models[: self._most]
        for model in visible:
            key = model.workflow.id
            if key not in self.rows:
                self.rows[key] = _Row(self._pressed)
            self.rows[key].show(model, busy=key in self._busy)
        children = tuple(self.rows[model.workflow.id] for model in visible)
        if self._list.children != children:
            self._list.children = children
        hidden = len(view.models) - len(visible)
        self.more.layout.display = "" if hidden else "none"
        _label(self.more, f"Show {min(hidden, MOST_AT_ONCE)} more of {hidden}", "chevron-down")

    def _show_more(self) -> None:
        self._most += MOST_AT_ONCE
        self._draw(self.view)
        self._changed()

    def _pressed(self, model: ModelProgress, budget: float | None) -> None:
        if model.act is not None:
            self._start(model.act, [model], budget)

    def _start(
        self,
        act: Act,
        models: list[ModelProgress],
        budget: float | None = None,
        button: ipywidgets.Button | None = None,
    ) -> None:
        keys = {model.workflow.id for model in models}
        if not models or keys & self._busy:
            return
        self._busy |= {*keys, act} if button else keys
        self._say("")
        if button is not None:
            _label(button, shown.doing_words(act), _ICONS[act], disabled=True)
        self._draw_rows(self.view)
        threading.Thread(target=partial(self._act, act, models, budget, button), daemon=True).start()

    def _act(
        self, act: Act, models: list[ModelProgress], budget: float | None, button: ipywidgets.Button | None
    ) -> None:
        self._follow()
        try:
            perform_all(self._ws, act, models, budget)
            said = shown.done_words(act, len(models))
        except LumigatorError as error:
            said = str(error)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        self._busy -= {*(model.workflow.id for model in models), *([act] if button else [])}
        self._say(said)
        self._changed()

    def _say(self, text: str) -> None:
        _put(self.message, tag("div", tag("div", text, class_="lm-note lm-text", role="status"), class_="lm"))

    def _problem(self, text: str) -> None:
        """What keeps the display from being read; it goes away by itself."""
        warning = tag("div", text, class_="lm-banner", role="alert") if text else Html("")
        _put(self.problem, tag("div", warning, class_="lm"))

    def __repr__(self) -> str:
        # The default lists everything inside.
        states = ", ".join(f"{number} {shown.word(status)}" for status, number in self.view.counts.items())
        return f"Progress({self.view.title!r}: {states or 'nothing launched'})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        note = tag("div", "As it was when the cell ran; run it again to see how it stands.", class_="lm-note")
        body = tag("div", Html(f"<style>{style()}</style>"), shown.static(self.view), note, class_="lm")
        return {**bundle, "text/html": str(body), "text/plain": repr(self)}


class _Row(ipywidgets.HBox):  # type: ignore[misc]
    """One model: how far it is, and the button beside it.

    Args:
        pressed: called with the model, and with the budget where one is asked for.
    """

    def __init__(self, pressed: Callable[[ModelProgress, float | None], None]) -> None:
        self.block = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 20em", min_width="0"))
        self.button = _button()
        self.budget = ipywidgets.FloatText(
            description="Budget $", style={"description_width": "initial"}, layout=ipywidgets.Layout(width="10em")
        )
        self.model: ModelProgress | None = None
        self.button.on_click(lambda _: self._press(pressed))
        super().__init__(
            [self.block, self.budget, self.button],
            layout=ipywidgets.Layout(
                flex_flow="row wrap", align_items="center", width="100%", border_top="1px solid var(--jp-border-color2)"
            ),
        )

    def show(self, model: ModelProgress, *, busy: bool) -> None:
        """Draw the model, where it differs from what is shown."""
        asked_before = self.model.budget if self.model else None
        if model.budget is not None and model.budget != asked_before:
            self.budget.value = 2 * model.budget
        self.model = model
        _put(self.block, tag("div", shown.model_block(model), class_="lm lm-bare"))
        self.budget.layout.display = "none" if model.budget is None else ""
        self.button.layout.display = "none" if model.act is None else ""
        if model.act is not None:
            words = shown.doing_words(model.act) if busy else shown.act_words(model.act, [model], alone=True)
            _label(self.button, words, _ICONS[model.act], disabled=busy)
            self.button.tooltip = f"{words}: {model.workflow.label}"

    def _press(self, pressed: Callable[[ModelProgress, float | None], None]) -> None:
        if self.model is not None:
            pressed(self.model, None if self.model.budget is None else self.budget.value)


def _next(view: ProgressView) -> Html:
    """What to do when models have ended."""
    if not view.models:
        code = f"ws.workflows.launch({view.name!r}, models=[…])"
        return tag("div", "No model was launched yet: ", tag("code", code), class_="lm-note")
    if not view.succeeded or view.name is None:
        return Html("")
    # The code, since a page of a notebook cannot link to a cell that is not there yet.
    said = "Compare them: " if view.ended else "Compare those that have succeeded: "
    return tag("div", said, tag("code", f"lm.ui.compare(ws, {view.name!r})"), class_="lm-note")


def _button() -> ipywidgets.Button:
    return ipywidgets.Button(layout=ipywidgets.Layout(width="auto", display="none"))


def _label(button: ipywidgets.Button, text: str, icon: str, *, disabled: bool = False) -> None:
    for name, value in (("description", text), ("icon", icon), ("disabled", disabled)):
        if getattr(button, name) != value:
            setattr(button, name, value)


def _line(*widgets: ipywidgets.Widget) -> ipywidgets.HBox:
    return ipywidgets.HBox(widgets, layout=ipywidgets.Layout(flex_flow="row wrap"))


def _put(view: ipywidgets.HTML, markup: Html) -> None:
    """Send markup where it differs, so that nothing flickers and what a reader has unfolded stays open."""
    if view.value != markup:
        view.value = str(markup)
