"""The catalogue of models as a screen shows it: search, filters, and what each model still needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lumigator_nb import models
from lumigator_nb.display.costs import dollars
from lumigator_nb.display.html import Html, chip, join, tag
from lumigator_nb.display.html import name as breaking
from lumigator_nb.display.text import MISSING, joined, one_line
from lumigator_nb.models.catalogue import TASKS, CatalogueModel
from lumigator_nb.presentation.markup import PER_PAGE, button, empty, link, listing, pager, sortable
from lumigator_nb.presentation.routes import Route
from lumigator_nb.specs import Model

if TYPE_CHECKING:
    from lumigator_nb.workspace import Workspace

TASK_TITLES = {"summarization": "Summarization", "translation": "Translation", "text_generation": "Text generation"}
SIZE_TITLES = {
    "small": "Up to 1B parameters",
    "medium": "1B to 8B parameters",
    "large": "More than 8B parameters",
    "unknown": "Size not published",
}
_BILLION = 10**9
# Tokens to ask the price of: so few that no provider charges them by the length of a long prompt.
_PRICED = 1000


@dataclass(frozen=True)
class Missing:
    """What a model still needs.

    Attributes:
        what: kind of thing.
        text: what is missing, in a few words.
        remedy: what to do about it, in a sentence.
        command: to be typed, where that is the remedy.
        blocks: whether it cannot be launched like this.
    """

    what: Literal["package", "key", "weights", "server"]
    text: str
    remedy: str
    command: str | None = None
    blocks: bool = True


@dataclass(frozen=True)
class ModelView:
    """One model to choose.

    Attributes:
        name: ``provider/name``.
        title: as its makers call it; `maker` is who provides it.
        place: where it runs, in words.
        price: dollars for a million tokens of prompt and of completion; None where there is no price.
        missing: None where it can be used as it is.
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
        """Whether it can be launched now."""
        return self.missing is None or not self.missing.blocks

    @property
    def size(self) -> str:
        """Key of :data:`SIZE_TITLES`."""
        if self.parameters is None:
            return "unknown"
        return "small" if self.parameters <= _BILLION else "medium" if self.parameters <= 8 * _BILLION else "large"

    @property
    def facts(self) -> str:
        """Size, price and place in one line, as far as they are known."""
        known = [self.parameters and f"{magnitude(self.parameters)} parameters", self.priced, self.place]
        return " · ".join(each for each in known if each)

    @property
    def priced(self) -> str:
        """Price in words; empty where there is none."""
        return (
            f"{dollars(self.price[0])} in, {dollars(self.price[1])} out per 1M tokens"
            if self.price and any(self.price)
            else ""
        )


@dataclass(frozen=True)
class Filter:
    """Which models are wanted; an empty field wants all.

    Attributes:
        search: words that all occur in name, title, maker or notes, in any case.
        task, provider: as in the catalogue.
        size: key of :data:`SIZE_TITLES`.
        usable: only those that can be launched now.
    """

    search: str = ""
    task: str = ""
    provider: str = ""
    size: str = ""
    usable: bool = False

    @classmethod
    def of(cls, route: Route) -> Filter:
        """Return what a place's query asks for."""
        asked = route.query
        return cls(
            search=asked.get("search", ""),
            task=asked.get("task", ""),
            provider=asked.get("provider", ""),
            size=asked.get("size", ""),
            usable="usable" in asked,
        )

    def __call__(self, found: Iterable[ModelView]) -> list[ModelView]:
        """Return the models that are wanted, in their order."""
        words = self.search.lower().split()
        return [each for each in found if self._fits(each) and all(word in _searched(each) for word in words)]

    def _fits(self, model: ModelView) -> bool:
        return (
            (not self.task or self.task in model.tasks)
            and self.provider in ("", model.provider)
            and self.size in ("", model.size)
            and (model.usable or not self.usable)
        )


def _searched(model: ModelView) -> str:
    return f"{model.name} {model.title} {model.maker} {model.notes or ''}".lower()


def catalogue(ws: Workspace, task: str | None = None) -> tuple[ModelView, ...]:
    """Return the models of a workspace's catalogue, for a task or all.

    Raises:
        InvalidInputError: ``models.yaml`` is malformed.
    """
    found = ws.models.list(task)
    return tuple(_view(model, set(found.environment), here=ws.cluster.head is not None) for model in found)


def maker_of(provider: str) -> str:
    """Return the name of a provider for readers."""
    return models.title_of(provider)


def place_of(provider: str, base_url: str | None = None) -> str:
    """Return where a model runs, in words."""
    return "on your server" if base_url else models.place_of(provider)


def price_of(model: Model) -> tuple[float, float] | None:
    """Return the dollars for a million tokens of prompt and of completion; None where there is no price."""
    price = models.price_of(model)
    if price is None:
        return None
    scale = 1_000_000 / _PRICED
    return round(price(_PRICED, 0) * scale, 6), round(price(0, _PRICED) * scale, 6)


def _view(model: CatalogueModel, keys: set[str], *, here: bool) -> ModelView:
    return ModelView(
        name=model.name,
        title=model.display_name,
        provider=model.provider,
        maker=maker_of(model.provider),
        tasks=tuple(model.tasks),
        place=place_of(model.provider, model.base_url),
        parameters=model.parameters,
        size_gb=model.size_gb,
        licence=model.licence,
        context_tokens=model.context_tokens,
        link=model.link,
        notes=model.notes,
        price=price_of(model.model()),
        missing=_missing(model, keys, here=here),
    )


