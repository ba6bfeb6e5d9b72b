"""The catalogue of models, with the user's own additions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from lumigator_nb.cluster.address import jobs_api
from lumigator_nb.config import Settings
from lumigator_nb.display import render
from lumigator_nb.display.html import chip, fragment, name, table, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, count, elide, listed, magnitude
from lumigator_nb.errors import (
    DamagedError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    UnknownModelError,
    did_you_mean,
)
from lumigator_nb.models import catalogue as catalogues
from lumigator_nb.models import key_check, price_list, price_of, sources
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.models.discovery import Discovery
from lumigator_nb.models.price_list import Kept, Origin
from lumigator_nb.specs import Task
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

FILE = "models.yaml"


class Catalogue(Rendered, tuple[CatalogueModel, ...]):
    """Models to choose from; displays as a table."""

    environment: Mapping[str, str]
    notes: Sequence[str]

    def __new__(
        cls, models: Iterable[CatalogueModel], environment: Mapping[str, str], notes: Sequence[str] = ()
    ) -> Catalogue:
        catalogue = super().__new__(cls, models)
        catalogue.environment, catalogue.notes = environment, notes
        return catalogue

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per model: its fields, and `obstacle`, which is empty if the model can be used."""
        rows = [{**model.model_dump(), "obstacle": model.obstacle(self.environment)} for model in self]
        return pd.DataFrame(rows, columns=[*CatalogueModel.model_fields, "obstacle"])


@dataclass(frozen=True, repr=False)
class Refreshed(Rendered):
    """What :meth:`Models.refresh` took over.

    Attributes:
        prices: where the price list is from; None if prices were not refreshed. `n_prices` is its number of models.
        catalogue: where the catalogue is from; None if it was not refreshed. `n_models` is its number of models.
        changed: models of the catalogue with another price than before.
        notes: what the list has and this installation cannot use.
    """

    prices: Origin | None = None
    n_prices: int = 0
    catalogue: Origin | None = None
    n_models: int = 0
    changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Models:
    """The catalogue of a workspace, and the prices of hosted models.

    Its entries are the bundled ones, those that :meth:`refresh` took over, those of ``models.yaml`` in the workspace's
    home, and those added in code. Later entries replace earlier ones of the same name. Models that this machine has
    already come first (:mod:`lumigator_nb.models.discovery`); an entry of the same name replaces them, as it has more
    facts.
    """

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self._settings = settings
        self._store = store or Store(settings.store_spec, settings.store_credentials)
        price_list.look_in(self._store, layout.PRICES)
        self._refreshed = Kept(self._store, layout.CATALOGUE, _unpacked)
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
        return Catalogue(entries, dict.fromkeys(names, "set"), self._notes())

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
            new = (catalogues.entry(source, "the model to add"),)
        else:
            new = catalogues.load(Path(source).expanduser())
        self._added |= {model.name: model for model in new}
        return Catalogue(new, {})

    def refresh(self, prices: str | Path | None = None, *, catalogue: str | Path | None = None) -> Refreshed:
        """Take over newer prices, or a catalogue of models, from a file or from the network.

        They are kept in the store, so that everybody who uses the workspace, and all workers, have the same. What
        workflows have cost stays as it is. Nothing else asks the network for prices, and nothing refreshes by itself.

        Args:
            prices: a file or address with a price list in the format of genai-prices (``prices/new_data/v2/data.json``
                of https://github.com/pydantic/genai-prices). With neither argument, genai-prices' own address is asked.
                Models that the list lacks keep the price of the installed package.
            catalogue: a file or address with models in the format of ``models.yaml``. They replace those of an earlier
                refresh, and bundled ones of the same name. An entry can name a server to which a key is sent: take
                catalogues only from where you trust.

        Raises:
            InvalidInputError: the file cannot be read; the message names provider or entry, model and field.
            UnavailableError: the address does not answer, for example as this machine is offline.
            MissingExtraError: genai-prices is not installed.
            StoreUnavailableError: the store cannot be written. After any other error everything is as before.

        Examples:
            >>> import json, pathlib
            >>> prices = {"input_mtok": 0.10, "output_mtok": 0.40}
            >>> mini = {"id": "gpt-4o-mini", "match": {"equals": "gpt-4o-mini"}, "prices": prices}
            >>> openai = {"id": "openai", "name": "OpenAI", "api_pattern": "openai", "models": [mini]}
            >>> _ = pathlib.Path("prices.json").write_text(json.dumps([openai]))
            >>> ws.models.refresh("prices.json").changed
            ('openai/gpt-4o-mini',)
        """
        if prices is None and catalogue is None:
            prices = sources.price_address()
        files: dict[str, bytes] = {}
        result = Refreshed()
        if prices is not None:
            if not price_list.is_installed():
                raise MissingExtraError("refreshing prices", "api")
            data, origin = sources.read(prices)
            files[layout.PRICES] = price_list.packed(data, origin)
            n_prices = price_list.unpacked(files[layout.PRICES]).n_models
            result = replace(result, prices=origin, n_prices=n_prices, notes=_unknown(data))
        if catalogue is not None:
            data, origin = sources.read(catalogue)
            entries = catalogues.parse(data, origin.source)
            files[layout.CATALOGUE] = _packed(entries, origin)
            result = replace(result, catalogue=origin, n_models=len(entries))
        try:
            before = self._prices()
        except DamagedError:  # it is about to be replaced
            before = {}
        self._store.write_all(files)
        self._read_again()
        after = self._prices()
        return replace(result, changed=tuple(name for name in after if name in before and before[name] != after[name]))

    def reset(self) -> None:
        """Go back to the installed prices and the bundled catalogue; ``models.yaml`` and what was added stay.

        Examples:
            >>> ws.models.reset()
            >>> ws.models.list().notes
            ('Prices: genai-prices ...',)
        """
        for file in (layout.PRICES, layout.CATALOGUE):
            self._store.delete(file)
        self._read_again()

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
        of_user = catalogues.load_unchanged(file) if file.is_file() else ()
        refreshed = self._refreshed.value()
        taken_over = refreshed[1] if refreshed else ()
        bundled = catalogues.load_unchanged(catalogues.BUNDLED)
        return {model.name: model for model in (*bundled, *taken_over, *of_user)} | self._added

    def _read_again(self) -> None:
        price_list.look_in(self._store, layout.PRICES)
        self._refreshed.read_again()

    def _notes(self) -> tuple[str, ...]:
        """Say where prices and catalogue are from."""
        refreshed = self._refreshed.value()
        try:
            origins = price_list.origins() if price_list.is_installed() else ()
            notes = [f"Prices: {'; for other models '.join(map(str, origins))}"] if origins else []
        except DamagedError as error:
            notes = [f"No prices: {error.message}; {error.hint}"]
        return (*notes, *([f"Catalogue: the bundled one, and {refreshed[0]}"] if refreshed else []))

    def _prices(self) -> dict[str, tuple[float, float]]:
        """Return what a million tokens of input and of output cost, for models of the catalogue with a list price."""
        prices = {}
        for model in self._suggested().values():
            price = price_of(model.model())
            if price is not None and not model.base_url:
                prices[model.name] = (price(1e6, 0), price(0, 1e6))
        return prices


