"""List prices of hosted models: those of the installed genai-prices, or those that the workspace has taken over.

`genai_prices.UpdatePrices` fetches from the network in each process, by itself and again each hour. Here a list is
fetched only when somebody asks, checked before it counts, and kept in the store, so that a notebook, a server and the
workers of a cluster without a way to the internet compute the same prices.
"""

from __future__ import annotations

import importlib.util
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lumigator_nb.errors import DamagedError, InvalidInputError

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

# Seconds after which the store is asked again for a list that another process may have taken over.
LOOK_AGAIN_S = 60.0
_HINT = "it must have the format of genai-prices, prices/new_data/v2/data.json; nothing has changed"
_NO_FIELDS = ("models", "decimal", "TieredPrices")

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a price list or catalogue is from.

    Attributes:
        source: "genai-prices 0.2.3" for the installed package, else the name of a file, or an address without its
            credentials and query.
        taken: when it was taken over (UTC); None for what is installed.
    """

    source: str
    taken: datetime | None = None

    def __str__(self) -> str:
        return self.source if self.taken is None else f"{self.source}, of {self.taken:%Y-%m-%d}"


class PriceList:
    """Prices at one time. Lists are compared by identity.

    Attributes:
        origin: where it is from.
        snapshot: answers what a model's tokens cost.
    """

    def __init__(self, snapshot: DataSnapshot, origin: Origin) -> None:
        self.snapshot, self.origin = snapshot, origin

    @property
    def n_models(self) -> int:
        """Number of models with a price."""
        return sum(len(provider.models) for provider in self.snapshot.providers)


class Files(Protocol):
    """The store, as far as it is needed here."""

    def find(self, name: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""


class Kept(Generic[T]):
    """What a file of the store says. It is read again after a minute, and parsed again if it has changed.

    Args:
        files: the store; it is not kept from being collected as garbage.
        name: of the file.
        parse: makes a value of the content.
    """

    def __init__(self, files: Files, name: str, parse: Callable[[bytes], T]) -> None:
        self._files, self._name, self._parse = weakref.ref(files), name, parse
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._data: bytes | None = None
        self._value: T | None = None

    @property
    def is_open(self) -> bool:
        """Whether the store is still in use."""
        return self._files() is not None

    def value(self) -> T | None:
        """Return what the file says; None if there is no such file."""
        with self._lock:
            files = self._files()
            if files is None:
                return None
            if self._read_at is None or time.monotonic() - self._read_at > LOOK_AGAIN_S:
                data = files.find(self._name)
                if data != self._data:
                    self._value = None if data is None else self._parse(data)
                    self._data = data
                self._read_at = time.monotonic()
            return self._value

    def read_again(self) -> None:
        """Read the file at the next :meth:`value`."""
        with self._lock:
            self._read_at = None


# Those of the stores that this process has opened; the last one counts.
_kept: list[Kept[PriceList]] = []
_installed: PriceList | None = None


def look_in(files: Files, name: str) -> None:
    """Have this process take prices from a file that :func:`packed` made, as long as it is there.

    A process has one price list: that of the workspace which it opened or refreshed last.
    """
    _kept[:] = [*(kept for kept in _kept if kept.is_open), Kept(files, name, unpacked)]


def is_installed() -> bool:
    """Return whether list prices are known at all: genai-prices is part of the extra `api`."""
    return importlib.util.find_spec("genai_prices") is not None


def current() -> Iterator[PriceList]:
    """Yield the list that was taken over, if there is one, and the installed one, for models that the first lacks.

    Raises:
        DamagedError: the kept list cannot be read by the installed genai-prices.
        StoreUnavailableError: the store does not answer.
    """
    if kept := _taken_over():
        yield kept
    yield installed()


def origins() -> tuple[Origin, ...]:
    """Return where the lists of :func:`current` are from; errors as there."""
    kept = _taken_over()
    # Not current(): to read all prices of the package takes a tenth of a second.
    package = Origin(f"genai-prices {version('genai-prices')}")
    return (kept.origin, package) if kept else (package,)


def _taken_over() -> PriceList | None:
    kept = next((kept for kept in reversed(_kept) if kept.is_open), None)
    return kept.value() if kept else None


def installed() -> PriceList:
    """Return the list of the installed genai-prices, or that of a running `genai_prices.UpdatePrices`."""
    from genai_prices.data_snapshot import get_snapshot

    global _installed
    snapshot = get_snapshot()
    if _installed is None or _installed.snapshot is not snapshot:
        _installed = PriceList(snapshot, Origin(f"genai-prices {version('genai-prices')}"))
    return _installed


def packed(data: bytes, origin: Origin) -> bytes:
    """Return a list with its origin, as it is kept in the store.

    Raises:
        InvalidInputError: as :func:`parse`.
    """
    providers = _array(data, origin.source)
    parse(data, origin.source)
    taken = origin.taken and origin.taken.isoformat()
    return json.dumps({"source": origin.source, "taken": taken, "providers": providers}).encode()


def unpacked(data: bytes) -> PriceList:
    """Return the list that :func:`packed` wrote.

    Raises:
        DamagedError: it cannot be read by the installed genai-prices.
    """
    from genai_prices.data_snapshot import DataSnapshot

    try:
        document = json.loads(data)
        origin = Origin(document["source"], datetime.fromisoformat(document["taken"]))
        return PriceList(DataSnapshot(_valid(document["providers"]), from_auto_update=True), origin)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise DamagedError(
            f"the price list in the store cannot be read by genai-prices {version('genai-prices')}: "
            f"{type(error).__name__}",
            "refresh it with 'lumigator-nb models refresh', remove it with 'lumigator-nb models reset', or install "
            "the same genai-prices on all machines",
        ) from None


def parse(data: bytes, where: str) -> list[Provider]:
    """Read a price list in the format of genai-prices.

    Args:
        where: names the file in errors.

    Raises:
        InvalidInputError: it is not in that format; the message names provider, model and field.
    """
    raw = _array(data, where)
    try:
        providers = _valid(raw)
    except (ValueError, TypeError, ArithmeticError):  # pydantic's errors are ValueErrors, too
        raise InvalidInputError(f"the price list {where}: {_fault(raw)}", _HINT) from None
    ids = [provider.id for provider in providers]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise InvalidInputError(f"the price list {where} has the provider {twice!r} more than once", _HINT)
    if not any(provider.models for provider in providers):
        raise InvalidInputError(f"the price list {where} has no model", _HINT)
    return providers


def _array(data: bytes, where: str) -> list[Any]:
    try:
        raw = json.loads(data)
    except RecursionError:
        raise InvalidInputError(f"the price list {where} is not JSON: it is nested too deep", _HINT) from None
    except ValueError as error:
        raise InvalidInputError(f"the price list {where} is not JSON: {error}", _HINT) from None
    if not isinstance(raw, list):
        raise InvalidInputError(f"the price list {where} is no list of providers", _HINT)
    return raw


def _valid(raw: list[Any]) -> list[Provider]:
    """Return the providers of a list.

    Raises:
        ValueError: it has not the format of genai-prices, or a price is none.
    """
    providers: list[Provider] = _schemas()[0].validate_python(_with_prices(raw))
    for model in (model for provider in providers for model in provider.models):
        for price in _prices(model):
            _check(price)
    return providers


@cache
def _schemas() -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    """Return the schema of a list, and that of a set of rates."""
    from genai_prices.types import Provider, TieredPrices

    config = ConfigDict(arbitrary_types_allowed=True)
    return TypeAdapter(list[Provider], config=config), TypeAdapter(dict[str, Decimal | TieredPrices | None])


def _with_prices(value: Any) -> Any:
    """Replace each set of rates in JSON by a `ModelPrice`, for which pydantic has no schema."""
    if isinstance(value, list):
        return [_with_prices(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: _price(inner) if name == "prices" and isinstance(inner, Mapping) else _with_prices(inner)
        for name, inner in value.items()
    }


def _price(rates: Mapping[str, Any]) -> ModelPrice:
    from genai_prices.types import ModelPrice

    known = {name: rate for name, rate in rates.items() if _is_known(name)}
    if rates and not known:
        raise ValueError(f"prices: genai-prices knows none of {', '.join(map(repr, rates))}")
    return ModelPrice(**_schemas()[1].validate_python(known))


def _is_known(rate: str) -> bool:
    from genai_prices.types import ModelPrice

    return hasattr(ModelPrice(), rate)


def unknown_rates(data: bytes) -> tuple[str, ...]:
    """Return the rates of a valid list that the installed genai-prices does not know, and so does not charge."""
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                if name == "prices" and isinstance(inner, Mapping):
                    found.update(rate for rate in inner if rate not in found and not _is_known(rate))
                else:
                    walk(inner)

    walk(json.loads(data))
    return tuple(sorted(found))


def _prices(model: ModelInfo) -> Iterator[ModelPrice]:
    from genai_prices.types import ConditionalPrice

    for price in model.prices if isinstance(model.prices, list) else [model.prices]:
        yield price.prices if isinstance(price, ConditionalPrice) else price
    for variant in model.price_variants or ():
        yield variant.prices


def _check(price: ModelPrice) -> None:
    """Check that a price can be computed.

    Raises:
        ValueError: a rate is no amount, or one is missing that another needs.
    """
    from genai_prices import Usage
    from genai_prices.types import TieredPrices

    for name, rate in vars(price).items():
        amounts = [rate.base, *(tier.price for tier in rate.tiers)] if isinstance(rate, TieredPrices) else [rate]
        if any(amount is not None and not (amount.is_finite() and amount >= 0) for amount in amounts):
            raise ValueError(f"prices.{name}: a price is a number that is not negative")
    price.calc_price(Usage(input_tokens=1, output_tokens=1))


def _fault(raw: list[Any]) -> str:
    """Say which provider and model of a list is wrong, and why."""
    for number, provider in enumerate(raw, start=1):
        name = f"provider {number}"
        if isinstance(provider, Mapping):
            name += f" ({str(provider.get('id', 'without an id'))[:100]})"
            models = provider.get("models")
            for place, model in enumerate(models if isinstance(models, list) else (), start=1):
                if fault := _fault_of({"id": "", "name": "", "api_pattern": "", "models": [model]}):
                    known = str(model.get("id", "without an id"))[:100] if isinstance(model, Mapping) else "no mapping"
                    return f"{name}, model {place} ({known}), {fault}"
        if fault := _fault_of(provider):
            return f"{name}, {fault}"
    return "it cannot be read"


def _fault_of(provider: Any) -> str | None:
    try:
        _valid([provider])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "is_instance_of":
            return 'prices: expected rates such as {"input_mtok": 0.15, "output_mtok": 0.6}'
        # Numbers are places in lists of one; the other parts left out are names of pydantic's.
        parts = [part for part in first["loc"] if isinstance(part, str) and "[" not in part]
        names = [part for part in parts if part not in _NO_FIELDS] or parts
        return ": ".join([".".join(names), first["msg"]] if names else [first["msg"]])
    except (ValueError, TypeError, ArithmeticError) as error:
        return str(error)
    return None
