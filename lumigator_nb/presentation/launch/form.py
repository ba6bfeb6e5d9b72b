"""The form that launches models: what a reader enters, what follows from it, and the launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from lumigator_nb import metrics, models
from lumigator_nb.database.records import Dataset, Experiment
from lumigator_nb.display.html import Html, card
from lumigator_nb.display.text import MISSING, count
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
_WORDS = {"summarization": "summaries", "translation": "translations", "text_generation": "answers"}
_CREATED = "The experiment was created, but not all of its models could be launched. Launch again to go on."


@dataclass
class LaunchForm:
    """What a reader has entered; numbers are texts as they were typed, empty for the default.

    Attributes:
        ws: workspace.
        dataset: name of the dataset; `record` is the dataset itself, None where none is chosen.
        name: of the new experiment.
        task: its kind; `prompt`, `source` and `target` are its settings.
        models: names of those that are chosen; `added` are those that the catalogue does not have.
        metrics: keys of those that are chosen, as of :class:`MetricView`; `judges` are those with settings.
        sample: how many examples are drawn at random; empty takes all.
        budget: dollars that each model may spend.
        experiment: one that is there already and gets more models, beside those that were `launched`; None makes a
            new one.
        errors: by field what the last :meth:`submit` found; "" is the whole form.
    """

    ws: Workspace
    dataset: str = ""
    name: str = ""
    task: str = "summarization"
    prompt: str = ""
    source: str = ""
    target: str = ""
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
        self._basis: Task | None = None
        self._entered: set[str] = set()
        self.refresh()
        self._follow()

    @classmethod
    def into(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form that puts more models into an experiment.

        Raises:
            NotFoundError: its dataset is gone.
        """
        form = cls(ws, experiment=experiment)
        form._take(experiment)
        form.record = ws.datasets.of(experiment)
        form.dataset, form.name = form.record.name, experiment.name
        form.launched = {each.label: str(each.status) for each in ws.workflows.of(experiment)}
        return form

    @classmethod
    def like(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form of a new experiment with the task, metrics and models of another one.

        Raises:
            NotFoundError: its dataset is gone.
        """
        form = cls(ws)
        form._take(experiment)
        form._entered.add("metrics")
        for workflow in ws.workflows.of(experiment):
            model = workflow.model
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
        found: list[str] = []
        for spec in experiment.metrics:
            # What the language of the task has added is not a reader's setting.
            plain = localized([MetricSpec(name=spec.name)], task) == (spec,)
            if not plain:
                self.judges[key_of(spec)] = spec
            found.append(spec.name if plain else key_of(spec))
        self.metrics = tuple(found)

    def refresh(self) -> bool:
        """Look again at what there is to choose, datasets, models, keys; return whether it is something else."""
        datasets = [each.name for each in self.ws.datasets.list(limit=MOST_DATASETS)]
        found = {each.name: each for each in catalogue.catalogue(self.ws)}
        changed = (datasets, found) != (self.datasets, self._catalogue)
        self.datasets, self._catalogue = datasets, found
        return changed

    @property
    def model_views(self) -> list[ModelView]:
        """Models for the task, those that the reader has added first."""
        own = [self._added_view(key, model) for key, model in self.added.items()]
        known = [view for view in self._catalogue.values() if self.task in view.tasks and view.name not in self.added]
        return own + known

    def _added_view(self, key: str, model: Model) -> ModelView:
        known = self._catalogue.get(f"{model.provider}/{model.name}")
        if known is not None and key == known.name and not model.base_url:
            return known
        place = catalogue.place_of(model.provider, model.base_url)
        maker = catalogue.maker_of(model.provider)
        price = catalogue.price_of(model)
        return ModelView(key, key, model.provider, maker, TASKS, place, notes=model.base_url, price=price)

    @property
    def metric_views(self) -> list[MetricView]:
        """All metrics, judges first, with the reasons why some cannot be computed."""
        return metric_views(self.ws, self.record, self.built_task(strict=False), self.judges.values())

    def change(self, **values: Any) -> None:
        """Take what was entered; what nobody has entered follows: the experiment's name, the usual metrics.

        Raises:
            NotFoundError: there is no such dataset.
        """
        for name, value in values.items():
            setattr(self, name, value)
        self._entered |= values.keys() - {"dataset", "task"}
        if not values.keys().isdisjoint(("dataset", "task", "source", "target")):
            self._follow()

    def _follow(self) -> None:
        if self.experiment is not None:
            return
        if self.record is None or self.record.name != self.dataset:
            self.record = self.ws.datasets.get(self.dataset) if self.dataset else None
        possible = [view for view in self.metric_views if view.problem is None]
        entered = "metrics" in self._entered
        self.metrics = tuple(view.key for view in possible if (view.key in self.metrics if entered else view.usual))
        shown = {view.name for view in self.model_views}
        self.models = tuple(key for key in self.models if key in shown)
        if "name" not in self._entered:
            self.name = self._proposed_name() if self.record else ""

    def _proposed_name(self) -> str:
        stem = f"{self.dataset}-{_WORDS[self.task]}"
        number, name = 1, stem
        while checks.is_taken(self.ws, name):
            number += 1
            name = f"{stem}-{number}"
        return name

    def add_model(self, name: str, base_url: str = "") -> str:
        """Choose a model that the catalogue does not have, or one on a server of one's own.

        Returns:
            Its key among :attr:`models`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot work; the message says why.
        """
        name, address = name.strip(), base_url.strip()
        if address and not address.startswith(("http://", "https://")):
            raise InvalidInputError(f"{address!r} is not the address of a server", "write http://localhost:8000/v1")
        model = Model(name, base_url=address or None)
        checks.check_model(self.ws, model)
        if address or name not in self._catalogue:
            self.added = {**self.added, model.label: model}
        self.models = tuple(dict.fromkeys((*self.models, model.label)))
        return model.label

    def add_judge(self, criterion: str, model: str) -> str:
        """Choose a language model as a judge of one criterion; it takes the place of another one for the same.

        Returns:
            Its key among :attr:`metrics`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot judge; the message says why.
        """
        spec = metrics.Judge(criterion, model.strip())
        for asked in metrics.models_of([spec]):
            checks.check_model(self.ws, asked)
        key = key_of(spec)
        others = {name: other for name, other in self.judges.items() if other.title != spec.title}
        replaced = self.judges.keys() - others.keys()
        self.judges = {**others, key: spec}
        self.change(metrics=(key, *(name for name in self.metrics if name not in {key, *replaced})))
        return key

    def validate(self, *fields: str) -> dict[str, str]:
        """Return by field what is wrong, in words; only of the given fields, where some are given."""
        return _problems(self, *fields)

    def built_task(self, *, strict: bool = True) -> Task:
        """Return the task; not `strict`, what is missing or wrong is left out.

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
            return Summarization(prompt, **shared)
        except InvalidInputError:
            if strict:
                raise
            kind = cast('Literal["summarization", "translation", "text_generation"]', self.task)
            return Task(kind=kind, prompt=prompt or "", **shared)

    @property
    def specs(self) -> list[MetricSpec]:
        """The metrics that are chosen."""
        return [self.judges.get(key) or metrics.parse(key) for key in self.metrics]

    def chosen_models(self) -> list[Model]:
        """Return the models as they will be launched.

        Raises:
            InvalidInputError: a generation setting is no number.
        """
        given = _settings(self)
        return [self._model(key, given) for key in self.models]

    def _model(self, key: str, given: dict[str, float]) -> Model:
        own = self.added.get(key)
        if own is None:
            return self.ws.models.get(key).model(self.built_task(strict=False), **given)
        generation = GenerationConfig(**{**own.generation.model_dump(), **given})
        return own.model_copy(update={"generation": generation})

    def estimate(self) -> LaunchEstimate | None:
        """Return what the launch would take; None where dataset or models are still missing. Takes a moment."""
        if self.record is None or not self.models or self.validate("sample", "budget", *checks.SETTINGS):
            return None
        specs = self.experiment.metrics if self.experiment else self.specs
        return estimate_launch(
            self.ws,
            self.record,
            self.built_task(strict=False),
            self.chosen_models(),
            n_examples=checks.whole(self.sample) or self.record.n_examples,
            judges=len(metrics.models_of(specs)),
            budget=checks.amount(self.budget),
        )

    def submit(self) -> Experiment | None:
        """Create the experiment, unless there is one, and launch the models. Takes a while where a cluster starts.

        Where nothing could be launched nothing is created. Where a part could, the experiment stays, and submitting
        again goes on with the rest.

        Returns:
            The experiment; None where :attr:`errors` says why not.
        """
        self.errors = self.validate()
        if self.errors:
            return None
        new = self.experiment is None
        try:
            record = self.experiment or self._created()
        except LumigatorError as error:
            self.errors = {_field_of(error): checks.in_words(error)}
            return None
        try:
            known = {each.label: each.fingerprint for each in self.ws.workflows.of(record)}
            chosen = _told_apart(self.chosen_models(), known)
            self.ws.workflows.launch(record, chosen, budget=checks.amount(self.budget))
        except Exception as error:
            kept = new and self._stays(record)
            if not isinstance(error, LumigatorError):
                raise
            text = checks.in_words(error)
            self.errors = {"": f"{_CREATED} {text}"} if kept else {_field_of(error): text}
            return None
        return record

    def _created(self) -> Experiment:
        assert self.record is not None  # validated before
        return self.ws.experiments.create(
            self.name, dataset=self.record, task=self.built_task(), metrics=self.specs,
            max_samples=checks.whole(self.sample),
        )  # fmt: skip

    @property
    def summary(self) -> str:
        """What would be launched, in a line."""
        return f"{self.dataset or 'no dataset'}, {count(len(self.models), 'model')}"

    def _stays(self, record: Experiment) -> bool:
        """Take a new experiment away again where nothing of it has begun; else go on with it next time."""
        with suppress(LumigatorError):
            if not self.ws.workflows.of(record):
                self.ws.experiments.delete(record)
                return False
        self.experiment = record
        return True


def _field_of(error: LumigatorError) -> str:
    if isinstance(error, ConflictError):
        return "name" if error.kind == "experiment" else ""
    if isinstance(error, (MissingFieldsError, UnknownMetricError)):
        return "metrics"
    return "models" if isinstance(error, UnknownModelError) else ""


def _told_apart(chosen: Sequence[Model], known: dict[str, str]) -> list[Model]:
    """Give another label to models that are there already with other settings."""
    found = []
    for model in chosen:
        if known.get(model.label, model.fingerprint) != model.fingerprint:
            own = model.generation
            settings = f"temperature {own.temperature:g}, {own.max_new_tokens} tokens, seed {own.seed}"
            model = model.model_copy(update={"label": f"{model.label} ({settings})"})
        found.append(model)
    return found


def facts_html(form: LaunchForm) -> Html:
    """Return what is settled where models are added to an experiment: dataset, task, metrics."""
    record, dataset = form.experiment, form.record
    if record is None or dataset is None:
        return Html("")
    task = catalogue.TASK_TITLES[record.task.kind]
    if record.task.kind == "translation":
        task = f"{task}: {language_name(record.task.source)} to {language_name(record.task.target)}"
    return tiles([
        ("Dataset", f"{dataset.name}, {count(dataset.n_examples, 'example')}"),
        ("Task", task),
        ("Metrics", ", ".join(spec.title for spec in record.metrics)),
    ])  # fmt: skip


def launch_summary(form: LaunchForm, experiment: Experiment | None) -> Html:
    """Return what stands in the place of the form where there is no kernel."""
    facts = [
        ("Dataset", form.dataset or MISSING),
        ("Task", catalogue.TASK_TITLES[form.task]),
        ("Models", ", ".join(form.models) or MISSING),
        ("Metrics", ", ".join(view.title for view in form.metric_views if view.key in form.metrics) or MISSING),
    ]
    title = f"Launched: {experiment.name}" if experiment else "Launch models"
    return card(
        title, facts, "Launched from here; run the cell for another." if experiment else "Run the cell to launch."
    )


def _settings(form: LaunchForm) -> dict[str, float]:
    """Return the generation settings that were entered.

    Raises:
        InvalidInputError: one is no number.
    """
    entered = {name: _parsed(form, name) for name in checks.SETTINGS}
    return {name: value for name, value in entered.items() if value is not None}


def _parsed(form: LaunchForm, name: str) -> float | None:
    return (checks.whole if checks.SETTINGS[name] is int else checks.amount)(getattr(form, name))


def _problems(form: LaunchForm, *fields: str) -> dict[str, str]:
    """Return by field what is wrong, in words; only of the given fields, where some are given."""
    checkers: dict[str, Callable[[LaunchForm], object]] = {
        "dataset": _dataset, "name": _name, "prompt": _prompt, "source": _source, "target": _target,
        "models": _models, "metrics": _metrics, "sample": _sample, "budget": lambda form: checks.amount(form.budget),
        **{name: partial(_setting, name) for name in checks.SETTINGS},
    }  # fmt: skip
    found = {}
    for name in fields or checkers:
        try:
            checkers[name](form)
        except LumigatorError as error:
            found[name] = checks.in_words(error)
    return found


def _dataset(form: LaunchForm) -> None:
    if form.record is None:
        raise InvalidInputError("choose a dataset")


def _name(form: LaunchForm) -> None:
    if form.experiment is not None:
        return
    if not form.name.strip():
        raise InvalidInputError("give the experiment a name")
    if checks.is_taken(form.ws, checked_name(form.name)):
        raise InvalidInputError("an experiment has this name already", "take another one")


def _prompt(form: LaunchForm) -> None:
    if form.task == "text_generation" and not form.prompt.strip():
        raise InvalidInputError("say what the model should do", "such as: Answer the question in one sentence")


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
        return  # told beside the other field
    if target == source:
        raise InvalidInputError("this is the language to translate from", "name another one")


def _code(language: str) -> str:
    if not language.strip():
        raise InvalidInputError("name a language", "such as German, or de")
    return language_code(language)


def _models(form: LaunchForm) -> None:
    if not form.models:
        raise InvalidInputError("choose at least one model")
    views = {view.name: view for view in form.model_views}
    for key in form.models:
        view = views.get(key)
        if view and view.missing and view.missing.blocks:
            raise InvalidInputError(f"{view.title}: {view.missing.text}", view.missing.remedy)
    if not _problems(form, *checks.SETTINGS):
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
    given: dict[str, Any] = {} if value is None else {name: value}
    Model("any/model", **given)
