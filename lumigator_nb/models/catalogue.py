"""The catalogue of models: what is known about models that are worth a try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import base
from lumigator_nb.specs import GenerationConfig, Model, Task, Value

BUNDLED = Path(__file__).with_name("catalogue.yaml")
TASKS = ("summarization", "translation", "text_generation")


class CatalogueModel(Value):
    """What is known about a model. A field that is None is not known.

    Attributes:
        name: ``provider/name``, as :class:`Model` takes it.
        tasks: what it is good for.
        parameters: number of weights.
        size_gb: of the weights on disk.
        licence: SPDX identifier, or the licence's own name.
        context_tokens: of prompt and answer together; of each for a sequence-to-sequence model.
        link: the model's page.
        api_key: variable with its API key.
        needs: extra of this package that it needs, or client of any-llm.
        base_url: where its server listens by default.
        defaults: generation settings by task.
        languages: BCP 47 codes; empty where there are too many to list.
        notes: one sentence.
    """

    name: str = Field(pattern=r"^[a-z_]+/\S+$")
    display_name: str
    tasks: tuple[Literal["summarization", "translation", "text_generation"], ...] = Field(min_length=1)
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
        """Return the model to launch, with the defaults of the task where `settings` say nothing else."""
        given: dict[str, Any] = {"base_url": self.base_url, **(self.defaults.get(task.kind, {}) if task else {})}
        if self.base_url and self.api_key and "base_url" not in settings:
            # The provider's own key goes to the provider alone.
            given["api_key_name"] = self.api_key
        return Model(self.name, **{**given, **settings})

    @property
    def lacks(self) -> str | None:
        """What to install with pip before it can be used here; None where all is there."""
        provider = base.needing(self.needs) if self.needs else None
        return None if provider is None or provider.installed else provider.requirement

    def obstacle(self, environment: Mapping[str, str]) -> str | None:
        """Return why it cannot be used here and now; None where nothing is known to stand in the way."""
        if self.lacks:
            return f"pip install '{self.lacks}'"
        if self.api_key and not environment.get(self.api_key):
            return f"{self.api_key} is not set"
        return f"needs a server at {self.base_url}" if self.base_url else None


def load(path: Path | None = None) -> tuple[CatalogueModel, ...]:
    """Read a catalogue; default the bundled one.

    Raises:
        InvalidInputError: the file is no list of models; the message names file, entry and field.
    """
    file = path or BUNDLED
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the catalogue {file} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InvalidInputError(f"the catalogue {file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise InvalidInputError(f"the catalogue {file} must be a list of models, each beginning with '- name: …'")
    found = tuple(entry(values, f"{file.name}, model {number}") for number, values in enumerate(entries, start=1))
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    if twice:
        raise InvalidInputError(f"the catalogue {file} has {twice[0]!r} more than once")
    return found


def entry(values: Any, where: str) -> CatalogueModel:
    """Return one entry, checked; `where` names it in an error.

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
