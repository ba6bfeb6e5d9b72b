"""Launching models: dataset, task, models, metrics, what they would cost, and the button."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.checklist import Item, checklist
from lumigator_nb.dashboards.kit import html, sheet, show
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.launch.checks import LABELS, mend
from lumigator_nb.presentation.launch.checks import in_words as beside
from lumigator_nb.presentation.launch.estimating import Debounced, estimate_html
from lumigator_nb.presentation.launch.form import CRITERIA, LANGUAGES, LaunchForm, facts_html
from lumigator_nb.presentation.launch.metrics import metric_line
from lumigator_nb.presentation.launch.models import Filter, model_line
from lumigator_nb.presentation.markup import button, crumbs, empty, heading, link
from lumigator_nb.presentation.routes import Route

_TASKS = {title: key for key, title in catalogue.TASK_TITLES.items()}
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
_FOLDED: dict[str, Any] = {**_WIDE, "title_variant": "body2", "elevation": 0, "disable_gutters": True}
# What says more than that a number is wrong.
_HELP = {
    "name": "To find it by",
    "prompt": "Empty takes the task's own",
    "sample": "Drawn at random; empty takes all",
    "budget": "A model stops before it would spend more",
    "temperature": "0 takes the likeliest word each time",
    "max_new_tokens": "Longer answers are cut off",
    "seed": "Of the sampling",
    "base_url": "Only for a server of your own",
}
_NO_DATASET = "Models answer the examples of a dataset: upload a file first, such as a CSV with a column of texts."


class LaunchPage(Page):
    """The form; `?dataset=` chooses one, `?experiment=` adds models to one, `?clone=` takes another's settings."""

    title = "New experiment"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.form = _form_of(context, route)
        self.fields: dict[str, Any] = {}
        self._drawing = False
        if not self.form.datasets and self.form.record is None:
            actions = button(Route(("upload",)), "Upload a dataset", primary=True)
            self.layout = html(empty("No dataset yet", _NO_DATASET, actions))
            return
        if self.form.experiment is not None:
            self.title = f"More models for {self.form.experiment.name}"
        self._make()
        self._estimates = Debounced(lambda found: context.later(partial(show, self.estimate, found)))
        context.at_end(lambda: self._estimates.ask(Html))
        self.layout = self._laid_out()
        self._draw()

    # --- Its parts ---

    def _make(self) -> None:
        form = self.form
        self.fields = {
            "dataset": pmui.Select(
                label="Dataset", options=form.datasets, searchable=len(form.datasets) > 8, value=form.dataset or None,
                **_WIDE,
            ),
            "task": pmui.Select(label="Task", options=_TASKS, value=form.task, **_WIDE),
            "prompt": pmui.TextAreaInput(label="Prompt", rows=2, auto_grow=True, max_rows=8, **_WIDE),
            "source": _language("From"),
            "target": _language("To"),
            **{name: pmui.TextInput(label=LABELS[name], **_WIDE) for name in _TEXTS},
        }  # fmt: skip
        for name, widget in self.fields.items():
            widget.helper_text = _HELP.get(name, "")
            self._bind(name, widget)
        self.models, self.metrics = checklist("Models", height="416px"), checklist("Metrics")
        self.metrics.css_classes = ["lm-grid-list"]
        self.models.param.watch(lambda event: self._entered(models=tuple(event.new)), "value")
        self.metrics.param.watch(lambda event: self._entered(metrics=tuple(event.new)), "value")
        self.search = pmui.TextInput(label="Search models", **_WIDE)
        self.search.param.watch(lambda _: self._draw_models(), "value_input")
        self.filters = {
            name: pmui.Select(label=label, options={f"All {name}s": ""}, value="", **_WIDE)
            for name, label in (("provider", "Provider"), ("size", "Size"))
        }
        for select in self.filters.values():
            select.param.watch(lambda _: self._draw_models(), "value")
        self._make_additions()
        self.chosen, self.about, self.estimate, self.problem = (
            html(),
            html(),
            html(estimate_html(None), margin=(8, 0)),
            html(margin=(8, 0, 0, 0)),
        )
        self.said = {"models": html(), "metrics": html()}
        self.button = pmui.Button(
            label="Launch", icon="rocket_launch", variant="contained", size="large", sizing_mode="stretch_width",
            margin=(16, 0, 0, 0), on_click=lambda _: self._launch(),
        )  # fmt: skip

    def _make_additions(self) -> None:
        self.other = pmui.TextInput(label="Another model: provider/name", placeholder="openai/my-model", **_WIDE)
        self.base_url = pmui.TextInput(
            label="Server address (optional)", placeholder="http://localhost:8000/v1", **_WIDE
        )
        self.criterion = pmui.Select(label="Criterion", options=list(CRITERIA), value=CRITERIA[0], **_WIDE)
        self.judge = pmui.TextInput(label="Judge's model", value="openai/gpt-4o-mini", **_WIDE)
        add = {"label": "Add", "icon": "add", "variant": "outlined", "margin": (8, 0)}
        self.add_model = pmui.Button(**add, on_click=lambda _: self._add_model())
        self.add_judge = pmui.Button(**add, on_click=lambda _: self._add_judge())

    def _laid_out(self) -> pn.Column:
        new = self.form.experiment is None
        self._task_fields = _side_by_side(self.fields["source"], self.fields["target"])
        data = [
            _side_by_side(self.fields["dataset"], self.fields["name"]),
            _side_by_side(self.fields["task"], self.fields["sample"]),
            self._task_fields,
            self.fields["prompt"],
        ]
        judge = _folded("Add a judge", _added(self.criterion, self.judge, self.add_judge))
        settings = (self.fields[name] for name in ("temperature", "max_new_tokens", "seed"))
        sections = [
            *([_section("Data and task", *data)] if new else [self.about]),
            _section(
                "Models", _side_by_side(self.search, *self.filters.values()), self.chosen, self.models,
                self.said["models"], _added(self.other, self.base_url, self.add_model),
                _folded("Generation settings", _side_by_side(*settings)),
            ),
            *([_section("Metrics", self.metrics, self.said["metrics"], judge)] if new else []),
        ]  # fmt: skip
        main = pn.Column(*sections, styles={"flex": "1 1 520px", "min-width": "0"}, margin=0)
        side = pn.Column(
            html(tag("h2", "What it takes", style="margin: 0 0 12px")),
            self.fields["budget"], self.estimate, self.button, self.problem,
            css_classes=["lm-side"], stylesheets=[sheet("launch.css")], margin=0,
            styles={"flex": "1 1 280px", "min-width": "0"},
        )  # fmt: skip
        body = pn.FlexBox(main, side, gap="32px", align_items="flex-start", margin=(16, 0, 0, 0))
        return pn.Column(html(self._heading()), body, sizing_mode="stretch_width")

    def _heading(self) -> Html:
        record = self.form.experiment
        way = [link(Route(("experiments",)), "Experiments")]
        if record is not None:
            way.append(link(Route(("experiments", record.name)), record.name))
        last = "New experiment" if record is None else "More models"
        return join([crumbs(*way, last), heading(last)])

    # --- What a reader does ---

    def _bind(self, name: str, widget: Any) -> None:
        typed = isinstance(widget, (pmui.TextInput, pmui.TextAreaInput, pmui.AutocompleteInput))
        if typed:
            widget.param.watch(lambda event: self._entered(**{name: event.new}), "value_input")
        widget.param.watch(lambda event: self._left(name, event.new), "value")

    def _entered(self, **values: Any) -> None:
        """Take what was entered, and estimate anew."""
        if self._drawing or all(getattr(self.form, name) == (value or "") for name, value in values.items()):
            return
        self._try(partial(self.form.change, **{name: value or "" for name, value in values.items()}))
        if not values.keys().isdisjoint(("dataset", "task", "source", "target")):
            self._draw()
        else:
            self._draw_chosen()
        self._ask()

    def _left(self, name: str, value: Any) -> None:
        """Say what is wrong with a field, once it is left."""
        if self._drawing:
            return
        self._entered(**{name: value})
        if name != "task":
            self._mark(name, self.form.validate(name).get(name, ""))

    def _try(self, act: Callable[[], Any]) -> bool:
        try:
            act()
        except LumigatorError as error:
            self.context.notify(str(error), "error")
            return False
        return True

    def _add_model(self) -> None:
        def done(key: str) -> None:
            self.other.param.update(value="", value_input="", error_state=False, helper_text="")
            self.base_url.param.update(value="", value_input="")
            self._draw()
            self._ask()

        name, address = self.other.value_input or self.other.value, self.base_url.value_input or self.base_url.value
        self._add(self.add_model, self.other, partial(self.form.add_model, name, address), done)

    def _add_judge(self) -> None:
        def done(key: str) -> None:
            self.judge.param.update(error_state=False, helper_text="")
            self._draw()
            self._ask()

        model = self.judge.value_input or self.judge.value
        self._add(self.add_judge, self.judge, partial(self.form.add_judge, self.criterion.value, model), done)

    def _add(self, pressed: Any, field: Any, work: Callable[[], str], done: Callable[[str], None]) -> None:
        # Looking for a provider's package may take seconds the first time.
        def ended(act: Callable[[], None]) -> None:
            pressed.disabled = False
            act()

        def refused(error: Exception) -> None:
            text = beside(error) if isinstance(error, LumigatorError) else in_words(error)
            field.param.update(error_state=True, helper_text=text)

        pressed.disabled = True
        self.context.background(
            work, lambda key: ended(partial(done, key)), lambda error: ended(partial(refused, error))
        )

    def _launch(self) -> None:
        self.button.param.update(disabled=True, loading=False, label="Launching…")
        self._say({})
        self.context.background(self.form.submit, self._launched, self._broken)

    def _launched(self, record: Experiment | None) -> None:
        self.button.param.update(disabled=False, label="Launch")
        if record is None:
            self._say(self.form.errors)
            return
        self.context.notify(f"Launched {record.name}")
        self.context.go(Route(("experiments", record.name)))

    def _broken(self, error: Exception) -> None:
        self.button.param.update(disabled=False, label="Launch")
        self._say({"": in_words(error)})

    # --- What is shown ---

    def _ask(self) -> None:
        snapshot = copy.copy(self.form)
        self._estimates.ask(lambda: estimate_html(snapshot.estimate()))

    def _say(self, errors: dict[str, str]) -> None:
        """Put each error beside its field."""
        for name in self.fields:
            self._mark(name, errors.get(name, ""))
        for name, pane in self.said.items():
            show(pane, _alert(errors.get(name)))
        show(self.problem, _alert(mend(errors)))

    def _mark(self, name: str, text: str) -> None:
        self.fields[name].param.update(error_state=bool(text), helper_text=text or _HELP.get(name, ""))

    def _draw(self) -> None:
        """Show what the form holds."""
        form = self.form
        self._drawing = True
        try:
            for name, widget in self.fields.items():
                value = getattr(form, name)
                if (widget.value or "") != value:
                    widget.value = value
            if form.experiment is not None:
                show(self.about, facts_html(form))
            self.fields["prompt"].label = "Prompt" if form.task == "text_generation" else "Prompt (optional)"
            self._task_fields.visible = form.task == "translation"
            items = [Item(each.key, each.title, metric_line(each), bool(each.problem)) for each in form.metric_views]
            self.metrics.show(items, form.metrics)
        finally:
            self._drawing = False
        self._draw_models()

    def _draw_models(self) -> None:
        form, views = self.form, self.form.model_views
        wanted = Filter(
            search=self.search.value_input or "",
            provider=self.filters["provider"].value,
            size=self.filters["size"].value,
        )
        items = [
            Item(each.name, each.title, model_line(each, form.launched.get(each.name, "")), not each.usable)
            for each in wanted(views)
        ]
        drawing, self._drawing = self._drawing, True
        try:
            options = catalogue.choices(views)
            for name, select in self.filters.items():
                if select.options != options[name]:
                    select.options = options[name]
            self.models.show(items, form.models)
        finally:
            self._drawing = drawing
        show(self.said["models"], "" if items else tag("div", "No model fits the search.", class_="lm-note"))
        self._draw_chosen()

    def _draw_chosen(self) -> None:
        number = len(self.form.models)
        titles = {view.name: view.title for view in self.form.model_views}
        said = ", ".join(titles.get(key, key) for key in self.form.models)
        show(self.chosen, tag("div", f"{number} chosen: {said}" if number else "None chosen yet", class_="lm-note"))

    def refresh(self) -> None:
        """Offer what has come meanwhile: datasets, and models whose key was set."""
        if not self.fields:
            if self.context.ws.datasets.count():
                self.context.go(self.route.with_(again="1" if "again" not in self.route.query else None))
            return
        self.context.background(self.form.refresh, self._refreshed)

    def _refreshed(self, changed: bool) -> None:
        if not changed:
            return
        if self.form.datasets != self.fields["dataset"].options:
            self._drawing = True
            self.fields["dataset"].options = self.form.datasets
            self._drawing = False
        self._draw_models()


