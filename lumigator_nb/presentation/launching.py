"""The form that launches models: what a reader enters, what follows from it, what is wrong with it, and the launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lumigator_nb import metrics, models
from lumigator_nb.display.text import count
from lumigator_nb.errors import ConflictError, InvalidInputError, LumigatorError, MissingFieldsError, UnknownModelError
from lumigator_nb.metrics import criteria
from lumigator_nb.models.catalogue import TASKS
from lumigator_nb.presentation import models as catalogue
from lumigator_nb.presentation.estimating import LaunchEstimate, estimate_launch
from lumigator_nb.presentation.metrics import MetricView, key_of, metric_views
from lumigator_nb.presentation.models import ModelView
from lumigator_nb.records import Dataset, Experiment
from lumigator_nb.services.drawing import rows_of
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
_SETTINGS: Final[dict[str, type[int] | type[float]]] = {"temperature": float, "max_new_tokens": int, "seed": int}


@dataclass
class LaunchForm:
    """What a reader has entered; numbers are texts as they were typed, empty for the default.

    Attributes:
        ws: workspace.
        dataset: name of the dataset.
        name: of the new experiment.
        task: its kind; `prompt`, `source` and `target` are its settings.
        models: names of those that are chosen.
        metrics: keys of those that are chosen, as of :class:`MetricView`.
        sample: how many examples are drawn at random; empty takes all.
        budget: dollars that each model may spend.
        experiment: one that is there already and gets more models; None makes a new one.
        errors: by field what the last :meth:`submit` or :meth:`validate` found; "" is the whole form.
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
        self._added: dict[str, Model] = {}
        self._judges: dict[str, MetricSpec] = {}
        self._basis: Task | None = None
        self._entered: set[str] = set()
        self._record: Dataset | None = None
        self.refresh()
        self._follow()

    # --- Where it begins ---

    @classmethod
    def into(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form that puts more models into an experiment.

        Raises:
            NotFoundError: the experiment or its dataset is gone.
        """
        form = cls(ws, experiment=experiment)
        form._take(experiment)
        form._record = ws.datasets.get(experiment.dataset_id)
        form.dataset = form._record.name
        return form

    @classmethod
    def like(cls, ws: Workspace, experiment: Experiment) -> LaunchForm:
        """Return the form of a new experiment with the settings, metrics and models of another one.

        Raises:
            NotFoundError: the experiment or its dataset is gone.
        """
        form = cls(ws)
        form._take(experiment)
        form._entered |= {"metrics"}
        form.change(dataset=ws.datasets.get(experiment.dataset_id).name)
        for workflow in ws.workflows.of(experiment):
            model = workflow.model
            if model.repeat == 1 and model.provider not in (models.RECORDED, "function"):
                form._added[model.label] = model
        form.models = tuple(form._added)
        return form

    def _take(self, experiment: Experiment) -> None:
        task = self._basis = experiment.task
        self.task, self.prompt = task.kind, task.prompt or ""
        self.source, self.target = task.source or "", task.target or ""
        for spec in experiment.metrics:
            # What the language of the task added is added again.
            if localized([MetricSpec(name=spec.name)], task) != (spec,):
                self._judges[key_of(spec)] = spec
        plain = [spec.name for spec in experiment.metrics if key_of(spec) not in self._judges]
        self.metrics = (*self._judges, *plain)

    # --- What there is to choose ---

    def refresh(self) -> None:
        """Look again at what there is: datasets, models, keys."""
        self.datasets = [each.name for each in self.ws.datasets.list(limit=MOST_DATASETS)]
        self._catalogue = {each.name: each for each in catalogue.catalogue(self.ws)}

    @property
    def record(self) -> Dataset | None:
        """The dataset that is chosen; None where there is none."""
        return self._record

    @property
    def model_views(self) -> list[ModelView]:
        """Models for the task, those that the reader has added first."""
        own = [self._own_view(key, model) for key, model in self._added.items()]
        return own + [
            view for key, view in self._catalogue.items() if self.task in view.tasks and key not in self._added
        ]

    @property
    def metric_views(self) -> list[MetricView]:
        """All metrics, judges first, with the reasons why some cannot be computed."""
        return metric_views(self.ws, self._record, self.built_task(strict=False), self._judges.values())

    def _own_view(self, key: str, model: Model) -> ModelView:
        known = self._catalogue.get(key)
        if known is not None and not model.base_url:
            return known
        place = catalogue.place_of(model.provider, model.base_url)
        maker = catalogue.maker_of(model.provider)
        price = catalogue.price_of(model)
        return ModelView(key, key, model.provider, maker, TASKS, place, notes="added by you", price=price)

    # --- What a reader does ---

    def change(self, **values: Any) -> None:
        """Take what was entered; what nobody has entered follows: the experiment's name, the metrics.

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
        if self._record is None or self._record.name != self.dataset:
            self._record = self.ws.datasets.get(self.dataset) if self.dataset else None
        views = self.metric_views
        if "metrics" in self._entered:
            possible = {view.key for view in views if view.problem is None}
            self.metrics = tuple(key for key in self.metrics if key in possible)
        else:
            self.metrics = tuple(view.key for view in views if view.usual and view.problem is None)
        shown = {view.name for view in self.model_views}
        self.models = tuple(key for key in self.models if key in shown)
        if "name" not in self._entered:
            self.name = self._proposed_name() if self._record else ""

    def _proposed_name(self) -> str:
        stem = f"{self.dataset}-{_WORDS[self.task]}"
        number, name = 1, stem
        while self._is_taken(name):
            number += 1
            name = f"{stem}-{number}"
        return name

    def _is_taken(self, name: str) -> bool:
        found = self.ws.experiments.find(name)
        return found is not None and found.name == name

    def add_model(self, name: str, base_url: str = "") -> str:
        """Choose a model that the catalogue does not have, or one on a server of one's own.

        Returns:
            Its key among :attr:`models`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot work; the message says why.
        """
        name, address = name.strip(), base_url.strip()
        if address and not address.startswith(("http://", "https://")):
            raise InvalidInputError(f"{address!r} is no address of a server", "such as http://localhost:8000/v1")
        model = Model(name, base_url=address or None)
        self._check_model(model)
        if address or name not in self._catalogue:
            self._added[model.label] = model
        self.models = tuple(dict.fromkeys((*self.models, model.label)))
        return model.label

    def add_judge(self, criterion: str, model: str) -> str:
        """Choose a language model as a judge of one criterion.

        Returns:
            Its key among :attr:`metrics`.

        Raises:
            UnknownModelError, InvalidInputError, ConfigurationError: it cannot judge; the message says why.
        """
        spec = metrics.Judge(criterion, model.strip())
        for asked in metrics.models_of([spec]):
            self._check_model(asked)
        same = {key for key, other in self._judges.items() if other.title == spec.title}
        self._judges = {key: other for key, other in self._judges.items() if key not in same} | {key_of(spec): spec}
        self.metrics = tuple(dict.fromkeys((key_of(spec), *(key for key in self.metrics if key not in same))))
        self._entered.add("metrics")
        return key_of(spec)

    # --- What is wrong with it ---

    def validate(self, *fields: str) -> dict[str, str]:
        """Return by field what is wrong, in words; only of the given fields, where some are given."""
        checks: dict[str, Callable[[], object]] = {
            "dataset": self._check_dataset, "name": self._check_name, "prompt": self._check_prompt,
            "source": lambda: self._check_language(self.source), "target": self._check_target,
            "models": self._check_models, "metrics": self._check_metrics, "sample": self._check_sample,
            "budget": lambda: self._number("budget", float), **{name: self._check_setting(name) for name in _SETTINGS},
        }  # fmt: skip
        found = {}
        for name in fields or checks:
            try:
                checks[name]()
            except LumigatorError as error:
                found[name] = in_words(error)
        return found

    def _check_dataset(self) -> None:
        if self._record is None:
            raise InvalidInputError("choose a dataset")

    def _check_name(self) -> None:
        if self.experiment is None and self._is_taken(checked_name(self.name)):
            raise InvalidInputError(f"an experiment is called {self.name.strip()!r} already", "take another name")

    def _check_prompt(self) -> None:
        if self.task == "text_generation" and not self.prompt.strip():
            raise InvalidInputError("say what the model should do", "such as: Answer the question in one sentence.")

    def _check_language(self, language: str) -> str | None:
        if self.task != "translation":
            return None
        if not language.strip():
            raise InvalidInputError("name a language", "such as German, or de")
        return language_code(language)

    def _check_target(self) -> None:
        code = self._check_language(self.target)
        with suppress(LumigatorError):  # told beside the other field
            if code is not None and code == self._check_language(self.source):
                raise _SameLanguageError
        return

    def _check_models(self) -> None:
        if not self.models:
            raise InvalidInputError("choose one model at least")
        for key in self.models:
            view = self._catalogue.get(key)
            if key not in self._added and view is not None and view.missing is not None and not view.usable:
                raise InvalidInputError(f"{view.title}: {view.missing.text}", view.missing.remedy)
            self._check_model(self._model(key))

    def _check_model(self, model: Model) -> None:
        models.check(model)
        self.ws.workflows.submitter.check_keys([model])

    def _check_metrics(self) -> None:
        if self.experiment is not None:
            return
        if not self.metrics:
            raise InvalidInputError("choose one metric at least")
        if self._record is not None:
            task, here = self.built_task(strict=False), self.ws.cluster.head is not None
            check_metrics(localized(self._specs(), task), self._record, task, here=here)

    def _check_sample(self) -> None:
        number = self._number("sample", int)
        if number is not None and self._record is not None:
            rows_of(int(number), self._record.n_examples)

    def _check_setting(self, name: str) -> Callable[[], object]:
        def check() -> None:
            value = self._number(name, _SETTINGS[name])
            if value is not None:
                Model("baseline/copy", **{name: value})

        return check

    def _number(self, name: str, kind: type[int] | type[float]) -> float | None:
        text = str(getattr(self, name)).strip().replace(",", "" if kind is int else ".")
        if not text:
            return None
        try:
            value = kind(text)
        except ValueError:
            sort = "a whole number" if kind is int else "a number"
            raise InvalidInputError(f"{text!r} is not {sort}", "leave it empty for the default") from None
        if not 0 <= value < float("inf"):
            raise InvalidInputError("it cannot be below 0" if value < 0 else f"{text!r} is no amount")
        return value

    # --- What it makes ---

    def built_task(self, *, strict: bool = True) -> Task:
        """Return the task; not `strict`, what is not entered yet is left out.

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
            return Task(kind="summarization" if self.task == "summarization" else self.task)  # type: ignore[arg-type]

    def chosen_models(self) -> list[Model]:
        """Return the models as they will be launched."""
        return [self._model(key) for key in self.models]

    def _model(self, key: str) -> Model:
        given = {name: value for name, kind in _SETTINGS.items() if (value := self._number(name, kind)) is not None}
        own = self._added.get(key)
        if own is not None:
            generation = GenerationConfig(**{**own.generation.model_dump(), **given})
            return own.model_copy(update={"generation": generation})
        return self.ws.models.get(key).model(self.built_task(strict=False), **given)

    def _specs(self) -> list[MetricSpec]:
        return [self._judges.get(key) or metrics.parse(key) for key in self.metrics]

    def estimate(self) -> LaunchEstimate | None:
        """Return what the launch would take; None where dataset or models are still missing. Takes a moment."""
        if self._record is None or not self.models or self.validate("sample", "budget", *_SETTINGS):
            return None
        number = self._number("sample", int)
        specs = self.experiment.metrics if self.experiment else self._specs()
        return estimate_launch(
            self.ws,
            self._record,
            self.built_task(strict=False),
            self.chosen_models(),
            n_examples=self._record.n_examples if number is None else int(number),
            judges=len(metrics.models_of(specs)),
            budget=self._number("budget", float),
        )

    def submit(self) -> Experiment | None:
        """Create the experiment, unless there is one, and launch the models. Takes a while where a cluster starts.

        Where nothing could be launched nothing is created. Where a part could, the experiment stays; submitting
        again goes on with the rest.

        Returns:
            The experiment; None where :attr:`errors` says why not.
        """
        self.errors = self.validate()
        if self.errors:
            return None
        try:
            record = self.experiment or self._created()
            self._launch(record)
        except LumigatorError as error:
            self.errors = {self._field_of(error): in_words(error)}
            return None
        return record

    def _created(self) -> Experiment:
        assert self._record is not None
        number = self._number("sample", int)
        dataset = self._record
        if number is not None and int(number) < dataset.n_examples:
            dataset = self.ws.datasets.draw(dataset, int(number))
        task = self.built_task()
        return self.ws.experiments.create(self.name, dataset=dataset, task=task, metrics=self._specs())

    def _launch(self, record: Experiment) -> None:
        try:
            chosen = _told_apart(self.chosen_models(), {each.label: each.fingerprint for each in self._begun(record)})
            self.ws.workflows.launch(record, chosen, budget=self._number("budget", float))
        except BaseException as error:
            if self.experiment is None:
                self._undo_or_keep(record, error)
            raise

    def _begun(self, record: Experiment) -> Sequence[Any]:
        return self.ws.workflows.of(record)

    def _undo_or_keep(self, record: Experiment, error: BaseException) -> None:
        with suppress(LumigatorError):
            begun = self._begun(record)
            if not begun:
                self.ws.experiments.delete(record)
                return
        self.experiment = record
        if isinstance(error, LumigatorError):
            error.message = f"the experiment was created, but its models could not all be launched: {error.message}"
            error.hint = "launch again to go on with the rest"

    def _field_of(self, error: LumigatorError) -> str:
        if isinstance(error, ConflictError):
            return {"experiment": "name", "dataset": "sample"}.get(error.kind, "")
        return "models" if isinstance(error, UnknownModelError) else "metrics" if _is_of_metrics(error) else ""

    @property
    def summary(self) -> str:
        """What would be launched, in a line."""
        examples = self._record.n_examples if self._record else 0
        number = str(self.sample).strip()
        drawn = f"{number} of {count(examples, 'example')}" if number else count(examples, "example")
        return f"{self.dataset or 'no dataset'}: {drawn}, {count(len(self.models), 'model')}"


class _SameLanguageError(Exception):
    pass


def _is_of_metrics(error: LumigatorError) -> bool:
    return isinstance(error, MissingFieldsError)


def _told_apart(chosen: Sequence[Model], known: dict[str, str]) -> list[Model]:
    """Give models another label that are there already with other settings."""
    found = []
    for model in chosen:
        label = model.label
        if known.get(label, model.fingerprint) != model.fingerprint:
            settings = model.generation
            label = f"{label} (temperature {settings.temperature:g}, {settings.max_new_tokens} tokens, seed {settings.seed})"
        found.append(model.model_copy(update={"label": label}))
    return found


def in_words(error: LumigatorError) -> str:
    """Return an error as it stands beside a field: a sentence, and what to do about it."""
    text = error.message[:1].upper() + error.message[1:]
    return f"{text}. {error.hint[:1].upper()}{error.hint[1:]}" if error.hint else text
