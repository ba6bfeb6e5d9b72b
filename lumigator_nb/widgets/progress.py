"""Live progress in a notebook cell, with buttons to stop, resume and retry. The kernel stays free."""

from __future__ import annotations

import threading
from collections.abc import Callable

import ipywidgets

from lumigator_nb.display.html import Html, tag
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.markup import style
from lumigator_nb.presentation.progress import markup
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
from lumigator_nb.widgets.kit import CellWidget, with_hint
from lumigator_nb.workspace import Workspace

# Rows of models before "Show more": each is several widgets, which make a browser slow.
MOST_AT_ONCE = 25
_ICONS: dict[Act, str] = {"stop": "stop", "resume": "play", "retry": "repeat", "score": "calculator"}


def progress(ws: Workspace, target: Target) -> Progress:
    """Show the live progress of workflows, with buttons to stop, resume and retry them.

    The workflows do not depend on it: a closed tab or a restarted kernel ends only the display, and running the cell
    again shows the current state. It stops updating when all workflows have ended.

    Args:
        ws: workspace.
        target: experiment, workflow or workflows.

    Raises:
        NotFoundError: there is no such experiment or workflow.

    Examples:
        >>> widget = lm.ui.progress(ws, experiment)
        >>> widget.close()
    """
    return with_hint(Progress(ws, target))