_TEXTS = ("name", "sample", "budget", "temperature", "max_new_tokens", "seed")


def _form_of(context: Context, route: Route) -> LaunchForm:
    ws, asked = context.ws, route.query
    if "experiment" in asked:
        form = LaunchForm.into(ws, ws.experiments.get(asked["experiment"]))
    elif "clone" in asked:
        form = LaunchForm.like(ws, ws.experiments.get(asked["clone"]))
    else:
        form = LaunchForm(ws)
        name = asked.get("dataset") or (form.datasets[0] if len(form.datasets) == 1 else "")
        form.change(dataset=ws.datasets.get(name).name if name else "")
    known = {view.name for view in form.model_views if view.usable}
    if asked.get("model") in known:
        form.change(models=(*form.models, asked["model"]))
    return form


def _language(label: str) -> pmui.AutocompleteInput:
    return pmui.AutocompleteInput(label=label, options=list(LANGUAGES), restrict=False, min_characters=0, **_WIDE)


def _section(title: str, *parts: Any) -> pn.Column:
    head = html(tag("h2", title, style="margin: 0 0 12px"))
    return pn.Column(head, *_spaced(parts), margin=(0, 0, 8, 0), sizing_mode="stretch_width")


def _spaced(parts: tuple[Any, ...]) -> list[Any]:
    for part in parts:
        part.margin = (0, 0, 16, 0)
    return list(parts)


def _side_by_side(*parts: Any) -> pn.FlexBox:
    for part in parts:
        part.styles = {"flex": "1 1 160px", "min-width": "0"}
    return pn.FlexBox(*parts, gap="16px", align_items="flex-start", sizing_mode="stretch_width")


def _added(first: Any, second: Any, pressed: Any) -> pn.FlexBox:
    box = _side_by_side(first, second)
    pressed.styles = {"flex": "0 0 auto"}
    box.append(pressed)
    return box


def _folded(title: str, *parts: Any) -> pmui.Accordion:
    return pmui.Accordion((title, pn.Column(*parts, sizing_mode="stretch_width", margin=0)), active=[], **_FOLDED)


def _alert(text: str | None) -> Html | str:
    return tag("div", text, class_="lm-error", role="alert") if text else ""
