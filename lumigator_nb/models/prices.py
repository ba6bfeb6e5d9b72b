"""What answers cost, in US dollars."""

from __future__ import annotations

import importlib.util
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from pydantic import Field

from lumigator_nb.models.providers.baselines import is_baseline
from lumigator_nb.specs import Model, Value

# genai-prices names some providers by their owners.
_OTHER_NAMES = {"gemini": "google", "vertexai": "google", "bedrock": "aws", "moonshot": "moonshotai", "xai": "x-ai"}
BATCH_DISCOUNT = 0.5


class Priced(Protocol):
    """Dollars of an answer by its tokens."""

    def __call__(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cache_read_tokens: float = 0,
        cache_write_tokens: float = 0,
        /,
    ) -> float:
        """Return dollars.

        Args:
            prompt_tokens: all of the input, those read from or written to the provider's prompt cache included.
        """
        ...


class Price(Value):
    """Dollars for a million tokens: ``Model(…, price={"prompt": 0.15, "completion": 0.60})``.

    Attributes:
        prompt, completion: each; completion includes reasoning.
        cache_read, cache_write: for tokens of the prompt that the provider takes from its prompt cache, or puts there;
            default the same as `prompt`.
    """

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)

    def __call__(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cache_read_tokens: float = 0,
        cache_write_tokens: float = 0,
        /,
    ) -> float:
        """Return the dollars of one answer; arguments as of :class:`Priced`."""
        read, written = _within(prompt_tokens, cache_read_tokens, cache_write_tokens)
        cache_read = self.prompt if self.cache_read is None else self.cache_read
        cache_write = self.prompt if self.cache_write is None else self.cache_write
        asked = (prompt_tokens - read - written) * self.prompt + read * cache_read + written * cache_write
        return (asked + completion_tokens * self.completion) / 1e6


def _within(prompt: float, read: float, written: float) -> tuple[float, float]:
    """Keep the parts of a prompt within the whole, whatever a server reports."""
    read = min(read, prompt)
    return read, min(written, prompt - read)


def highest(price: Priced, prompt_tokens: float, completion_tokens: float) -> float:
    """Return the most that an answer may cost: some providers charge more for a prompt that they put into a cache."""
    return max(price(prompt_tokens, completion_tokens), price(prompt_tokens, completion_tokens, 0, prompt_tokens))


def listed_name(provider: str) -> str:
    """Return what genai-prices calls a provider."""
    return _OTHER_NAMES.get(provider, provider)


def price_of(model: Model) -> Priced | None:
    """Return the dollars of an answer as a function of its tokens; None where there is no price.

    The price that the model was given comes first, then the public list price of its provider
    (https://github.com/pydantic/genai-prices). A server of one's own has no list price; baselines cost nothing.
    """
    if is_baseline(model):
        return Price(prompt=0, completion=0)
    own = model.options.get("price")
    if own is not None:
        return Price.model_validate(own)
    if model.base_url or importlib.util.find_spec("genai_prices") is None:
        return None
    return _list_price(listed_name(model.provider), model.name)


@lru_cache
def _list_price(provider: str, name: str) -> Priced | None:
    from genai_prices import Usage, calc_price

    def look_up(prompt: float, completion: float, read: float = 0, written: float = 0) -> Any:
        read, written = _within(prompt, read, written)
        usage = Usage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=read, cache_write_tokens=written)
        return calc_price(usage, model_ref=name, provider_id=provider)

    try:
        listed = look_up(1, 1).model_price
    except LookupError:
        return None
    parts = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    flat = {part: getattr(listed, part, None) for part in parts}
    # A lookup takes 0.1 ms; a price that does not depend on the length of the prompt needs just one.
    if all(each is None or isinstance(each, (int, float, Decimal)) for each in flat.values()):
        prompt, completion, read, written = (None if each is None else float(each) for each in flat.values())
        return Price(prompt=prompt or 0.0, completion=completion or 0.0, cache_read=read, cache_write=written)
    return lambda *tokens: float(look_up(*tokens).total_price)
