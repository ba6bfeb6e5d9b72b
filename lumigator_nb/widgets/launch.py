"""A form that launches models, in a notebook cell; the kernel stays free."""

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
from lumigator_nb.presentation.launch.checks import LABELS, in_words, mend
from lumigator_nb.presentation.launch.estimating import Debounced, estimate_html
from lumigator_nb.presentation.launch.form import CRITERIA, LANGUAGES, LaunchForm, facts_html, launch_summary
from lumigator_nb.presentation.launch.metrics import MetricView, metric_line
from lumigator_nb.presentation.launch.models import Filter, ModelView, model_line
from lumigator_nb.presentation.watcher import watcher_of
from lumigator_nb.widgets.kit import alert, heading, labelled, line, put, sheet
from lumigator_nb.workspace import Workspace

# A browser slows down with many checkboxes; the search finds the others.
MOST_MODELS = 40
_TASKS = [(title, key) for key, title in catalogue.TASK_TITLES.items()]
_FIELDS = tuple(name for name in LABELS if name not in ("models", "metrics"))
_PLACEHOLDERS = {
    "prompt": "empty takes the task's own", "sample": "all", "budget": "no bound", "temperature": "default",
    "max_new_tokens": "default", "seed": "default", "source": "such as English", "target": "such as German",
}  # fmt: skip


def launch(
    ws: Workspace, dataset: Dataset | str | None = None, experiment: Experiment | str | None = None
) -> LaunchWidget:
    """Show a form that creates an experiment and launches models, with what they would cost before the button.

    Args:
        ws: workspace.
        dataset: record, name or id of the one that is chosen at first.
        experiment: record, name or id of one that gets more models; default a new one.

    Raises:
        NotFoundError: there is no such dataset or experiment.

    Examples:
        >>> widget = lm.ui.launch(ws, dataset)
        >>> widget.close()
    """
    if experiment is not None:
        record = ws.experiments.get(experiment)
        return LaunchWidget(LaunchForm.into(ws, record))
    form = LaunchForm(ws)
    if dataset is not None:
        form.change(dataset=ws.datasets.get(dataset).name)
    elif len(form.datasets) == 1:
        form.change(dataset=form.datasets[0])
    return LaunchWidget(form)


