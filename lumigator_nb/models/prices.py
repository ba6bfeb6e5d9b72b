"""Prices of answers, in US dollars."""

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
# The share of the list price that OpenAI, Anthropic and Mistral charge for a batch.
BATCH_DISCOUNT = 0.5


class Priced(Protocol):
    """A function from an answer's tokens to its price in US dollars."""

    def __call__(
        self,
        prompt_tokens: float,
        completion_tokens: float,
        cache_read_tokens: float = 0,
        cache_write_tokens: float = 0,
        /,
    ) -> float:
        """Return the price of one answer in US dollars.

        Args:
            prompt_tokens: all input tokens, including those read from or written to the provider's prompt cache.
            completion_tokens: all output tokens, including reasoning.
            cache_read_tokens: those of the prompt that the provider read from its cache.
            cache_write_tokens: those of the prompt that the provider wrote to its cache.
        """
        ...


class Price(Value):
    """US dollars per million tokens: ``Model(…, price={"prompt": 0.15, "completion": 0.60})``.

    Attributes:
        prompt: of input tokens.
        completion: of output tokens, including reasoning.
        cache_read, cache_write: of input tokens that the provider reads from its prompt cache, or writes to it;
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
        read, written = _clip(prompt_tokens, cache_read_tokens, cache_write_tokens)
        cache_read = self.prompt if self.cache_read is None else self.cache_read
        cache_write = self.prompt if self.cache_write is None else self.cache_write
        prompt = (prompt_tokens - read - written) * self.prompt + read * cache_read + written * cache_write
        return (prompt + completion_tokens * self.completion) / 1e6


def _clip(prompt: float, read: float, written: float) -> tuple[float, float]:
    """Keep cached tokens within the prompt: some servers report more of them than the prompt has."""
    read = min(read, prompt)
    return read, min(written, prompt - read)


def highest(price: Priced, prompt_tokens: float, completion_tokens: float) -> float:
    """Return the most that an answer can cost: some providers charge more for a prompt that they write to a cache."""
    return max(price(prompt_tokens, completion_tokens), price(prompt_tokens, completion_tokens, 0, prompt_tokens))


def listed_name(provider: str) -> str:
    """Return the name of a provider in genai-prices."""
    return _OTHER_NAMES.get(provider, provider)


def price_of(model: Model) -> Priced | None:
    """Return the price of an answer as a function of its tokens; None if it is unknown.

    A `price` in the model's settings comes first, then the provider's public list price
    (https://github.com/pydantic/genai-prices). A self-hosted model has no list price; baselines cost nothing.
    """
    if is_baseline(model):
        return Price(prompt=0, completion=0)
    own = model.options.get("price")
    if own is not None:
        return Price.model_validate(own)
    if model.base_url or importlib.util.find_spec("genai_prices") is None:
        return None
    return _list_price(listed_name(model.provider), model.name)


@lru_cache  # one lookup per model, not per answer
def _list_price(provider: str, name: str) -> Priced | None:
    from genai_prices import Usage, calc_price

    def look_up(prompt: float, completion: float, read: float = 0, written: float = 0) -> Any:
        read, written = _clip(prompt, read, written)
        usage = Usage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=read, cache_write_tokens=written)
        return calc_price(usage, model_ref=name, provider_id=provider)

    try:
        listed = look_up(1, 1)
    except LookupError:
        return None
    fields = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    rates = [getattr(listed.model_price, field, None) for field in fields]
    # A lookup takes 0.1 ms per answer. It is needed only if the rate depends on the length of the prompt or, as
    # DeepSeek's, on the time of day.
    is_fixed = not isinstance(listed.model.prices, list)
    if is_fixed and all(rate is None or isinstance(rate, (int, float, Decimal)) for rate in rates):
        prompt, completion, read, written = (None if rate is None else float(rate) for rate in rates)
        return Price(prompt=prompt or 0.0, completion=completion or 0.0, cache_read=read, cache_write=written)
    return lambda *tokens: float(look_up(*tokens).total_price)
