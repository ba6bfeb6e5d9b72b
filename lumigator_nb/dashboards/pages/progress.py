"""Live progress on a page: overall figures, one block with a button per model, and buttons for all models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.kit import html, show
from lumigator_nb.dashboards.pages.dialogs import dialog, text_button
from lumigator_nb.dashboards.shell import Context, in_words
from lumigator_nb.database.records import Experiment
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import tag
from lumigator_nb.presentation.markup import pager
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
from lumigator_nb.presentation.routes import Route

PER_PAGE = 20
_ICONS: dict[Act, str] = {"stop": "stop", "resume": "play_arrow", "retry": "replay", "score": "calculate"}
_ROW = {
    "border-top": "1px solid color-mix(in srgb, var(--panel-on-background-color) 16%, transparent)",
    "align-items": "center",
}
_BLOCK = ":host { flex: 1 1 280px; min-width: 0; } .lm .lm-model { border-top: 0; }"


class ActButton:
    """The button beside a model: stop, resume, retry or score, whichever is possible now.

    Args:
        pressed: called with the model.
    """

    def __init__(self, pressed: Callable[[ModelProgress], None]) -> None:
        self.model: ModelProgress | None = None
        self.widget = pmui.Button(label="", variant="outlined", size="small", visible=False, margin=(4, 0))
        self.widget.on_click(lambda _: None if self.model is None else pressed(self.model))

    def show(self, model: ModelProgress, *, busy: bool) -> None:
        """Offer what can be done now."""
        self.model = model
        if model.act is None:
            self.widget.visible = False
            return
        label = markup.doing_words(model.act) if busy else markup.act_words(model.act, [model], alone=True)
        self.widget.param.update(label=label, icon=_ICONS[model.act], disabled=busy, visible=True)


class BudgetDialog:
    """Asks for a new budget for models that were stopped because they had used up theirs."""

    def __init__(self) -> None:
        self._then: Callable[[float | None], None] = lambda _: None
        self._text = html()
        self.field = pmui.FloatInput(
            label="New budget in dollars, for each model", start=0, step=0.1, width=300, margin=(8, 0)
        )
        self.resume = pmui.Button(label="Resume", variant="contained", margin=0, on_click=lambda _: self._resume())
        buttons = [text_button("Cancel", self.close), self.resume]
        self.dialog = dialog("Raise the budget?", self._text, self.field, buttons=buttons)

    def ask(self, models: Sequence[ModelProgress], then: Callable[[float | None], None]) -> None:
        """Ask for a budget, and call `then` with it."""
        spent = max(model.budget or 0.0 for model in models)
        self._then = then
        stopped = "1 model was stopped" if len(models) == 1 else f"{len(models):,} models were stopped"
        show(self._text, tag("p", f"{stopped} because the budget of {dollars(spent)} was used up."))
        self.field.value = round(2 * spent, 4)
        self.dialog.open = True

    def close(self) -> None:
        """Close the dialog; the models stay stopped."""
        self.dialog.open = False

    def _resume(self) -> None:
        self.close()
        self._then(self.field.value)


class ProgressPanel:
    """The live progress of an experiment's models.

    Args:
        context: of the browser session.
        experiment: record.
        route: of the page; `page` in its query says which models are shown.
        drawn: called with the new view after each change.
    """

    def __init__(
        self, context: Context, experiment: Experiment, route: Route, drawn: Callable[[ProgressView], None]
    ) -> None:
        self._context, self._experiment, self._route, self._drawn = context, experiment, route, drawn
        self._reading = self._due = False
        self._busy: set[str] = set()
        self._rows: dict[str, _Row] = {}
        self._summary, self._pager, self._list = html(), html(), pn.Column(sizing_mode="stretch_width", margin=0)
        self.buttons = {
            act: pmui.Button(
                label="", icon=_ICONS[act], variant="outlined", size="small", visible=False, margin=0,
                on_click=lambda _, act=act: self._ask(act, self.view.able(act)),
            )
            for act in ACTS
        }  # fmt: skip
        self._budget = BudgetDialog()
        self.view: ProgressView = self._read(None)
        self.layout = pn.Column(
            self._summary,
            pn.FlexBox(*self.buttons.values(), gap="8px", margin=(0, 0, 16, 0)),
            self._list,
            self._pager,
            self._budget.dialog,
            sizing_mode="stretch_width",
            margin=0,
        )
        self._draw(self.view)
        self.update()

    def turn_to(self, route: Route) -> None:
        """Show another page of models."""
        self._route = route
        self._draw(self.view)
        self.update()

    def update(self) -> None:
        """Read the progress in a thread, and draw what differs."""
        # One read at a time. A change during a read starts one more after it.
        self._due = True
        if self._reading:
            return
        self._reading, self._due = True, False
        before, visible = self.view, [model.workflow.id for model in self._visible(self.view)]

        def arrived(view: ProgressView) -> None:
            self._reading = False
            self._draw(view)
            if self._due:
                self.update()

        def failed(_: Exception) -> None:
            # The banner of the shell reports the error; the next change reads again.
            self._reading = False

        self._context.background(lambda: self._read(before, visible), arrived, failed)

    def _read(self, before: ProgressView | None, visible: Sequence[str] = ()) -> ProgressView:
        rows = self._context.watcher.progress
        view = progress_view(self._context.ws, self._experiment, before=before, rows=rows)
        return detailed(self._context.ws, view, visible) if visible else view

    def _visible(self, view: ProgressView) -> Sequence[ModelProgress]:
        first = (self._page(view) - 1) * PER_PAGE
        return view.models[first : first + PER_PAGE]

    def _page(self, view: ProgressView) -> int:
        return min(self._route.number("page"), max(1, -(-len(view.models) // PER_PAGE)))

    def _draw(self, view: ProgressView) -> None:
        self.view = view
        show(self._summary, markup.summary(view))
        for act, button in self.buttons.items():
            models = view.able(act)
            label = markup.doing_words(act) if act in self._busy else markup.act_words(act, models)
            button.param.update(label=label, disabled=act in self._busy, visible=bool(models) and len(view.models) > 1)
        visible = self._visible(view)
        for model in visible:
            self._rows.setdefault(model.workflow.id, _Row(self._press)).show(model, self._busy)
        layouts = [self._rows[model.workflow.id].layout for model in visible]
        if list(self._list.objects) != layouts:
            self._list[:] = layouts
        long = len(view.models) > PER_PAGE
        show(self._pager, pager(self._route, self._page(view), PER_PAGE, len(view.models), "model") if long else "")
        self.layout.visible = bool(view.models)
        self._drawn(view)

    def _press(self, model: ModelProgress) -> None:
        if model.act is not None:
            self._ask(model.act, [model])

    def _ask(self, act: Act, models: Sequence[ModelProgress]) -> None:
        if not models:
            return
        out_of_budget = [model for model in models if model.budget is not None]
        if act == "resume" and out_of_budget:
            self._budget.ask(out_of_budget, lambda budget: self._start(act, models, budget))
        else:
            self._start(act, models)

    def _start(self, act: Act, models: Sequence[ModelProgress], budget: float | None = None) -> None:
        busy = {model.workflow.id for model in models} | ({act} if len(models) > 1 else set())
        self._busy |= busy
        self._draw(self.view)

        def ended(message: str, kind: str) -> None:
            self._busy -= busy
            self._context.notify(message, kind)
            self._draw(self.view)
            self.update()

        self._context.background(
            partial(perform_all, self._context.ws, act, models, budget),
            lambda _: ended(markup.done_words(act, len(models)), "success"),
            lambda error: ended(in_words(error), "error"),
        )


class _Row:
    def __init__(self, pressed: Callable[[ModelProgress], None]) -> None:
        self._block, self._act = html(stylesheets=[_BLOCK]), ActButton(pressed)
        self.layout = pn.FlexBox(
            self._block, self._act.widget, gap="0 16px", styles=_ROW, sizing_mode="stretch_width", margin=0
        )

    def show(self, model: ModelProgress, busy: set[str]) -> None:
        show(self._block, markup.model_block(model, Route(("workflows", model.workflow.id))))
        self._act.show(model, busy=model.workflow.id in busy)