class LaunchWidget(VBox):  # type: ignore[misc]
    """The form; made by :func:`launch`.

    Attributes:
        form: what has been entered.
        experiment: what was launched; None before.
        fields: the inputs by the form's field.
    """

    def __init__(self, form: LaunchForm) -> None:
        super().__init__(layout=Layout(max_width="860px"))
        self.form = form
        self.experiment: Experiment | None = None
        # Changes come from the kernel, and from the threads of launches and of the watcher.
        self._lock = threading.RLock()
        self._drawing = False
        self._models: dict[str, _Choice] = {}
        self._metrics: dict[str, _Choice] = {}
        self._problems = {name: HTML() for name in (*LABELS, "other", "judge", "")}
        self.fields = {name: self._field(name) for name in _FIELDS}
        for name, widget in self.fields.items():
            widget.observe(lambda change, name=name: self._entered(**{name: change["new"]}), "value")
        self._make_models()
        self._make_metrics()
        self.estimate, self.after = HTML(), VBox()
        self.button = Button(description="Launch", button_style="primary", icon="play", layout=Layout(width="12em"))
        self.button.on_click(lambda _: self._launch())
        self._estimates = Debounced(lambda found: put(self.estimate, found))
        self._unsubscribe: Callable[[], None] | None = watcher_of(form.ws).subscribe(self._refresh)
        self.children = self._laid_out()
        self._draw()
        self._ask()

    # --- Its parts ---

    def _field(self, name: str) -> ipywidgets.DOMWidget:
        wide = {"layout": Layout(width="auto"), "continuous_update": False}
        value = getattr(self.form, name)
        if name == "dataset":
            return Dropdown(options=self._datasets(), value=value, layout=Layout(width="auto"))
        if name == "task":
            return Dropdown(options=_TASKS, value=value, layout=Layout(width="auto"))
        kind = {"prompt": Textarea, "source": Combobox, "target": Combobox}.get(name, Text)
        more: dict[str, Any] = {"rows": 2} if kind is Textarea else {"options": LANGUAGES} if kind is Combobox else {}
        return kind(value=value, placeholder=_PLACEHOLDERS.get(name, ""), **wide, **more)

    def _datasets(self) -> list[tuple[str, str]]:
        found = [(name, name) for name in self.form.datasets]
        # One that was put away is in no list.
        own = [] if self.form.dataset in ("", *self.form.datasets) else [(self.form.dataset, self.form.dataset)]
        return [("Choose a dataset" if found else "No dataset yet: lm.ui.upload(ws)", ""), *own, *found]

    def _make_models(self) -> None:
        self.search = Text(placeholder="name or provider", layout=Layout(width="auto"))
        self.filters = {
            name: Dropdown(options=[(f"All {name}s", "")], layout=Layout(width="auto")) for name in ("provider", "size")
        }
        for widget in (self.search, *self.filters.values()):
            widget.observe(lambda _: self._draw_models(), "value")
        self.chosen, self.hidden = HTML(), HTML()
        self.models = VBox(
            layout=Layout(max_height="380px", overflow="auto", border="1px solid var(--jp-border-color2)")
        )
        self.other = Text(placeholder="provider/name", layout=Layout(width="auto"))
        self.base_url = Text(placeholder="http://localhost:8000/v1", layout=Layout(width="auto"))
        self.add_model = Button(description="Add", icon="plus", layout=Layout(width="7em"))
        self.add_model.on_click(lambda _: self._add_model())

    def _make_metrics(self) -> None:
        self.metrics = Box(layout=Layout(flex_flow="row wrap"))
        self.criterion = Dropdown(options=CRITERIA, layout=Layout(width="auto"))
        self.judge = Text(value="openai/gpt-4o-mini", layout=Layout(width="auto"))
        self.add_judge = Button(description="Add", icon="plus", layout=Layout(width="7em"))
        self.add_judge.on_click(lambda _: self._add_judge())

    def _laid_out(self) -> list[ipywidgets.Widget]:
        new, part = self.form.experiment is None, self._part
        self._languages = line(part("source"), part("target"))
        self._about = HTML()
        data = [line(part("dataset"), part("name")), line(part("task"), part("sample")), self._languages,
                line(part("prompt"))]  # fmt: skip
        other = line(labelled("Another model", self.other), labelled("Server address (optional)", self.base_url),
                      self.add_model)  # fmt: skip
        judge = line(labelled("Criterion", self.criterion), labelled("Judge's model", self.judge), self.add_judge)
        filters = [("Search models", self.search), *zip(("Provider", "Size"), self.filters.values(), strict=True)]
        settings = line(part("temperature"), part("max_new_tokens"), part("seed"))
        return [
            HTML(str(tag("div", sheet(), tag("h1", self._title()), class_="lm"))),
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
            heading("What it takes"),
            line(part("budget"), VBox(layout=Layout(flex="1 1 14em"))),
            self.estimate,
            self.button,
            self._problems[""],
            self.after,
        ]  # fmt: skip

    def _title(self) -> str:
        record = self.form.experiment
        return "New experiment" if record is None else f"More models for {record.name}"

    def _part(self, name: str) -> VBox:
        return labelled(LABELS[name], self.fields[name], self._problems[name])

    # --- What a reader does ---

    def _entered(self, **values: Any) -> None:
        """Take what was entered, say what is wrong with it, and estimate anew."""
        with self._lock:
            if not self._drawing:
                self._take(values)

    def _take(self, values: dict[str, Any]) -> None:
        try:
            self.form.change(**values)
        except LumigatorError as error:
            self._say({"": in_words(error)})
            return
        found = self.form.validate(*(name for name in values if name != "task"))
        for name in values:
            put(self._problems[name], alert(found.get(name)))
        if values.keys().isdisjoint(("dataset", "task", "source", "target")):
            self._draw_chosen()
        else:
            self._draw()
        self._ask()

    def _picked(self, kind: str, key: str, on: bool) -> None:
        others = tuple(each for each in getattr(self.form, kind) if each != key)
        self._entered(**{kind: (*others, key) if on else others})

    def _add_model(self) -> None:
        def done() -> None:
            self.other.value = self.base_url.value = ""

        work = partial(self.form.add_model, self.other.value, self.base_url.value)
        self._in_thread(self.add_model, "other", work, done)

    def _add_judge(self) -> None:
        work = partial(self.form.add_judge, self.criterion.value, self.judge.value)
        self._in_thread(self.add_judge, "judge", work, lambda: None)

    def _in_thread(self, pressed: Button, name: str, work: Callable[[], object], done: Callable[[], None]) -> None:
        def run() -> None:
            said = _attempted(work)
            put(self._problems[name], alert(said))
            pressed.disabled = False
            if said is None:
                done()
                self._draw()
                self._ask()

        # Looking for a provider's package may take seconds the first time.
        pressed.disabled = True
        threading.Thread(target=run, name="lumigator-launch", daemon=True).start()

    def _launch(self) -> None:
        self.button.disabled, self.button.description = True, "Launching…"
        self._say({})
        threading.Thread(target=self._submit, name="lumigator-launch", daemon=True).start()

    def _submit(self) -> None:
        said = _attempted(self._submitted)
        if said is not None:
            self._say({"": said})
        if self.experiment is None:
            self.button.disabled, self.button.description = False, "Launch"
        else:
            self._launched(self.experiment)

    def _submitted(self) -> None:
        self.experiment = self.form.submit()
        self._say(self.form.errors)

    def _launched(self, record: Experiment) -> None:
        from lumigator_nb.widgets.progress import progress

        self._rest()
        self.button.description, self.button.icon = "Launched", "check"
        self.after.children = (progress(self.form.ws, record),)

    def _refresh(self) -> None:
        """Offer what has come meanwhile: datasets, and models whose key was set."""
        with suppress(LumigatorError):  # told where it matters; the next change shows it
            if self.form.refresh():
                with self._changing():
                    self.fields["dataset"].options = self._datasets()
                    self.fields["dataset"].value = self.form.dataset
                self._draw_models()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Set values of inputs without taking them for a reader's."""
        with self._lock:
            before, self._drawing = self._drawing, True
            try:
                yield
            finally:
                self._drawing = before

    def _rest(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def close(self) -> None:
        """Take the form away; what was launched goes on."""
        self._rest()
        super().close()

    # --- What is shown ---

    def _ask(self) -> None:
        snapshot = copy.copy(self.form)
        self._estimates.ask(lambda: estimate_html(snapshot.estimate()))

    def _say(self, errors: dict[str, str]) -> None:
        """Put each error beside its field."""
        for name, view in self._problems.items():
            put(view, alert(mend(errors) if name == "" else errors.get(name)))

    def _draw(self) -> None:
        """Show what the form holds."""
        form = self.form
        with self._changing():
            for name, widget in self.fields.items():
                if widget.value != getattr(form, name):
                    widget.value = getattr(form, name)
            self._languages.layout.display = "" if form.task == "translation" else "none"
            put(self._about, facts_html(form))
            views = form.metric_views
            self.metrics.children = [self._metric(view) for view in views]
        self._draw_models()

    def _metric(self, view: MetricView) -> _Choice:
        choice = self._metrics.setdefault(view.key, _Choice(partial(self._picked, "metrics", view.key), "250px"))
        choice.show(view.title, metric_line(view), on=view.key in self.form.metrics, off=bool(view.problem))
        return choice

    def _draw_models(self) -> None:
        with self._changing():
            views = self.form.model_views
            options = catalogue.choices(views)
            for name, select in self.filters.items():
                if select.options != (wanted := tuple(options[name].items())):
                    select.options = wanted
            provider, size = (self.filters[name].value or "" for name in ("provider", "size"))
            fitting = Filter(search=self.search.value, provider=provider, size=size)(views)
            self.models.children = [self._model(view) for view in fitting[:MOST_MODELS]]
        more = len(fitting) - MOST_MODELS
        said = "No model fits the search." if not fitting else f"{more} more: search for them." if more > 0 else ""
        put(self.hidden, tag("div", said, class_="lm-note"))
        self._draw_chosen()

    def _model(self, view: ModelView) -> _Choice:
        choice = self._models.setdefault(view.name, _Choice(partial(self._picked, "models", view.name)))
        line = model_line(view, self.form.launched.get(view.name, ""))
        choice.show(view.title, line, on=view.name in self.form.models, off=not view.usable)
        return choice

    def _draw_chosen(self) -> None:
        titles = {view.name: view.title for view in self.form.model_views}
        said = ", ".join(titles.get(key, key) for key in self.form.models)
        text = f"{len(self.form.models)} chosen: {said}" if said else "None chosen yet"
        put(self.chosen, tag("div", text, class_="lm-note"))

    def __repr__(self) -> str:
        # The default lists everything inside.
        return f"LaunchWidget({self.experiment.name if self.experiment else self.form.summary!r})"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        body = tag("div", sheet(), launch_summary(self.form, self.experiment), class_="lm")
        return {**bundle, "text/html": str(body), "text/plain": repr(self)}


class _Choice(VBox):  # type: ignore[misc]
    """A checkbox with a text under it.

    Args:
        picked: called with whether it is on.
        width: CSS; default that of the list.
    """

    def __init__(self, picked: Callable[[bool], None], width: str = "auto") -> None:
        self.box = Checkbox(indent=False, layout=Layout(width="auto"))
        self.text = HTML(layout=Layout(margin="-6px 0 4px 22px"))
        self.box.observe(lambda change: picked(change["new"]), "value")
        super().__init__(
            [self.box, self.text], layout=Layout(width=width, flex="0 0 auto", padding="0 8px", margin="0 0 4px")
        )

    def show(self, title: str, line: Html, *, on: bool, off: bool) -> None:
        """Draw it, where it differs."""
        for name, value in (("description", title), ("disabled", off), ("value", on)):
            if getattr(self.box, name) != value:
                setattr(self.box, name, value)
        put(self.text, tag("div", line, class_="lm-soft", style="font-size: 12px"))


def _attempted(work: Callable[[], object]) -> str | None:
    """Return why it failed, in words; None where it did not."""
    try:
        work()
    except LumigatorError as error:
        return in_words(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _folded(title: str, inside: ipywidgets.Widget) -> ipywidgets.Accordion:
    return ipywidgets.Accordion([inside], titles=[title], selected_index=None)
