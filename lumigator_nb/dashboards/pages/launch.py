"""The form that launches models: dataset, task, models, metrics, and an estimate of cost and time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
import panel_material_ui as pmui

from lumigator_nb.dashboards.checklist import Item, checklist
from lumigator_nb.dashboards.kit import html, sheet, show
from lumigator_nb.dashboards.pages.dialogs import problem
from lumigator_nb.dashboards.shell import Context, Page, in_words
from lumigator_nb.database.records import Experiment
from lumigator_nb.display.html import Html, join, tag
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.launch.checks import LABELS, form_error
from lumigator_nb.presentation.launch.checks import in_words as field_error
from lumigator_nb.presentation.launch.estimating import Debounced, estimate_html
from lumigator_nb.presentation.launch.form import CRITERIA, FOLLOWED, LANGUAGES, LaunchForm, facts_html
from lumigator_nb.presentation.launch.metrics import metric_line
from lumigator_nb.presentation.launch.models import Filter, model_line
from lumigator_nb.presentation.markup import button, crumbs, empty, heading, link
from lumigator_nb.presentation.routes import Route

_TASKS = {title: key for key, title in catalogue.TASK_TITLES.items()}
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
_FOLDED: dict[str, Any] = {**_WIDE, "title_variant": "body2", "elevation": 0, "disable_gutters": True}
# Shown below a field while nothing is wrong with it.
_HELP = {
    "name": "Shown in lists and reports",
    "prompt": "Leave empty to use the task's default prompt",
    "labels": "One on each line, with a description after a colon if you like",
    "sample": "Drawn at random. Leave empty to use all",
    "budget": "A model stops before it spends more",
    "temperature": "0 always takes the most likely token",
    "max_new_tokens": "Longer answers are cut off",
    "seed": "Makes sampled answers repeatable",
}
_NO_DATASET = "Models answer the examples of a dataset. Upload a file first, such as a CSV with a column of texts."
_TEXTS = ("name", "sample", "budget", "temperature", "max_new_tokens", "seed")


class LaunchPage(Page):
    """The form. In the query, `dataset` and `model` preselect one, `experiment` adds to one, `clone` copies one."""

    title = "New experiment"

    def __init__(self, context: Context, route: Route) -> None:
        super().__init__(context, route)
        self.form = self._form()
        self.fields: dict[str, Any] = {}
        self._drawing = False
        if not self.form.datasets and self.form.record is None:
            actions = button(Route(("upload",)), "Upload a dataset", primary=True)
            self.layout = html(empty("No dataset yet", _NO_DATASET, actions))
            return
        if self.form.experiment is not None:
            self.title = f"More models for {self.form.experiment.name}"
        self._make_fields()
        self._make_choices()
        self._estimates = Debounced(lambda markup: context.later(partial(show, self.estimate, markup)))
        # Cancels an estimate that is still to come.
        context.at_end(lambda: self._estimates.ask(Html))
        self._lay_out()
        self._draw()

    def _form(self) -> LaunchForm:
        """Return the form that the route's query asks for.

        Raises:
            NotFoundError: the query names a dataset or experiment that does not exist.
        """
        ws, query = self.context.ws, self.route.query
        if "experiment" in query:
            form = LaunchForm.into(ws, ws.experiments.get(query["experiment"]))
        elif "clone" in query:
            form = LaunchForm.like(ws, ws.experiments.get(query["clone"]))
        else:
            form = LaunchForm(ws)
            name = query.get("dataset") or (form.datasets[0] if len(form.datasets) == 1 else "")
            form.change(dataset=ws.datasets.get(name).name if name else "")
        usable = {view.name for view in form.model_views if view.usable}
        if query.get("model") in usable:
            form.change(models=(*form.models, query["model"]))
        return form

    # --- Widgets ---

    def _make_fields(self) -> None:
        form = self.form
        self.fields = {
            "dataset": pmui.Select(
                label="Dataset", options=form.datasets, searchable=len(form.datasets) > 8, value=form.dataset or None,
                **_WIDE,
            ),
            "task": pmui.Select(label="Task", options=_TASKS, value=form.task, **_WIDE),
            "prompt": pmui.TextAreaInput(label="Prompt", rows=2, auto_grow=True, max_rows=8, **_WIDE),
            "labels": pmui.TextAreaInput(label="Labels", rows=3, auto_grow=True, max_rows=12, **_WIDE),
            "source": _language("From"),
            "target": _language("To"),
            **{name: pmui.TextInput(label=LABELS[name], **_WIDE) for name in _TEXTS},
        }  # fmt: skip
        for name, widget in self.fields.items():
            widget.helper_text = _HELP.get(name, "")
            # Metrics follow from labels: they are read when the field is left.
            if isinstance(widget, (pmui.TextInput, pmui.TextAreaInput, pmui.AutocompleteInput)) and name != "labels":
                # With each letter; "value" changes only when the field is left.
                widget.param.watch(lambda event, name=name: self._entered(**{name: event.new}), "value_input")
            widget.param.watch(lambda event, name=name: self._left(name, event.new), "value")
        self.about, self.estimate = html(), html(estimate_html(None), margin=(8, 0))
        self.problem = html(margin=(8, 0, 0, 0))
        self.button = pmui.Button(
            label="Launch", icon="rocket_launch", variant="contained", size="large", sizing_mode="stretch_width",
            margin=(16, 0, 0, 0), on_click=lambda _: self._launch(),
        )  # fmt: skip

    def _make_choices(self) -> None:
        """Make the lists of models and metrics, their filters, and the fields that add to them."""
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
        self.other = pmui.TextInput(label="Another model: provider/name", placeholder="openai/my-model", **_WIDE)
        self.base_url = pmui.TextInput(
            label="Server address (optional)", placeholder="http://localhost:8000/v1", **_WIDE
        )
        self.criterion = pmui.Select(label="Criterion", options=list(CRITERIA), value=CRITERIA[0], **_WIDE)
        self.judge = pmui.TextInput(label="Judge model", value="openai/gpt-4o-mini", **_WIDE)
        add = {"label": "Add", "icon": "add", "variant": "outlined", "margin": (8, 0)}
        self.add_model = pmui.Button(**add, on_click=lambda _: self._add_model())
        self.add_judge = pmui.Button(**add, on_click=lambda _: self._add_judge())
        self.chosen = html()
        self.errors = {"models": html(), "metrics": html()}

    def _lay_out(self) -> None:
        record = self.form.experiment
        new = record is None
        self._task_fields = _side_by_side(self.fields["source"], self.fields["target"])
        data = [
            _side_by_side(self.fields["dataset"], self.fields["name"]),
            _side_by_side(self.fields["task"], self.fields["sample"]),
            self._task_fields,
            self.fields["labels"],
            self.fields["prompt"],
        ]
        judge = _folded("Add a judge", _added(self.criterion, self.judge, self.add_judge))
        settings = (self.fields[name] for name in ("temperature", "max_new_tokens", "seed"))
        sections = [
            *([_section("Data and task", *data)] if new else [self.about]),
            _section(
                "Models", _side_by_side(self.search, *self.filters.values()), self.chosen, self.models,
                self.errors["models"], _added(self.other, self.base_url, self.add_model),
                _folded("Generation settings", _side_by_side(*settings)),
            ),
            *([_section("Metrics", self.metrics, self.errors["metrics"], judge)] if new else []),
        ]  # fmt: skip
        main = pn.Column(*sections, styles={"flex": "1 1 520px", "min-width": "0"}, margin=0)
        side = pn.Column(
            html(tag("h2", "Cost and time", style="margin: 0 0 12px")),
            self.fields["budget"], self.estimate, self.button, self.problem,
            css_classes=["lm-side"], stylesheets=[sheet("launch.css")], margin=0,
            styles={"flex": "1 1 280px", "min-width": "0"},
        )  # fmt: skip
        body = pn.FlexBox(main, side, gap="32px", align_items="flex-start", margin=(16, 0, 0, 0))
        path = [link(Route(("experiments",)), "Experiments")]
        if record is not None:
            path.append(link(Route(("experiments", record.name)), record.name))
        title = "New experiment" if new else "More models"
        head = html(join([crumbs(*path, title), heading(title)]))
        self.layout = pn.Column(head, body, sizing_mode="stretch_width")

    # --- Input of the user ---

    def _entered(self, **values: Any) -> None:
        """Put new values into the form, and estimate again."""
        if self._drawing or all(getattr(self.form, name) == (value or "") for name, value in values.items()):
            return
        try:
            self.form.change(**{name: value or "" for name, value in values.items()})
        except LumigatorError as error:
            self.context.notify(str(error), "error")
        if not values.keys().isdisjoint(FOLLOWED):
            self._draw()
        else:
            self._draw_chosen()
        self._estimate()

    def _left(self, name: str, value: Any) -> None:
        """Check a field when the user leaves it, and not while half of a value is typed."""
        if self._drawing:
            return
        self._entered(**{name: value})
        if name != "task":
            self._mark(name, self.form.validate(name).get(name, ""))

    def _add_model(self) -> None:
        def done(key: str) -> None:
            self.other.param.update(value="", value_input="", error_state=False, helper_text="")
            self.base_url.param.update(value="", value_input="")
            self._draw()
            self._estimate()

        name, address = self.other.value_input or self.other.value, self.base_url.value_input or self.base_url.value
        self._add(self.add_model, self.other, partial(self.form.add_model, name, address), done)

    def _add_judge(self) -> None:
        def done(key: str) -> None:
            self.judge.param.update(error_state=False, helper_text="")
            self._draw()
            self._estimate()

        model = self.judge.value_input or self.judge.value
        self._add(self.add_judge, self.judge, partial(self.form.add_judge, self.criterion.value, model), done)

    def _add(self, button: Any, field: Any, work: Callable[[], str], done: Callable[[str], None]) -> None:
        def added(key: str) -> None:
            button.disabled = False
            done(key)

        def refused(error: Exception) -> None:
            button.disabled = False
            text = field_error(error) if isinstance(error, LumigatorError) else in_words(error)
            field.param.update(error_state=True, helper_text=text)

        button.disabled = True
        # In a thread: importing a provider's package may take seconds the first time.
        self.context.background(work, added, refused)

    def _launch(self) -> None:
        def launched(record: Experiment | None) -> None:
            self.button.param.update(disabled=False, label="Launch")
            if record is None:
                self._mark_all(self.form.errors)
                return
            self.context.notify(f"Launched {record.name}")
            self.context.go(Route(("experiments", record.name)))

        def failed(error: Exception) -> None:
            self.button.param.update(disabled=False, label="Launch")
            self._mark_all({"": in_words(error)})

        self.button.param.update(disabled=True, loading=False, label="Launching…")
        self._mark_all({})
        self.context.background(self.form.submit, launched, failed)

    # --- Drawing ---

    def _estimate(self) -> None:
        # The estimate runs in a thread, while the user may change the form.
        snapshot = copy.copy(self.form)
        self._estimates.ask(lambda: estimate_html(snapshot.estimate()))

    def _mark_all(self, errors: dict[str, str]) -> None:
        """Show each error beside its field, and a summary beside the button."""
        for name in self.fields:
            self._mark(name, errors.get(name, ""))
        for name, pane in self.errors.items():
            show(pane, problem(errors.get(name)))
        show(self.problem, problem(form_error(errors)))

    def _mark(self, name: str, text: str) -> None:
        self.fields[name].param.update(error_state=bool(text), helper_text=text or _HELP.get(name, ""))

    def _draw(self) -> None:
        """Show the form's values."""
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
            self.fields["labels"].visible = form.task == "classification"
            items = [Item(view.key, view.title, metric_line(view), bool(view.problem)) for view in form.metric_views]
            self.metrics.show(items, form.metrics)
        finally:
            self._drawing = False
        self._draw_models()

    def _draw_models(self) -> None:
        form, views = self.form, self.form.model_views
        matches = Filter(
            search=self.search.value_input or "",
            provider=self.filters["provider"].value,
            size=self.filters["size"].value,
        )
        items = [
            Item(view.name, view.title, model_line(view, form.launched.get(view.name, "")), not view.usable)
            for view in matches(views)
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
        show(self.errors["models"], "" if items else tag("div", "No model matches the search.", class_="lm-note"))
        self._draw_chosen()

    def _draw_chosen(self) -> None:
        titles = {view.name: view.title for view in self.form.model_views}
        names = ", ".join(titles.get(key, key) for key in self.form.models)
        text = f"{len(self.form.models)} chosen: {names}" if names else "None chosen yet"
        show(self.chosen, tag("div", text, class_="lm-note"))

    def refresh(self) -> None:
        """Offer new datasets, and models whose key was set."""
        if not self.fields:
            # The page without a dataset has no form. Another query makes the shell build the page again.
            if self.context.ws.datasets.count():
                self.context.go(self.route.with_(again="1" if "again" not in self.route.query else None))
            return

        def arrived(changed: bool) -> None:
            if not changed:
                return
            if self.form.datasets != self.fields["dataset"].options:
                self._drawing = True
                self.fields["dataset"].options = self.form.datasets
                self._drawing = False
            self._draw_models()

        self.context.background(self.form.refresh, arrived)


def _language(label: str) -> pmui.AutocompleteInput:
    return pmui.AutocompleteInput(label=label, options=list(LANGUAGES), restrict=False, min_characters=0, **_WIDE)


def _section(title: str, *parts: Any) -> pn.Column:
    head = html(tag("h2", title, style="margin: 0 0 12px"))
    for part in parts:
        part.margin = (0, 0, 16, 0)
    return pn.Column(head, *parts, margin=(0, 0, 8, 0), sizing_mode="stretch_width")


def _side_by_side(*parts: Any) -> pn.FlexBox:
    for part in parts:
        part.styles = {"flex": "1 1 160px", "min-width": "0"}
    return pn.FlexBox(*parts, gap="16px", align_items="flex-start", sizing_mode="stretch_width")


def _added(first: Any, second: Any, button: Any) -> pn.FlexBox:
    box = _side_by_side(first, second)
    button.styles = {"flex": "0 0 auto"}
    box.append(button)
    return box


def _folded(title: str, *parts: Any) -> pmui.Accordion:
    return pmui.Accordion((title, pn.Column(*parts, sizing_mode="stretch_width", margin=0)), active=[], **_FOLDED)
