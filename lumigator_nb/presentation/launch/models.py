"""The catalogue of models on screens: search, filters, and what each model still needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lumigator_nb import models
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, chip, join, tag
from lumigator_nb.display.html import name as breaking
from lumigator_nb.display.text import MISSING, joined, magnitude, one_line
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.presentation.markup import PER_PAGE, button, empty, link, listing, pager, sortable
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Model

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

TASK_TITLES = {
    "summarization": "Summarization", "translation": "Translation", "text_generation": "Text generation",
    "classification": "Classification",
}  # fmt: skip
SIZE_TITLES = {
    "small": "Up to 1B parameters",
    "medium": "1B to 8B parameters",
    "large": "More than 8B parameters",
    "unknown": "Size not published",
}
_BILLION = 10**9
# Prices are asked for so few tokens, because some providers charge more per token for long prompts.
_PRICED = 1000


@dataclass(frozen=True)
class Missing:
    """What a model still needs.

    Attributes:
        what: kind of thing.
        text: what is missing, in a few words.
        remedy: what to do, in a sentence.
        command: shell command that does it; None if no command does.
        blocks: whether the model cannot be launched without it.
    """

    what: Literal["package", "key", "weights", "server"]
    text: str
    remedy: str
    command: str | None = None
    blocks: bool = True


@dataclass(frozen=True)
class ModelView:
    """One model of the catalogue.

    Attributes:
        name: ``provider/name``.
        title: display name of the model; `maker` is that of its provider.
        tasks: keys of :data:`TASK_TITLES`.
        place: where it runs, in words.
        price: dollars per million tokens of prompts and of answers; None without a price.
        missing: what it still needs; None if it is ready.
    """

    name: str
    title: str
    provider: str
    maker: str
    tasks: tuple[str, ...]
    place: str
    parameters: int | None = None
    size_gb: float | None = None
    licence: str | None = None
    context_tokens: int | None = None
    link: str | None = None
    notes: str | None = None
    price: tuple[float, float] | None = None
    missing: Missing | None = None

    @property
    def usable(self) -> bool:
        """Whether the model can be launched now."""
        return self.missing is None or not self.missing.blocks

    @property
    def size(self) -> str:
        """Key of :data:`SIZE_TITLES`."""
        if self.parameters is None:
            return "unknown"
        if self.parameters <= _BILLION:
            return "small"
        return "medium" if self.parameters <= 8 * _BILLION else "large"

    @property
    def facts(self) -> str:
        """Size, price and place in one line, as far as they are known."""
        size = f"{magnitude(self.parameters)} parameters" if self.parameters else ""
        return " · ".join(fact for fact in (size, self.priced, self.place) if fact)

    @property
    def priced(self) -> str:
        """Price in words; empty without a price."""
        return f"{_price(self.price)} per 1M tokens" if self.price and any(self.price) else ""


@dataclass(frozen=True)
class Filter:
    """Selects models. An empty field selects all.

    Attributes:
        search: words that all occur in name, title, maker or notes, ignoring case.
        task, provider: as in the catalogue.
        size: key of :data:`SIZE_TITLES`.
        usable: select only models that can be launched now.
    """

    search: str = ""
    task: str = ""
    provider: str = ""
    size: str = ""
    usable: bool = False

    @classmethod
    def of(cls, route: Route) -> Filter:
        """Return the filter of a route."""
        query = route.query
        return cls(
            search=query.get("search", ""),
            task=query.get("task", ""),
            provider=query.get("provider", ""),
            size=query.get("size", ""),
            usable="usable" in query,
        )

    def __call__(self, models: Iterable[ModelView]) -> list[ModelView]:
        """Return the selected models, in their order."""
        words = self.search.lower().split()
        selected = []
        for model in models:
            text = f"{model.name} {model.title} {model.maker} {model.notes or ''}".lower()
            if (
                (not self.task or self.task in model.tasks)
                and self.provider in ("", model.provider)
                and self.size in ("", model.size)
                and (model.usable or not self.usable)
                and all(word in text for word in words)
            ):
                selected.append(model)
        return selected


def catalogue(ws: Workspace) -> tuple[ModelView, ...]:
    """Return the models of a workspace's catalogue.

    Raises:
        InvalidInputError: ``models.yaml`` is malformed.
    """
    entries = ws.models.list()
    here = ws.cluster.head is not None
    return tuple(
        ModelView(
            name=entry.name,
            title=entry.display_name,
            provider=entry.provider,
            maker=maker_of(entry.provider),
            tasks=tuple(entry.tasks),
            place=place_of(entry.provider, entry.base_url),
            parameters=entry.parameters,
            size_gb=entry.size_gb,
            licence=entry.licence,
            context_tokens=entry.context_tokens,
            link=entry.link,
            notes=entry.notes,
            price=price_of(entry.model()),
            missing=_missing(entry, set(entries.environment), here=here),
        )
        for entry in entries
    )


def maker_of(provider: str) -> str:
    """Return the display name of a provider."""
    return models.title_of(provider)


def place_of(provider: str, base_url: str | None = None) -> str:
    """Return where a model runs, in words."""
    return "on your server" if base_url else models.place_of(provider)


def price_of(model: Model) -> tuple[float, float] | None:
    """Return dollars per million tokens of prompts and of answers; None without a price."""
    price = models.price_of(model)
    if price is None or models.hourly_rate(model):
        return None
    scale = 1_000_000 / _PRICED
    return round(price(_PRICED, 0) * scale, 6), round(price(0, _PRICED) * scale, 6)


def _missing(model: CatalogueModel, keys: set[str], *, here: bool) -> Missing | None:
    # The nodes of a remote cluster may have their own packages and keys, so a launch need not fail.
    elsewhere = "" if here else " The cluster's machines may have it already."
    if model.lacks:
        remedy = f"Install it, then restart.{elsewhere}"
        return Missing("package", "A package is missing", remedy, f"pip install '{model.lacks}'", blocks=here)
    if model.api_key and model.api_key not in keys:
        remedy = f"Add the key under Settings, or put it into .env.{elsewhere}"
        return Missing("key", f"{model.api_key} is not set", remedy, blocks=here)
    if model.found:
        return None
    if model.base_url:
        return Missing("server", "Needs a server", f"Start one that listens at {model.base_url}.", blocks=False)
    if not here or models.has_weights(model.model()):
        return None
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        remedy = "Unset HF_HUB_OFFLINE, or download them on a machine with a network and name their folder: hf//path."
        return Missing("weights", "Weights are not here", remedy, blocks=False)
    remedy = "The first launch downloads " + (f"{model.size_gb:g} GB." if model.size_gb else "them.")
    return Missing("weights", "Weights are not here yet", remedy, blocks=False)


def ordered(models: Sequence[ModelView], sort: str) -> list[ModelView]:
    """Return models by "name", "size" or "price", descending if "-" precedes it; any other `sort` keeps their order.

    Models without a size or a price come last in either order.
    """
    key = sort.removeprefix("-")
    if key == "name":
        return sorted(models, key=lambda model: model.title.lower(), reverse=sort.startswith("-"))
    if key not in _KEYS:
        return list(models)
    keyed = [(value, model) for model in models if (value := _KEYS[key](model)) is not None]
    keyed.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return [model for _, model in keyed] + [model for model in models if _KEYS[key](model) is None]


_KEYS: dict[str, Callable[[ModelView], float | None]] = {
    "size": lambda model: model.parameters,
    "price": lambda model: sum(model.price) if model.price else None,
}


def choices(models: Sequence[ModelView]) -> dict[str, dict[str, str]]:
    """Return the options of each filter, key by title. The first option of each selects all."""
    providers = {model.maker: model.provider for model in sorted(models, key=lambda model: model.maker.lower())}
    sizes = {title: key for key, title in SIZE_TITLES.items() if any(model.size == key for model in models)}
    return {
        "task": {"All tasks": "", **{TASK_TITLES[key]: key for key in TASKS}},
        "provider": {"All providers": "", **providers},
        "size": {"All sizes": "", **sizes},
    }


def state(model: ModelView) -> Html:
    """Return whether a model is ready, and what to do if it is not."""
    if model.missing is None:
        return chip("Ready", "good")
    label = chip(model.missing.text, "bad" if model.missing.blocks else "")
    return join([label, tag("span", remedy(model.missing), class_="lm-sub")])


def remedy(missing: Missing) -> Html:
    """Return the remedy, with its command."""
    command = [Html(" "), tag("code", missing.command)] if missing.command else []
    return join([missing.remedy, *command])


def model_line(model: ModelView, status: str = "") -> Html:
    """Return the line under a model's title in the launch form: name, facts, and what is missing.

    Args:
        model: the model.
        status: its status in the experiment, such as "succeeded", if it is part of it already.
    """
    lines = [join([breaking(model.name), " · ", model.facts])]
    if status:
        lines.append(tag("span", f"Already in this experiment: {status}.", class_="lm-sub"))
    if model.missing is not None:
        missing = tag("span", f"{model.missing.text}.", class_="lm-error" if model.missing.blocks else None)
        lines.append(tag("span", missing, " ", remedy(model.missing), class_="lm-sub"))
    elif model.notes:
        lines.append(tag("span", one_line(model.notes), class_="lm-sub"))
    return join(lines)


def models_list(models: Sequence[ModelView], route: Route) -> Html:
    """Return a page of the models in the route's order, or what to do if there are none."""
    if not models:
        text = "Search for fewer words, or remove a filter."
        return empty("No model matches", text, button(route.to("models"), "Show all"))
    headers = (
        sortable(route, "name", "Model"), "Good for", sortable(route, "size", "Parameters"), "Context",
        sortable(route, "price", "Price per 1M tokens"), "State",
    )  # fmt: skip
    page = route.number("page")
    rows = []
    for model in ordered(models, route.query.get("sort", ""))[(page - 1) * PER_PAGE : page * PER_PAGE]:
        title = tag("a", model.title, href=model.link, target="_blank", rel="noopener") if model.link else model.title
        under = join([breaking(model.name), " · ", model.place])
        notes = [tag("span", one_line(model.notes), class_="lm-sub")] if model.notes else []
        tasks = joined([TASK_TITLES[task].lower() for task in model.tasks])
        context = model.context_tokens
        launch = link(route.to("launch", model=model.name), "Launch", aria_label=f"Launch {model.title}")
        row: list[object] = [
            join([title, tag("span", under, class_="lm-sub"), *notes]),
            "all tasks" if len(model.tasks) == len(TASKS) else tasks,
            magnitude(model.parameters),
            f"{context:,}" if context is not None and context < 10_000 else magnitude(context),
            _price(model.price) if model.price and any(model.price) else MISSING,
            join([state(model), tag("span", launch, class_="lm-sub")]) if model.usable else state(model),
        ]
        rows.append(row)
    below = pager(route, page, PER_PAGE, len(models), "model")
    return join([listing(headers, rows, numeric=(2, 3)), below])


def _price(price: tuple[float, float]) -> str:
    return f"{dollars(price[0])} in, {dollars(price[1])} out"
