"""The form that launches models: its input, what follows from the input, and the launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from lumigator_nb import metrics, models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.html import Html, card
from lumigator_nb.display.text import MISSING, count, joined
from lumigator_nb.errors import (
    ConflictError,
    InvalidInputError,
    LumigatorError,
    MissingFieldsError,
    UnknownMetricError,
    UnknownModelError,
)
from lumigator_nb.metrics.judges import criteria
from lumigator_nb.models.catalogue import TASKS
from lumigator_nb.presentation.launch import checks as checks
from lumigator_nb.presentation.launch import models as catalogue
from lumigator_nb.presentation.launch.estimating import LaunchEstimate, estimate_launch
from lumigator_nb.presentation.launch.metrics import MetricView, key_of, metric_views
from lumigator_nb.presentation.launch.models import ModelView
from lumigator_nb.presentation.markup import tiles
from lumigator_nb.services.datasets.sampling import rows_of
from lumigator_nb.services.experiments import check_metrics, localized
from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import (
    Classification,
    GenerationConfig,
    MetricSpec,
    Model,
    Summarization,
    Task,
    TextGeneration,
    Translation,
    language_code,
    language_name,
)

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

LANGUAGES: Final = (
    "Arabic", "Chinese", "Czech", "Danish", "Dutch", "English", "Finnish", "French", "German", "Greek", "Hebrew",
    "Hindi", "Hungarian", "Indonesian", "Italian", "Japanese", "Korean", "Norwegian", "Persian", "Polish",
    "Portuguese", "Romanian", "Russian", "Spanish", "Swedish", "Thai", "Turkish", "Ukrainian", "Vietnamese",
)  # fmt: skip
CRITERIA: Final = tuple(criteria.KNOWN)
MOST_DATASETS = 1000
# Fields from which others follow.
FOLLOWED: Final = ("dataset", "task", "source", "target", "labels")
# What an experiment's proposed name ends in.
_WORDS = {
    "summarization": "summaries", "translation": "translations", "text_generation": "answers",
    "classification": "labels",
}  # fmt: skip
_CREATED = "The experiment was created, but not all of its models could be launched. Launch again to continue."


@dataclass
class LaunchForm:
    """The user's input. Numbers are texts as typed; an empty text means the default.

    Attributes:
        ws: workspace.
        dataset: name of the dataset; `record` is the dataset itself, None if none is chosen.
        name: of the new experiment.
        task: kind of the task; `prompt`, `source`, `target` and `labels` are its settings. Labels stand on a line each,
            with a description after a colon where they have one.
        models: names of the chosen models; `added` holds those that the catalogue does not have.
        metrics: keys of the chosen metrics, as of :class:`MetricView`; `judges` holds those with settings.
        temperature, max_new_tokens, seed: generation settings of all models.
        sample: number of examples to draw at random; empty means all.
        budget: dollars that each model may spend.
        experiment: gets more models beside those already `launched`; None makes a new experiment.
        errors: errors of the last :meth:`submit` by field; "" is the whole form.
    """

    ws: Workspace
    dataset: str = ""
    name: str = ""
    task: str = "summarization"
    prompt: str = ""
    source: str = ""
    target: str = ""
    labels: str = ""
    models: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    temperature: str = ""
    max_new_tokens: str = ""
    seed: str = ""
    sample: str = ""
    budget: str = ""
    experiment: Experiment | None = None
    errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record: Dataset | None = None
        self.added: dict[str, Model] = {}
        self.judges: dict[str, MetricSpec] = {}
        self.launched: dict[str, str] = {}
        self.datasets: list[str] = []
        self._catalogue: dict[str, ModelView] = {}
        # The task of the experiment that the form began with, which may have settings that the form does not show.
        self._basis: Task | None = None
        # Fields that the user has filled in, which no longer follow from others.
        self._entered: set[str] = set()
        self.refresh()
        self._follow()

    @classmethod
    def into(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form that adds models to an experiment.

        Raises:
            NotFoundError: its dataset was deleted.
        """
        form = cls(ws, experiment=experiment)
        form._take(experiment)
        form.record = ws.datasets.of(experiment)
        form.dataset, form.name = form.record.name, experiment.name
        form.launched = {workflow.label: str(workflow.status) for workflow in ws.workflows.of(experiment)}
        return form

    @classmethod
    def like(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form of a new experiment with the task, metrics and models of another one.

        Raises:
            NotFoundError: its dataset was deleted.
        """
        form = cls(ws)
        form._take(experiment)
        form._entered.add("metrics")
        for workflow in ws.workflows.of(experiment):
            model = workflow.model
            # Repeats, and functions in place of models, cannot be entered in the form.
            if model.repeat == 1 and not models.recipe_of(model):
                form.added[model.label] = model
        form.models = tuple(form.added)
        form.sample = str(experiment.sample.n) if experiment.sample else ""
        form.change(dataset=ws.datasets.get(experiment.dataset_id).name)
        return form

    def _take(self, experiment: Experiment) -> None:
        task = self._basis = experiment.task
        self.task, self.prompt = task.kind, task.prompt or ""
        self.source, self.target = task.source or "", task.target or ""
        described = {label: f": {text}" for label, text in task.descriptions.items()}
        self.labels = "\n".join(f"{label}{described.get(label, '')}" for label in task.labels)
        keys: list[str] = []
        for spec in experiment.metrics:
            # Settings that follow from the task's language are not the user's.
            plain = localized([MetricSpec(name=spec.name)], task) == (spec,)
            if not plain:
                self.judges[key_of(spec)] = spec
            keys.append(spec.name if plain else key_of(spec))
        self.metrics = tuple(keys)

    def refresh(self) -> bool:
        """Read again which datasets, models and keys exist; return whether anything changed."""
        datasets = [dataset.name for dataset in self.ws.datasets.list(limit=MOST_DATASETS)]
        views = {view.name: view for view in catalogue.catalogue(self.ws)}
        changed = (datasets, views) != (self.datasets, self._catalogue)
        self.datasets, self._catalogue = datasets, views
        return changed

    @property
    def model_views(self) -> list[ModelView]:
        """Models for the task. Those that the user has added come first."""
        views = []
        for key, model in self.added.items():
            entry = self._catalogue.get(f"{model.provider}/{model.name}")
            if entry is not None and key == entry.name and not model.base_url:
                views.append(entry)
                continue
            place = catalogue.place_of(model.provider, model.base_url)
            maker = catalogue.maker_of(model.provider)
            price = catalogue.price_of(model)
            views.append(ModelView(key, key, model.provider, maker, TASKS, place, notes=model.base_url, price=price))
        entries = self._catalogue.values()
        return views + [entry for entry in entries if self.task in entry.tasks and entry.name not in self.added]

    @property
    def metric_views(self) -> list[MetricView]:
        """All metrics, judges first, with the reasons why some cannot be computed."""
        return metric_views(self.ws, self.record, self.built_task(strict=False), self.judges.values())

    def change(self, **values: Any) -> None:
        """Set fields. The experiment's name and the default metrics follow, unless the user has entered them.

        Raises:
            NotFoundError: there is no such dataset.
        """
        for name, value in values.items():
            setattr(self, name, value)
        self._entered |= values.keys() - {"dataset", "task"}
        if not values.keys().isdisjoint(FOLLOWED):
            self._follow()

    def _follow(self) -> None:
        """Update the fields that follow from dataset and task."""
        if self.experiment is not None:
            return
        if self.record is None or self.record.name != self.dataset:
            self.record = self.ws.datasets.get(self.dataset) if self.dataset else None
        possible = [view for view in self.metric_views if view.problem is None]
        entered = "metrics" in self._entered
        self.metrics = tuple(view.key for view in possible if (view.key in self.metrics if entered else view.usual))
        for_task = {view.name for view in self.model_views}
        self.models = tuple(key for key in self.models if key in for_task)
        if "name" in self._entered:
            return
        self.name = ""
        if self.record:
            stem = f"{self.dataset}-{_WORDS[self.task]}"
            number, self.name = 1, stem
            while checks.is_taken(self.ws, self.name):
                number += 1
                self.name = f"{stem}-{number}"

    def add_model(self, name: str, base_url: str = "") -> str:
        """Choose a model that the catalogue does not have, or one on the user's own server.

        Returns:
            Its key among :attr:`models`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot be launched; the message says why.
        """
        name, address = name.strip(), base_url.strip()
        if address and not address.startswith(("http://", "https://")):
            raise InvalidInputError(
                f"{address!r} is not the address of a server", "enter one such as http://localhost:8000/v1"
            )
        model = Model(name, base_url=address or None)
        checks.check_model(self.ws, model)
        if address or name not in self._catalogue:
            self.added = {**self.added, model.label: model}
        self.models = tuple(dict.fromkeys((*self.models, model.label)))
        return model.label

    def add_judge(self, criterion: str, model: str) -> str:
        """Choose a language model as the judge of a criterion. It replaces another judge of the same criterion.

        Returns:
            Its key among :attr:`metrics`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot judge; the message says why.
        """
        spec = metrics.Judge(criterion, model.strip())
        for judge_model in metrics.models_of([spec]):
            checks.check_model(self.ws, judge_model)
        key = key_of(spec)
        others = {name: other for name, other in self.judges.items() if other.title != spec.title}
        replaced = self.judges.keys() - others.keys()
        self.judges = {**others, key: spec}
        self.change(metrics=(key, *(name for name in self.metrics if name not in {key, *replaced})))
        return key

    def validate(self, *fields: str) -> dict[str, str]:
        """Return errors by field, for the given fields or all.

        Args:
            fields: names of fields; none checks all.
        """
        errors = {}
        for name in fields or _CHECKS:
            try:
                _CHECKS[name](self)
            except LumigatorError as error:
                errors[name] = checks.in_words(error)
        return errors

    def built_task(self, *, strict: bool = True) -> Task:
        """Return the task. Without `strict`, missing and invalid settings are left out.

        Raises:
            InvalidInputError: a setting is missing or wrong.
        """
        basis = self._basis if self._basis is not None and self._basis.kind == self.task else None
        shared: dict[str, Any] = {"template": basis.template, "shots": basis.shots} if basis else {}
        prompt = self.prompt.strip() or None
        try:
            if self.task == "translation":
                return Translation(self.source, self.target, prompt=prompt, **shared)
            if self.task == "text_generation":
                return TextGeneration(prompt or "", **shared)
            if self.task == "classification":
                names, descriptions = checks.labels(self.labels)
                multi = basis.multi_label if basis else False
                return Classification(names, descriptions=descriptions, multi_label=multi, prompt=prompt, **shared)
            return Summarization(prompt, **shared)
        except InvalidInputError:
            if strict:
                raise
            kind = cast('Literal["summarization", "translation", "text_generation", "classification"]', self.task)
            return Task(kind=kind, prompt=prompt or "", **shared)

    @property
    def specs(self) -> list[MetricSpec]:
        """The chosen metrics."""
        return [self.judges.get(key) or metrics.parse(key) for key in self.metrics]

    def chosen_models(self) -> list[Model]:
        """Return the models as they will be launched.

        Raises:
            InvalidInputError: a generation setting is not a number.
        """
        values = {name: _parsed(self, name) for name in checks.SETTINGS}
        settings = {name: value for name, value in values.items() if value is not None}
        chosen = []
        for key in self.models:
            added = self.added.get(key)
            if added is None:
                chosen.append(self.ws.models.get(key).model(self.built_task(strict=False), **settings))
            else:
                generation = GenerationConfig(**{**added.generation.model_dump(), **settings})
                chosen.append(added.model_copy(update={"generation": generation}))
        return chosen

    def estimate(self) -> LaunchEstimate | None:
        """Estimate the launch; None if dataset or models are missing, or a number is invalid. May take a second."""
        if self.record is None or not self.models or self.validate("sample", "budget", *checks.SETTINGS):
            return None
        specs = self.experiment.metrics if self.experiment else self.specs
        return estimate_launch(
            self.ws,
            self.record,
            self.built_task(strict=False),
            self.chosen_models(),
            n_examples=checks.whole(self.sample) or self.record.n_examples,
            specs=specs,
            budget=checks.amount(self.budget),
        )

    def submit(self) -> Experiment | None:
        """Create the experiment if it is new, and launch the models. Takes longer while a cluster starts.

        If no model can be launched, no experiment is created. If some can, the experiment stays, and submitting
        again launches the rest.

        Returns:
            The experiment; None if there are :attr:`errors`.
        """
        self.errors = self.validate()
        if self.errors:
            return None
        new = self.experiment is None
        try:
            assert self.record is not None  # validated above
            record = self.experiment or self.ws.experiments.create(
                self.name, dataset=self.record, task=self.built_task(), metrics=self.specs,
                max_samples=checks.whole(self.sample),
            )  # fmt: skip
        except LumigatorError as error:
            self.errors = {_field_of(error): checks.in_words(error)}
            return None
        try:
            fingerprints = {workflow.label: workflow.fingerprint for workflow in self.ws.workflows.of(record)}
            chosen = _distinguish(self.chosen_models(), fingerprints)
            self.ws.workflows.launch(record, chosen, budget=checks.amount(self.budget))
        except Exception as error:
            stays = new and not self._removed(record)
            if not isinstance(error, LumigatorError):
                raise
            text = checks.in_words(error)
            self.errors = {"": f"{_CREATED} {text}"} if stays else {_field_of(error): text}
            return None
        return record

    def _removed(self, record: Experiment) -> bool:
        """Delete a new experiment of which nothing was launched; else let the next submit add to it."""
        with suppress(LumigatorError):
            if not self.ws.workflows.of(record):
                self.ws.experiments.delete(record)
                return True
        self.experiment = record
        return False

    @property
    def summary(self) -> str:
        """The launch in one line."""
        return f"{self.dataset or 'no dataset'}, {count(len(self.models), 'model')}"


def _field_of(error: LumigatorError) -> str:
    """Return the field that an error of a launch belongs to; "" for the whole form."""
    if isinstance(error, ConflictError):
        return "name" if error.kind == "experiment" else ""
    if isinstance(error, (MissingFieldsError, UnknownMetricError)):
        return "metrics"
    return "models" if isinstance(error, UnknownModelError) else ""


def _distinguish(chosen: Sequence[Model], fingerprints: dict[str, str]) -> list[Model]:
    """Return models with a longer label for each that the experiment has with other settings already.

    Args:
        chosen: models to launch.
        fingerprints: of the experiment's models by label.
    """
    labelled = []
    for model in chosen:
        if fingerprints.get(model.label, model.fingerprint) != model.fingerprint:
            generation = model.generation
            settings = (
                f"temperature {generation.temperature:g}, {generation.max_new_tokens} tokens, seed {generation.seed}"
            )
            model = model.model_copy(update={"label": f"{model.label} ({settings})"})
        labelled.append(model)
    return labelled


def facts_html(form: LaunchForm) -> Html:
    """Return what an experiment fixes for models that are added to it: dataset, task, metrics."""
    record, dataset = form.experiment, form.record
    if record is None or dataset is None:
        return Html("")
    task = catalogue.TASK_TITLES[record.task.kind]
    if record.task.kind == "translation":
        task = f"{task}: {language_name(record.task.source)} to {language_name(record.task.target)}"
    if record.task.labels:
        task = f"{task}: {joined(record.task.labels)}"
    return tiles([
        ("Dataset", f"{dataset.name}, {count(dataset.n_examples, 'example')}"),
        ("Task", task),
        ("Metrics", ", ".join(spec.title for spec in record.metrics)),
    ])  # fmt: skip


def launch_summary(form: LaunchForm, experiment: Experiment | None) -> Html:
    """Return what a reader without a kernel sees in place of the form."""
    facts = [
        ("Dataset", form.dataset or MISSING),
        ("Task", catalogue.TASK_TITLES[form.task]),
        ("Models", ", ".join(form.models) or MISSING),
        ("Metrics", ", ".join(view.title for view in form.metric_views if view.key in form.metrics) or MISSING),
    ]
    title = f"Launched: {experiment.name}" if experiment else "Launch models"
    return card(title, facts)


# --- Checks of the fields: each raises the error to show beside its field ---


def _parsed(form: LaunchForm, name: str) -> float | None:
    return (checks.whole if checks.SETTINGS[name] is int else checks.amount)(getattr(form, name))


def _dataset(form: LaunchForm) -> None:
    if form.record is None:
        raise InvalidInputError("choose a dataset")


def _name(form: LaunchForm) -> None:
    if form.experiment is not None:
        return
    if not form.name.strip():
        raise InvalidInputError("enter a name for the experiment")
    if checks.is_taken(form.ws, checked_name(form.name)):
        raise InvalidInputError("an experiment has this name already", "choose another name")


def _prompt(form: LaunchForm) -> None:
    if form.task == "text_generation" and not form.prompt.strip():
        raise InvalidInputError(
            "enter a prompt", "say what the model should do, such as: Answer the question in one sentence"
        )


def _labels(form: LaunchForm) -> None:
    if form.task == "classification":
        form.built_task()


def _source(form: LaunchForm) -> None:
    if form.task == "translation":
        _code(form.source)


def _target(form: LaunchForm) -> None:
    if form.task != "translation":
        return
    target = _code(form.target)
    try:
        source = _code(form.source)
    except InvalidInputError:
        return  # reported beside the other field
    if target == source:
        raise InvalidInputError("this is the language to translate from", "enter another language")


def _code(language: str) -> str:
    if not language.strip():
        raise InvalidInputError("enter a language", "such as German, or de")
    return language_code(language)


def _models(form: LaunchForm) -> None:
    if not form.models:
        raise InvalidInputError("choose at least one model")
    views = {view.name: view for view in form.model_views}
    for key in form.models:
        view = views.get(key)
        if view and view.missing and view.missing.blocks:
            raise InvalidInputError(f"{view.title}: {view.missing.text}", view.missing.remedy)
    # With invalid settings there are no models to check; the settings have their own errors.
    if not form.validate(*checks.SETTINGS):
        for model in form.chosen_models():
            checks.check_model(form.ws, model)


def _metrics(form: LaunchForm) -> None:
    if form.experiment is not None:
        return
    if not form.metrics:
        raise InvalidInputError("choose at least one metric")
    if form.record is not None:
        task, here = form.built_task(strict=False), form.ws.cluster.head is not None
        check_metrics(localized(form.specs, task), form.record, task, here=here)


def _sample(form: LaunchForm) -> None:
    number = checks.whole(form.sample)
    if number is not None and form.record is not None:
        rows_of(number, form.record.n_examples)


def _setting(name: str, form: LaunchForm) -> None:
    value = _parsed(form, name)
    settings: dict[str, Any] = {} if value is None else {name: value}
    Model("any/model", **settings)  # which checks the range


_CHECKS: Final[dict[str, Callable[[LaunchForm], object]]] = {
    "dataset": _dataset, "name": _name, "prompt": _prompt, "labels": _labels, "source": _source, "target": _target,
    "models": _models, "metrics": _metrics, "sample": _sample, "budget": lambda form: checks.amount(form.budget),
    **{name: partial(_setting, name) for name in checks.SETTINGS},
}  # fmt: skip
