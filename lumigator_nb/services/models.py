"""The catalogue of models, with the user's own additions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from lumigator_nb.cluster.address import jobs_api
from lumigator_nb.config import Settings
from lumigator_nb.display import render
from lumigator_nb.display.html import chip, fragment, name, table, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, elide, magnitude
from lumigator_nb.errors import InvalidInputError, NotFoundError, UnknownModelError, did_you_mean
from lumigator_nb.models import catalogue, key_check
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.models.discovery import Discovery
from lumigator_nb.specs import Task

FILE = "models.yaml"


class Catalogue(Rendered, tuple[CatalogueModel, ...]):
    """Models to choose from; displays as a table."""

    environment: Mapping[str, str]

    def __new__(cls, models: Iterable[CatalogueModel], environment: Mapping[str, str]) -> Catalogue:
        catalogue = super().__new__(cls, models)
        catalogue.environment = environment
        return catalogue

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per model: its fields, and `obstacle`, which is empty if the model can be used."""
        rows = [{**model.model_dump(), "obstacle": model.obstacle(self.environment)} for model in self]
        return pd.DataFrame(rows, columns=[*CatalogueModel.model_fields, "obstacle"])


class Models:
    """The catalogue of a workspace: bundled entries, those of ``models.yaml`` in its home, and those added in code.

    Later entries replace earlier ones of the same name. Models that this machine has already come first
    (:mod:`lumigator_nb.models.discovery`); an entry of the same name replaces them, as it has more facts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._added: dict[str, CatalogueModel] = {}
        # A cluster elsewhere does not reach the servers and files of this machine.
        here = settings.lumigator_discovery and jobs_api(settings) is None
        self._discovery = Discovery(settings) if here else None

    def list(self, task: str | Task | None = None, *, provider: str | None = None) -> Catalogue:
        """Return the models of the catalogue, optionally only those for a task or of a provider.

        Models that this machine has already come first, unless the setting LUMIGATOR_DISCOVERY is False or the cluster
        is elsewhere. What was found counts for ten seconds.

        Raises:
            InvalidInputError: the task is unknown, or ``models.yaml`` is malformed.
            ConfigurationError: the setting LUMIGATOR_MODEL_SERVERS is malformed.

        Examples:
            >>> table = ws.models.list("translation", provider="hf").to_pandas()
            >>> "hf/facebook/m2m100_418M" in set(table["name"])
            True
        """
        kind = task.kind if isinstance(task, Task) else task
        kind = kind.replace("-", "_") if kind else None
        if kind is not None and kind not in TASKS:
            raise InvalidInputError(f"unknown task {kind!r}", did_you_mean(kind, TASKS))
        entries = [
            model
            for model in self._listed()
            if (kind is None or kind in model.tasks) and provider in (None, model.provider)
        ]
        names = self._settings.having(model.api_key for model in entries if model.api_key)
        return Catalogue(entries, dict.fromkeys(names, "set"))

    def get(self, name: str) -> CatalogueModel:
        """Return the catalogue entry of a model.

        Raises:
            UnknownModelError: the catalogue has no such entry. The model may work all the same.

        Examples:
            >>> ws.models.get("baseline/lead-3").display_name
            'First three sentences'
        """
        entries = self._suggested()
        if name not in entries:
            entries = self._found() | entries
        if name not in entries:
            raise UnknownModelError(f"the catalogue has no model {name!r}", did_you_mean(name, entries))
        return entries[name]

    def add(self, source: Path | str | CatalogueModel | Mapping[str, Any]) -> Catalogue:
        """Add models while this workspace is open. Models in ``models.yaml`` in its home are permanent.

        Args:
            source: a YAML file in the format of the bundled one, or the fields of one model.

        Raises:
            InvalidInputError: the message names file, entry and field; nothing is added.

        Examples:
            >>> ours = {"name": "openai/ours", "display_name": "The team's model", "tasks": ["summarization"]}
            >>> _ = ws.models.add(ours)
            >>> ws.models.get("openai/ours").display_name
            "The team's model"
        """
        if isinstance(source, CatalogueModel):
            new: tuple[CatalogueModel, ...] = (source,)
        elif isinstance(source, Mapping):
            new = (catalogue.entry(source, "the model to add"),)
        else:
            new = catalogue.load(Path(source).expanduser())
        self._added |= {model.name: model for model in new}
        return Catalogue(new, {})

    def check_key(self, name: str) -> key_check.KeyCheck:
        """Ask a provider whether it accepts an API key, by listing its models, which is free.

        Args:
            name: name of the key, such as OPENAI_API_KEY.

        Raises:
            NotFoundError: the key is not set.
            ConfigurationError: the provider refuses it.
            InvalidInputError: no provider is known for the key, or it cannot be checked for free.
            UnavailableError: the provider does not answer.

        Examples:
            >>> ws.secrets.set("OPENAI_API_KEY", "sk-not-a-real-key-0123456789")
            >>> ws.models.check_key("OPENAI_API_KEY").n_models > 0
            True
        """
        value = self._settings.variable(name)
        if not value:
            raise NotFoundError("key", name, "ws.secrets.set() stores one")
        providers = key_check.providers_of(name, self._suggested().values())
        if not providers:
            raise InvalidInputError(
                f"no provider is known for the key {name}", "the first request to a model checks it"
            )
        return key_check.check(providers[0], name, value)

    def _listed(self) -> Iterable[CatalogueModel]:
        found = self._found()
        ports = {_port(model) for model in found.values() if model.found == "server"}
        for model in (found | self._suggested()).values():
            # An entry for any model of a server is of no use beside the server's models.
            if model.found or not model.name.endswith("/default") or _port(model) not in ports:
                yield model

    def _found(self) -> dict[str, CatalogueModel]:
        return {model.name: model for model in self._discovery.findings().models} if self._discovery else {}

    def _suggested(self) -> dict[str, CatalogueModel]:
        file = self._settings.home / FILE
        of_user = catalogue.load(file) if file.is_file() else ()
        return {model.name: model for model in (*catalogue.load(), *of_user)} | self._added


def _port(model: CatalogueModel) -> int | None:
    return urlsplit(model.base_url).port if model.base_url else None


_HEADERS = ("model", "for", "parameters", "licence", "context", "")
_TASKS = {
    "summarization": "summarization", "translation": "translation", "text_generation": "text",
    "classification": "classification",
}  # fmt: skip


@render.as_html.register
def _as_html(models: Catalogue) -> str:
    """Return a table with a line per model."""
    rows = []
    for model in models:
        title: object = model.display_name
        if model.link:
            title = tag("a", model.display_name, href=model.link, target="_blank", rel="noopener")
        obstacle = model.obstacle(models.environment)
        rows.append(
            (
                tag("div", name(model.name), tag("div", title, class_="lm-soft")),
                ", ".join(_TASKS[task] for task in model.tasks),
                magnitude(model.parameters),
                model.licence or MISSING,
                magnitude(model.context_tokens),
                chip(obstacle or "ready", "" if obstacle else "good"),
            )
        )
    return fragment(table(_HEADERS, rows, numeric=(2, 4)))


@render.as_text.register
def _as_text(models: Catalogue) -> str:
    """Return a line per model."""
    if not models:
        return "no model"
    width = min(42, max(len(row.name) for row in models))
    return "\n".join(
        f"{elide(row.name, width):<{width}}  {magnitude(row.parameters):>5}  {magnitude(row.context_tokens):>5}  "
        f"{elide(row.licence or MISSING, 14):<14}  {row.obstacle(models.environment) or 'ready'}"
        for row in models
    )