def _unknown(data: bytes) -> tuple[str, ...]:
    rates = price_list.unknown_rates(data)
    if not rates:
        return ()
    return (f"The installed genai-prices does not know {listed(rates)}, which count for nothing; upgrade it.",)


def _packed(entries: Sequence[CatalogueModel], origin: Origin) -> bytes:
    taken = origin.taken and origin.taken.isoformat()
    models = [entry.model_dump(mode="json", exclude_defaults=True) for entry in entries]
    return json.dumps({"source": origin.source, "taken": taken, "models": models}).encode()


def _unpacked(data: bytes) -> tuple[Origin, tuple[CatalogueModel, ...]]:
    try:
        document = json.loads(data)
        origin = Origin(document["source"], datetime.fromisoformat(document["taken"]))
        return origin, tuple(CatalogueModel(**entry) for entry in document["models"])
    except (ValueError, TypeError, LookupError) as error:
        raise DamagedError(
            f"the catalogue in the store cannot be read: {type(error).__name__}",
            "refresh it with 'lumigator-nb models refresh --catalogue FILE', or remove it with 'lumigator-nb models "
            "reset'",
        ) from None


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
    notes = [tag("div", note, class_="lm-note") for note in models.notes]
    return fragment(table(_HEADERS, rows, numeric=(2, 4)), *notes)


@render.as_text.register
def _as_text(models: Catalogue) -> str:
    """Return a line per model."""
    if not models:
        return "no model"
    width = min(42, max(len(row.name) for row in models))
    lines = [
        f"{elide(row.name, width):<{width}}  {magnitude(row.parameters):>5}  {magnitude(row.context_tokens):>5}  "
        f"{elide(row.licence or MISSING, 14):<14}  {row.obstacle(models.environment) or 'ready'}"
        for row in models
    ]
    return "\n".join([*lines, *models.notes])


def _sentences(refreshed: Refreshed) -> list[str]:
    sentences = []
    if refreshed.prices:
        sentences.append(f"Prices of {count(refreshed.n_prices, 'model')} are now those of {refreshed.prices}.")
        changed = f"Another price than before: {listed(refreshed.changed)}."
        sentences.append(changed if refreshed.changed else "None of the catalogue's models has another price.")
    if refreshed.catalogue:
        sentences.append(f"{count(refreshed.n_models, 'model')} are now from the catalogue {refreshed.catalogue}.")
    return [*sentences, *refreshed.notes]


@render.as_text.register
def _refreshed_as_text(refreshed: Refreshed) -> str:
    return "\n".join(_sentences(refreshed))


@render.as_html.register
def _refreshed_as_html(refreshed: Refreshed) -> str:
    return fragment(*(tag("div", sentence) for sentence in _sentences(refreshed)))