def _missing(model: CatalogueModel, keys: set[str], *, here: bool) -> Missing | None:
    # The nodes of a remote cluster may have packages and keys of their own.
    elsewhere = "" if here else " The cluster's own machines may have it."
    if model.lacks:
        remedy = f"Install it, then restart.{elsewhere}"
        return Missing("package", "A package is missing", remedy, f"pip install '{model.lacks}'", blocks=here)
    if model.api_key and model.api_key not in keys:
        remedy = f"Add the key under Settings, or put it into .env.{elsewhere}"
        return Missing("key", f"{model.api_key} is not set", remedy, blocks=here)
    if model.base_url:
        return Missing("server", "Needs a server", f"Start one that listens at {model.base_url}.", blocks=False)
    return _missing_weights(model) if here and not models.has_weights(model.model()) else None


def _missing_weights(model: CatalogueModel) -> Missing:
    size = f"{model.size_gb:g} GB" if model.size_gb else "They"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        remedy = "Unset HF_HUB_OFFLINE, or download them where there is a network and give the folder: hf//path."
        return Missing("weights", "Weights are not here", remedy, blocks=False)
    verb = "is" if model.size_gb else "are"
    return Missing(
        "weights", "Weights are not here yet", f"{size} {verb} downloaded at the first launch.", blocks=False
    )


def magnitude(number: int | None) -> str:
    """Return a number with its magnitude: 135M, 1.7B, 128k."""
    if number is None:
        return MISSING
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def _tokens(number: int | None) -> str:
    return f"{number:,}" if number is not None and number < 10_000 else magnitude(number)


def ordered(found: Sequence[ModelView], sort: str) -> list[ModelView]:
    """Return models by "name", "size" or "price", with "-" in front the greatest first; others keep their order.

    What has no size or no price comes last.
    """
    key = sort.removeprefix("-")
    if key == "name":
        return sorted(found, key=lambda each: each.title.lower(), reverse=sort.startswith("-"))
    if key not in _SORTED:
        return list(found)
    known = [(value, each) for each in found if (value := _SORTED[key](each)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
    return [each for _, each in known] + [each for each in found if _SORTED[key](each) is None]


_SORTED: dict[str, Callable[[ModelView], float | None]] = {
    "size": lambda model: model.parameters,
    "price": lambda model: sum(model.price) if model.price else None,
}


def choices(found: Iterable[ModelView]) -> dict[str, dict[str, str]]:
    """Return what there is to choose in each filter, key by title, the first of each being all."""
    shown = list(found)
    providers = {each.maker: each.provider for each in sorted(shown, key=lambda each: each.maker.lower())}
    sizes = {title: key for key, title in SIZE_TITLES.items() if any(each.size == key for each in shown)}
    return {
        "task": {"All tasks": "", **{TASK_TITLES[key]: key for key in TASKS}},
        "provider": {"All providers": "", **providers},
        "size": {"All sizes": "", **sizes},
    }


def state(model: ModelView) -> Html:
    """Return whether a model can be used, and what to do where it cannot."""
    if model.missing is None:
        return chip("Ready", "good")
    shown = chip(model.missing.text, "bad" if model.missing.blocks else "")
    return join([shown, tag("span", remedy(model.missing), class_="lm-sub")])


def remedy(missing: Missing) -> Html:
    """Return what to do about something missing."""
    command = [Html(" "), tag("code", missing.command)] if missing.command else []
    return join([missing.remedy, *command])


def model_line(model: ModelView, standing: str = "") -> Html:
    """Return what stands under a model's title where it is chosen: name, facts, and what is missing.

    Args:
        model: who.
        standing: how it stands in the experiment already, such as "succeeded".
    """
    lines = [join([breaking(model.name), " · ", model.facts])]
    if standing:
        lines.append(tag("span", f"Already in this experiment: {standing}.", class_="lm-sub"))
    if model.missing is not None:
        what = tag("span", f"{model.missing.text}.", class_="lm-error" if model.missing.blocks else None)
        lines.append(tag("span", what, " ", remedy(model.missing), class_="lm-sub"))
    elif model.notes:
        lines.append(tag("span", one_line(model.notes), class_="lm-sub"))
    return join(lines)


def models_list(found: Sequence[ModelView], route: Route) -> Html:
    """Return the models as a list, in the order that the route asks for; an empty one says how to see more."""
    if not found:
        return empty("No model fits", "Search for less, or take a filter away.", button(route.to("models"), "Show all"))
    headers = (
        sortable(route, "name", "Model"), "Good for", sortable(route, "size", "Parameters"), "Context",
        sortable(route, "price", "Price per 1M tokens"), "State",
    )  # fmt: skip
    page = route.number("page")
    shown = ordered(found, route.query.get("sort", ""))[(page - 1) * PER_PAGE : page * PER_PAGE]
    rows = listing(headers, [_row(each, route) for each in shown], numeric=(2, 3))
    return join([rows, pager(route, page, PER_PAGE, len(found), "model")])


def _row(model: ModelView, route: Route) -> tuple[object, ...]:
    title = tag("a", model.title, href=model.link, target="_blank", rel="noopener") if model.link else model.title
    under = join([breaking(model.name), " · ", model.place])
    notes = [tag("span", one_line(model.notes), class_="lm-sub")] if model.notes else []
    price = (
        f"{dollars(model.price[0])} in, {dollars(model.price[1])} out" if model.price and any(model.price) else MISSING
    )
    launch = link(route.to("launch", model=model.name), "Launch it", aria_label=f"Launch {model.title}")
    return (
        join([title, tag("span", under, class_="lm-sub"), *notes]),
        "all tasks" if len(model.tasks) == len(TASKS) else joined([TASK_TITLES[task].lower() for task in model.tasks]),
        magnitude(model.parameters),
        _tokens(model.context_tokens),
        price,
        join([state(model), tag("span", launch, class_="lm-sub")]) if model.usable else state(model),
    )
