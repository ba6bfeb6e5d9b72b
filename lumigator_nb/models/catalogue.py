"""The catalogue of suggested models: their tasks, sizes, licences, needs and default settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import base
from lumigator_nb.specs import GenerationConfig, Model, Task, Value

BUNDLED = Path(__file__).with_name("catalogue.yaml")
TASKS = ("summarization", "translation", "text_generation", "classification")
TaskKind = Literal["summarization", "translation", "text_generation", "classification"]


class CatalogueModel(Value):
    """Facts about a model. None means that a fact is unknown.

    Attributes:
        name: ``provider/name``, as :class:`Model` takes it.
        display_name: the name that screens show.
        tasks: the tasks that the model is suited for. What generates any text classifies, too.
        parameters: number of weights.
        size_gb: size of the weights on disk, in GB.
        licence: SPDX identifier, or the licence's own name.
        context_tokens: most tokens of prompt and answer together; of each for a sequence-to-sequence model.
        link: the model's page.
        api_key: environment variable with its API key.
        needs: extra of this package, or of any-llm, that the model needs.
        base_url: default address of its server.
        defaults: generation settings by task.
        languages: BCP 47 codes; empty if there are too many to list.
        notes: one sentence.
        found: where the model was found on this machine: "server", "hub cache" or "file"; None for a suggestion.
    """

    # Paths may have spaces inside.
    name: str = Field(pattern=r"^[a-z_]+/\S(.*\S)?$")
    display_name: str
    tasks: tuple[TaskKind, ...] = Field(min_length=1)
    parameters: int | None = Field(default=None, gt=0)
    size_gb: float | None = Field(default=None, gt=0)
    licence: str | None = None
    context_tokens: int | None = Field(default=None, gt=0)
    link: str | None = Field(default=None, pattern=r"^https://")
    api_key: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    needs: str | None = None
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    defaults: dict[str, dict[str, Any]] = Field(default_factory=dict)
    languages: tuple[str, ...] = ()
    notes: str | None = None
    found: Literal["server", "hub cache", "file"] | None = None

    @field_validator("tasks")
    @classmethod
    def _with_classification(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*tasks, "classification"))) if "text_generation" in tasks else tasks

    @field_validator("defaults")
    @classmethod
    def _are_settings(cls, defaults: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for task, settings in defaults.items():
            if task not in TASKS:
                raise ValueError(f"{task!r} is not a task; known: {', '.join(TASKS)}")
            GenerationConfig(**settings)
        return defaults

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.partition("/")[0]

    def model(self, task: Task | None = None, **settings: Any) -> Model:
        """Return the model to launch, with the task's defaults for what `settings` leave out."""
        defaults: dict[str, Any] = {"base_url": self.base_url, **(self.defaults.get(task.kind, {}) if task else {})}
        if self.base_url and self.api_key and "base_url" not in settings:
            # Never send the key to another server, such as one that the user names in `settings`.
            defaults["api_key_name"] = self.api_key
        return Model(self.name, **{**defaults, **settings})

    @property
    def lacks(self) -> str | None:
        """The requirement to install with pip before the model can be used; None if nothing is missing."""
        provider = base.needing(self.needs) if self.needs else None
        return None if provider is None or provider.installed else provider.requirement

    def obstacle(self, environment: Mapping[str, str]) -> str | None:
        """Return why the model cannot be used here now; None if no reason is known."""
        if self.lacks:
            return f"pip install '{self.lacks}'"
        if self.api_key and not environment.get(self.api_key):
            return f"{self.api_key} is not set"
        return f"needs a server at {self.base_url}" if self.base_url and self.found is None else None


def load(path: Path | None = None) -> tuple[CatalogueModel, ...]:
    """Read a catalogue; default the bundled one.

    Raises:
        InvalidInputError: the file is not a list of models; the message names file, entry and field.
    """
    file = path or BUNDLED
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"the catalogue {file} cannot be read: {error}") from None
    return parse(data, str(file))


def load_unchanged(path: Path) -> tuple[CatalogueModel, ...]:
    """As :func:`load`; a file that has not changed since the last call is not parsed again."""
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInputError(f"the catalogue {path} cannot be read: {error}") from None
    return _loaded(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=8)
def _loaded(path: Path, *version: int) -> tuple[CatalogueModel, ...]:
    return load(path)


def parse(data: bytes, file: str) -> tuple[CatalogueModel, ...]:
    """Read the content of a catalogue.

    Args:
        file: path or address, for errors.

    Raises:
        InvalidInputError: as :func:`load`.
    """
    try:
        entries = yaml.safe_load(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the catalogue {file} cannot be read: {error}") from None
    except RecursionError:
        raise InvalidInputError(f"the catalogue {file} is nested too deep") from None
    except yaml.YAMLError as error:
        raise InvalidInputError(f"the catalogue {file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise InvalidInputError(f"the catalogue {file} must be a list of models, each beginning with '- name: …'")
    name = re.split(r"[/\\]", file)[-1]
    models = tuple(entry(values, f"{name}, model {number}") for number, values in enumerate(entries, start=1))
    duplicates = [name for name, count in Counter(model.name for model in models).items() if count > 1]
    if duplicates:
        raise InvalidInputError(f"the catalogue {file} has {duplicates[0]!r} more than once")
    return models


def entry(values: Any, where: str) -> CatalogueModel:
    """Validate one entry of a catalogue; `where` names it in an error.

    Raises:
        InvalidInputError: a field is missing, unknown or malformed.
    """
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"{where}: expected fields such as 'name: …', got {values!r}")
    try:
        return CatalogueModel(**{str(name): value for name, value in values.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        name = values.get("name", "without a name")
        raise InvalidInputError(f"{where} ({name}), {field}: {first['msg']}") from None
