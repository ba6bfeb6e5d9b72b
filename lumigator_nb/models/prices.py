"""What answers cost, in US dollars."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import Field

from lumigator_nb.models.baselines import is_baseline
from lumigator_nb.specs import Model, Value

# genai-prices names some providers by their owners.
_OTHER_NAMES = {"gemini": "google", "vertexai": "google", "bedrock": "aws", "moonshot": "moonshotai", "xai": "x-ai"}
BATCH_DISCOUNT = 0.5


class Price(Value):
    """Dollars for a million tokens: ``Model(…, price={"prompt": 0.15, "completion": 0.60})``.

    Attributes:
        prompt, completion: each; completion includes reasoning.
    """

    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)

    def __call__(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the dollars of one answer."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def price_of(model: Model) -> Callable[[int, int], float] | None:
    """Return the dollars of an answer as a function of prompt and completion tokens; None where there is no price.

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
    return _list_price(_OTHER_NAMES.get(model.provider, model.provider), model.name)


@lru_cache
def _list_price(provider: str, name: str) -> Callable[[int, int], float] | None:
    from genai_prices import Usage, calc_price

    def look_up(prompt_tokens: int, completion_tokens: int) -> Any:
        usage = Usage(input_tokens=prompt_tokens, output_tokens=completion_tokens)
        return calc_price(usage, model_ref=name, provider_id=provider)

    try:
        listed = look_up(1, 1).model_price
    except LookupError:
        return None
    flat = [getattr(listed, field, None) for field in ("input_mtok", "output_mtok")]
    # A lookup takes 0.1 ms; a price that does not depend on the length of the prompt needs just one.
    if all(isinstance(each, (int, float)) or type(each).__name__ == "Decimal" for each in flat):
        return Price(prompt=float(flat[0] or 0), completion=float(flat[1] or 0))
    return lambda prompt_tokens, completion_tokens: float(look_up(prompt_tokens, completion_tokens).total_price)
