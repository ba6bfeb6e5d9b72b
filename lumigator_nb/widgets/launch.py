"""The form that launches models in a notebook cell. The kernel stays free."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ipywidgets
from ipywidgets import HTML, Box, Button, Checkbox, Combobox, Dropdown, Layout, Text, Textarea, VBox

from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.html import Html, tag
from lumigator_nb.errors import LumigatorError
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.launch.checks import LABELS, form_error, in_words
from lumigator_nb.presentation.launch.estimating import Debounced, estimate_html
from lumigator_nb.presentation.launch.form import CRITERIA, FOLLOWED, LANGUAGES, LaunchForm, facts_html, launch_summary
from lumigator_nb.presentation.launch.metrics import metric_line
from lumigator_nb.presentation.launch.models import Filter, model_line
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.widgets.kit import CellWidget, alert, heading, labelled, line, put, sheet, with_hint
from lumigator_nb.workspace import Workspace

# Browsers are slow with many checkboxes. The search finds the other models.
MOST_MODELS = 40
_TASKS = [(title, key) for key, title in catalogue.TASK_TITLES.items()]
_FIELDS = tuple(name for name in LABELS if name not in ("models", "metrics"))
_PLACEHOLDERS = {
    "prompt": "empty: the task's default prompt", "sample": "all", "budget": "no limit", "temperature": "default",
    "max_new_tokens": "default", "seed": "default", "source": "such as English", "target": "such as German",
    "labels": "one on each line, such as\nbilling: invoices and refunds",
}  # fmt: skip


def launch(
    ws: Workspace, dataset: Dataset | str | None = None, experiment: Experiment | str | None = None
) -> LaunchWidget:
    """Show a form that creates an experiment and launches models, with an estimate of cost and time.

    Args:
        ws: workspace.
        dataset: record, name or id of the dataset that is preselected.
        experiment: record, name or id of an experiment to add models to; default a new one.

    Raises:
        NotFoundError: there is no such dataset or experiment.

    Examples:
        >>> widget = lm.ui.launch(ws, dataset)
        >>> widget.close()
    """
    if experiment is not None:
        record = ws.experiments.get(experiment)
        return with_hint(LaunchWidget(LaunchForm.into(ws, record)))
    form = LaunchForm(ws)
    if dataset is not None:
        form.change(dataset=ws.datasets.get(dataset).name)
    elif len(form.datasets) == 1:
        form.change(dataset=form.datasets[0])
    return with_hint(LaunchWidget(form))


class LaunchWidget(CellWidget):
    """The form; made by :func:`launch`.

    Attributes:
        form: the user's input.
        experiment: the launched experiment; None before the launch.
        fields: input widgets by the form's field.
    """

    def __init__(self, form: LaunchForm) -> None:
        super().__init__(layout=Layout(max_width="860px"))
        self.form = form
        self.experiment: Experiment | None = None
        # Input arrives on the kernel's thread; launches and the watcher use their own threads.
        self._lock = threading.RLock()
        self._drawing = False
        self._models: dict[str, _Choice] = {}
        self._metrics: dict[str, _Choice] = {}
        self._problems = {name: HTML() for name in (*LABELS, "other", "judge", "")}
        self._make_fields()
        self.estimate, self.after = HTML(), VBox()
        self.button = Button(description="Launch", button_style="primary", icon="play", layout=Layout(width="12em"))
        self.button.on_click(lambda _: self._launch())
        self._estimates = Debounced(lambda markup: put(self.estimate, markup))
        self._unsubscribe: Callable[[], None] | None = watcher_of(form.ws).subscribe(self._refresh)
        self._lay_out()
        self._draw()
        self._estimate()

    # --- Widgets ---

    def _make_fields(self) -> None:
        def wide(kind: type[ipywidgets.DOMWidget], **options: Any) -> ipywidgets.DOMWidget:
            # Each widget needs its own layout: one that several share would hide them together.
            return kind(layout=Layout(width="auto"), **options)

        form = self.form
        self.fields = {
            "dataset": wide(Dropdown, options=self._datasets(), value=form.dataset),
            "task": wide(Dropdown, options=_TASKS, value=form.task),
        }
        for name in _FIELDS:
            if name in self.fields:
                continue
            kind = {"prompt": Textarea, "labels": Textarea, "source": Combobox, "target": Combobox}.get(name, Text)
            more: dict[type, dict[str, Any]] = {Textarea: {"rows": 2}, Combobox: {"options": LANGUAGES}}
            self.fields[name] = wide(
                kind, value=getattr(form, name), placeholder=_PLACEHOLDERS.get(name, ""), continuous_update=False,
                **more.get(kind, {}),
            )  # fmt: skip
        for name, widget in self.fields.items():
            widget.observe(lambda change, name=name: self._entered(**{name: change["new"]}), "value")
        self.search = wide(Text, placeholder="name or provider")
        self.filters = {name: wide(Dropdown, options=[(f"All {name}s", "")]) for name in ("provider", "size")}
        for widget in (self.search, *self.filters.values()):
            widget.observe(lambda _: self._draw_models(), "value")
        self.chosen, self.hidden = HTML(), HTML()
        self.models = VBox(
            layout=Layout(max_height="380px", overflow="auto", border="1px solid var(--jp-border-color2)")
        )
        self.metrics = Box(layout=Layout(flex_flow="row wrap"))
        self.other = wide(Text, placeholder="provider/name")
        self.base_url = wide(Text, placeholder="http://localhost:8000/v1")
        self.criterion = wide(Dropdown, options=CRITERIA)
        self.judge = wide(Text, value="openai/gpt-4o-mini")
        self.add_model, self.add_judge = (
            Button(description="Add", icon="plus", layout=Layout(width="7em")) for _ in range(2)
        )
        self.add_model.on_click(lambda _: self._add_model())
        self.add_judge.on_click(lambda _: self._add_judge())

    def _datasets(self) -> list[tuple[str, str]]:
        names = list(self.form.datasets)
        # An archived dataset is not in the list, but the form may be opened with one.
        if self.form.dataset not in ("", *names):
            names.insert(0, self.form.dataset)
        hint = "Choose a dataset" if self.form.datasets else "No dataset yet: lm.ui.upload(ws)"
        return [(hint, ""), *((name, name) for name in names)]

    def _lay_out(self) -> None:
        def part(name: str) -> VBox:
            return labelled(LABELS[name], self.fields[name], self._problems[name])

        record = self.form.experiment
        new = record is None
        self._languages, self._labels = line(part("source"), part("target")), line(part("labels"))
        self._about = HTML()
        data = [line(part("dataset"), part("name")), line(part("task"), part("sample")), self._languages,
                self._labels, line(part("prompt"))]  # fmt: skip
        other = line(labelled("Another model", self.other), labelled("Server address (optional)", self.base_url),
                      self.add_model)  # fmt: skip
        judge = line(labelled("Criterion", self.criterion), labelled("Judge model", self.judge), self.add_judge)
        filters = [("Search models", self.search), *zip(("Provider", "Size"), self.filters.values(), strict=True)]
        settings = line(part("temperature"), part("max_new_tokens"), part("seed"))
        title = "New experiment" if record is None else f"More models for {record.name}"
        self.children = [
            HTML(str(tag("div", sheet(), tag("h1", title), class_="lm"))),
            *([*data] if new else [self._about]),
            heading("Models"),
            line(*(labelled(name, field) for name, field in filters)),
            self.chosen,
            self.models,
            self.hidden,
            self._problems["models"],
            other,
            self._problems["other"],
            _folded("Generation settings", settings),
            *([heading("Metrics"), self.metrics, self._problems["metrics"],
               _folded("Add a judge", VBox([judge, self._problems["judge"]]))] if new else []),
            heading("Cost and time"),
            line(part("budget"), VBox(layout=Layout(flex="1 1 14em"))),
            self.estimate,
            self.button,
            self._problems[""],
            self.after,
        ]  # fmt: skip

    # --- Input of the user ---

    def _entered(self, **values: Any) -> None:
        """Put new values into the form, show their errors, and estimate again."""
        with self._lock:
            if self._drawing:
                return
            try:
                self.form.change(**values)
            except LumigatorError as error:
                self._mark({"": in_words(error)})
                return
            errors = self.form.validate(*(name for name in values if name != "task"))
            for name in values:
                put(self._problems[name], alert(errors.get(name)))
            if values.keys().isdisjoint(FOLLOWED):
                self._draw_chosen()
            else:
                self._draw()
            self._estimate()

    def _picked(self, kind: str, key: str, on: bool) -> None:
        others = tuple(other for other in getattr(self.form, kind) if other != key)
        self._entered(**{kind: (*others, key) if on else others})

    def _add_model(self) -> None:
        def done() -> None:
            self.other.value = self.base_url.value = ""

        work = partial(self.form.add_model, self.other.value, self.base_url.value)
        self._in_thread(self.add_model, "other", work, done)

    def _add_judge(self) -> None:
        work = partial(self.form.add_judge, self.criterion.value, self.judge.value)
        self._in_thread(self.add_judge, "judge", work, lambda: None)

    def _in_thread(self, button: Button, name: str, work: Callable[[], object], done: Callable[[], None]) -> None:
        def run() -> None:
            problem = _error_of(work)
            put(self._problems[name], alert(problem))
            button.disabled = False
            if problem is None:
                done()
                self._draw()
                self._estimate()

        # Importing a provider's package may take seconds the first time.
        button.disabled = True
        threading.Thread(target=run, name="lumigator-launch", daemon=True).start()

    def _launch(self) -> None:
        def submit() -> None:
            self.experiment = self.form.submit()
            self._mark(self.form.errors)

        def run() -> None:
            from lumigator_nb.widgets.progress import progress

            problem = _error_of(submit)
            if problem is not None:
                self._mark({"": problem})
            if self.experiment is None:
                self.button.disabled, self.button.description = False, "Launch"
                return
            self._unfollow()
            self.button.description, self.button.icon = "Launched", "check"
            self.after.children = (progress(self.form.ws, self.experiment),)

        self.button.disabled, self.button.description = True, "Launching…"
        self._mark({})
        threading.Thread(target=run, name="lumigator-launch", daemon=True).start()

    def _refresh(self) -> None:
        """Offer new datasets, and models whose key was set."""
        with suppress(LumigatorError):  # the next change tries again, and a launch would show the error
            if self.form.refresh():
                with self._changing():
                    self.fields["dataset"].options = self._datasets()
                    self.fields["dataset"].value = self.form.dataset
                self._draw_models()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change values of widgets without treating them as the user's input."""
        with self._lock:
            before, self._drawing = self._drawing, True
            try:
                yield
            finally:
                self._drawing = before

    def _unfollow(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def close(self) -> None:
        """Remove the form. Launched models go on."""
        self._unfollow()
        super().close()

    # --- Drawing ---

    def _estimate(self) -> None:
        # The estimate runs in a thread, while the user may change the form.
        snapshot = copy.copy(self.form)
        self._estimates.ask(lambda: estimate_html(snapshot.estimate()))

    def _mark(self, errors: dict[str, str]) -> None:
        """Show each error beside its field, and a summary beside the button."""
        for name, view in self._problems.items():
            put(view, alert(form_error(errors) if name == "" else errors.get(name)))

    def _draw(self) -> None:
        """Show the form's values."""
        form = self.form
        with self._changing():
            for name, widget in self.fields.items():
                if widget.value != getattr(form, name):
                    widget.value = getattr(form, name)
            self._languages.layout.display = "" if form.task == "translation" else "none"
            self._labels.layout.display = "" if form.task == "classification" else "none"
            put(self._about, facts_html(form))
            choices = []
            for view in form.metric_views:
                if view.key not in self._metrics:
                    self._metrics[view.key] = _Choice(partial(self._picked, "metrics", view.key), "250px")
                choice = self._metrics[view.key]
                choice.show(view.title, metric_line(view), on=view.key in form.metrics, off=bool(view.problem))
                choices.append(choice)
            self.metrics.children = choices
        self._draw_models()

    def _draw_models(self) -> None:
        with self._changing():
            views = self.form.model_views
            options = catalogue.choices(views)
            for name, select in self.filters.items():
                pairs = tuple(options[name].items())
                if select.options != pairs:
                    select.options = pairs
            provider, size = (self.filters[name].value or "" for name in ("provider", "size"))
            matches = Filter(search=self.search.value, provider=provider, size=size)(views)
            choices = []
            for view in matches[:MOST_MODELS]:
                if view.name not in self._models:
                    self._models[view.name] = _Choice(partial(self._picked, "models", view.name))
                choice = self._models[view.name]
                below = model_line(view, self.form.launched.get(view.name, ""))
                choice.show(view.title, below, on=view.name in self.form.models, off=not view.usable)
                choices.append(choice)
            self.models.children = choices
        note = "" if matches else "No model matches the search."
        if len(matches) > MOST_MODELS:
            note = f"{len(matches) - MOST_MODELS} more models. Search to find them."
        put(self.hidden, tag("div", note, class_="lm-note"))
        self._draw_chosen()

    def _draw_chosen(self) -> None:
        titles = {view.name: view.title for view in self.form.model_views}
        names = ", ".join(titles.get(key, key) for key in self.form.models)
        text = f"{len(self.form.models)} chosen: {names}" if names else "None chosen yet"
        put(self.chosen, tag("div", text, class_="lm-note"))

    def __repr__(self) -> str:
        # ipywidgets' own lists every widget inside.
        return f"LaunchWidget({self.experiment.name if self.experiment else self.form.summary!r})"

    @property
    def otherwise(self) -> str:
        return "call ws.experiments.create(…) and ws.workflows.launch(experiment, models)"

    def static(self) -> Html:
        return launch_summary(self.form, self.experiment)


class _Choice(VBox):  # type: ignore[misc]
    """A checkbox with a text under it.

    Args:
        picked: called with True when it is checked, with False when it is unchecked.
        width: CSS width; default that of the list.
    """

    def __init__(self, picked: Callable[[bool], None], width: str = "auto") -> None:
        self.box = Checkbox(indent=False, layout=Layout(width="auto"))
        self.text = HTML(layout=Layout(margin="-6px 0 4px 22px"))
        self.box.observe(lambda change: picked(change["new"]), "value")
        super().__init__(
            [self.box, self.text], layout=Layout(width=width, flex="0 0 auto", padding="0 8px", margin="0 0 4px")
        )

    def show(self, title: str, line: Html, *, on: bool, off: bool) -> None:
        """Change title, line and state, and send only what differs."""
        for name, value in (("description", title), ("disabled", off), ("value", on)):
            if getattr(self.box, name) != value:
                setattr(self.box, name, value)
        put(self.text, tag("div", line, class_="lm-soft", style="font-size: 12px"))


def _error_of(work: Callable[[], object]) -> str | None:
    """Do work; return its error in sentences, or None."""
    try:
        work()
    except LumigatorError as error:
        return in_words(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _folded(title: str, inside: ipywidgets.Widget) -> ipywidgets.Accordion:
    return ipywidgets.Accordion([inside], titles=[title], selected_index=None)