class Progress(CellWidget):
    """The display; made by :func:`progress`.

    Attributes:
        view: the progress on display.
        rows: one per model, in the order of their launch.
        buttons: buttons that act on all models.
    """

    def __init__(self, ws: Workspace, target: Target) -> None:
        super().__init__()
        self._ws, self._target = ws, target
        self._drawing, self._due, self._most_rows = threading.Lock(), threading.Event(), MOST_AT_ONCE
        self._following, self._closed = threading.Lock(), False
        self._unsubscribe: Callable[[], None] | None = None
        self._busy: set[str] = set()
        self.view = progress_view(ws, target)
        self.head, self.problem, self.message, self.foot = (ipywidgets.HTML() for _ in range(4))
        self.buttons = {act: _button() for act in ACTS}
        for act, button in self.buttons.items():
            button.on_click(lambda _, act=act: self._start(act, self.view.able(act), button=self.buttons[act]))
        self.more = _button()

        def show_more(_: object) -> None:
            self._most_rows += MOST_AT_ONCE
            self._draw(self.view)
            self._changed()

        self.more.on_click(show_more)
        self.rows: dict[str, _Row] = {}
        self._list = ipywidgets.VBox()
        buttons = ipywidgets.HBox(list(self.buttons.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.children = [
            self.head, self.problem, buttons, self.message, self._list, self.more, self.foot,
        ]  # fmt: skip
        self._draw(self.view)
        self._changed()
        self._follow()

    def _follow(self) -> None:
        """Follow the workflows while something goes on, and no longer.

        Called after each change of what it decides by, and decides under a lock: so the last call has seen the last
        state, whichever thread makes it.
        """
        with self._following:
            wanted = not self._closed and not (self.view.ended and not self._busy)
            if wanted and self._unsubscribe is None:
                self._unsubscribe = watcher_of(self._ws).subscribe(self._changed)
            elif not wanted and self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def close(self) -> None:
        """Remove the display. The workflows go on."""
        self._closed = True
        self._follow()
        super().close()

    def _changed(self) -> None:
        """Read and draw in a thread, since the watcher must not wait. Changes in the meantime are drawn after it."""

        def redraw() -> None:
            while self._due.is_set() and self._drawing.acquire(blocking=False):
                try:
                    self._due.clear()
                    self._draw(self._read())
                    self._show_problem("")
                except LumigatorError as error:
                    # A service that does not answer now may answer after the next change.
                    self._show_problem(str(error))
                finally:
                    self._drawing.release()
            self._follow()

        self._due.set()
        if not self._drawing.locked():
            threading.Thread(target=redraw, name="lumigator-progress", daemon=True).start()

    def _read(self) -> ProgressView:
        view = progress_view(self._ws, self._target, before=self.view)
        return detailed(self._ws, view, [model.workflow.id for model in view.models[: self._most_rows]])

    def _draw(self, view: ProgressView) -> None:
        self.view = view
        # Sent once: it applies to all parts of the widget.
        sheet = Html(f"<style>{style()}</style>")
        problem = watcher_of(self._ws).problem
        warning = tag("div", problem, class_="lm-banner", role="alert") if problem else None
        _put(self.head, tag("div", sheet, markup.heading(view), warning, markup.summary(view), class_="lm"))
        for act, button in self.buttons.items():
            models = view.able(act)
            button.layout.display = "" if len(view.models) > 1 and models else "none"
            if act not in self._busy:
                _label(button, markup.act_words(act, models), _ICONS[act])
        self._draw_rows(view)
        _put(self.foot, tag("div", _next(view), class_="lm"))

    def _draw_rows(self, view: ProgressView) -> None:
        visible = view.models[: self._most_rows]
        for model in visible:
            key = model.workflow.id
            if key not in self.rows:
                self.rows[key] = _Row(self._start)
            self.rows[key].show(model, busy=key in self._busy)
        children = tuple(self.rows[model.workflow.id] for model in visible)
        if self._list.children != children:
            self._list.children = children
        hidden = len(view.models) - len(visible)
        self.more.layout.display = "" if hidden else "none"
        _label(self.more, f"Show {min(hidden, MOST_AT_ONCE)} more of {hidden}", "chevron-down")

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
        busy = {*keys, act} if button else keys

        def run() -> None:
            self._follow()
            try:
                perform_all(self._ws, act, models, budget)
                message = markup.done_words(act, len(models))
            except LumigatorError as error:
                message = str(error)
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
            self._busy -= busy
            self._show_message(message)
            self._changed()

        self._busy |= busy
        self._show_message("")
        if button is not None:
            _label(button, markup.doing_words(act), _ICONS[act], disabled=True)
        self._draw_rows(self.view)
        threading.Thread(target=run, daemon=True).start()

    def _show_message(self, text: str) -> None:
        _put(self.message, tag("div", tag("div", text, class_="lm-note lm-text", role="status"), class_="lm"))

    def _show_problem(self, text: str) -> None:
        """Show why the progress cannot be read now, until it can."""
        warning = tag("div", text, class_="lm-banner", role="alert") if text else Html("")
        _put(self.problem, tag("div", warning, class_="lm"))

    def __repr__(self) -> str:
        # ipywidgets' own lists every widget inside.
        states = ", ".join(f"{number} {markup.word(status)}" for status, number in self.view.counts.items())
        return f"Progress({self.view.title!r}: {states or 'nothing launched'})"

    @property
    def otherwise(self) -> str:
        return f"call ws.wait({self.view.name!r})" if self.view.name else "call ws.wait(workflows)"

    def static(self) -> Html:
        return markup.static(self.view)


class _Row(ipywidgets.HBox):  # type: ignore[misc]
    """The progress of one model, and the button beside it.

    Args:
        pressed: called with the act, the model in a list, and the new budget or None.
    """

    def __init__(self, pressed: Callable[[Act, list[ModelProgress], float | None], None]) -> None:
        self.block = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 20em", min_width="0"))
        self.button = _button()
        self.budget = ipywidgets.FloatText(
            description="Budget $", style={"description_width": "initial"}, layout=ipywidgets.Layout(width="10em")
        )
        self.model: ModelProgress | None = None

        def press(_: object) -> None:
            model = self.model
            if model is not None and model.act is not None:
                pressed(model.act, [model], None if model.budget is None else self.budget.value)

        self.button.on_click(press)
        super().__init__(
            [self.block, self.budget, self.button],
            layout=ipywidgets.Layout(
                flex_flow="row wrap", align_items="center", width="100%", border_top="1px solid var(--jp-border-color2)"
            ),
        )

    def show(self, model: ModelProgress, *, busy: bool) -> None:
        """Draw the model, and send only what differs."""
        budget_before = self.model.budget if self.model else None
        if model.budget is not None and model.budget != budget_before:
            self.budget.value = 2 * model.budget  # a proposal, which the user may change
        self.model = model
        _put(self.block, tag("div", markup.model_block(model), class_="lm lm-bare"))
        self.budget.layout.display = "none" if model.budget is None else ""
        self.button.layout.display = "none" if model.act is None else ""
        if model.act is not None:
            label = markup.doing_words(model.act) if busy else markup.act_words(model.act, [model], alone=True)
            _label(self.button, label, _ICONS[model.act], disabled=busy)
            self.button.tooltip = f"{label}: {model.workflow.label}"


def _next(view: ProgressView) -> Html:
    """Return the next step: to launch models, or to compare those that have succeeded."""
    if not view.models:
        code = f"ws.workflows.launch({view.name!r}, models=[…])"
        return tag("div", "No model launched yet. Launch some: ", tag("code", code), class_="lm-note")
    if not view.succeeded or view.name is None:
        return Html("")
    # Code rather than a link, since the cell to link to does not exist yet.
    text = "Compare them: " if view.ended else "Compare those that have succeeded: "
    return tag("div", text, tag("code", f"lm.ui.compare(ws, {view.name!r})"), class_="lm-note")


def _button() -> ipywidgets.Button:
    return ipywidgets.Button(layout=ipywidgets.Layout(width="auto", display="none"))


def _label(button: ipywidgets.Button, text: str, icon: str, *, disabled: bool = False) -> None:
    for name, value in (("description", text), ("icon", icon), ("disabled", disabled)):
        if getattr(button, name) != value:
            setattr(button, name, value)


def _put(view: ipywidgets.HTML, html: Html) -> None:
    """Send HTML only if it differs, so that nothing flickers and unfolded parts stay open."""
    if view.value != html:
        view.value = str(html)
