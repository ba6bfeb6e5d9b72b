"""Predictions from chat completions in the format of the OpenAI protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.prices import Priced, listed_name
from lumigator_nb.models.prompts.reasoning import USED_UP, split_reasoning
from lumigator_nb.models.providers.api_failures import MalformedAnswerError

# The fields in which servers return reasoning separately from the answer.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


class Usage(NamedTuple):
    """The billed tokens of an answer; None if they are not reported.

    Attributes:
        prompt: all input tokens.
        completion: all output tokens.
        reasoning: those output tokens that are reasoning.
        cache_read: those input tokens that were read from the provider's prompt cache, at a separate price.
        cache_write: those input tokens that were written to that cache, at a separate price.
    """

    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None


def prediction_from(
    payload: Any,
    *,
    prompt: str,
    seconds: float | None,
    first: float | None,
    price: Priced | None,
    provider: str = "openai",
) -> Prediction:
    """Return the prediction in a chat completion.

    Args:
        payload: the completion as plain JSON values.
        prompt: the messages that were sent, as JSON.
        seconds: latency of the whole answer; None if it was not measured.
        first: latency of the first token; None if it was not measured.
        price: price of the answer by its tokens; None if it is unknown.
        provider: the provider whose format of usage the payload has. any-llm converts to OpenAI's.

    Raises:
        MalformedAnswerError: the payload has no message.
    """
    try:
        choice = payload["choices"][0]
        message = choice["message"]
        reasoning, text = _texts(message)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedAnswerError(f"the answer has no message: {str(payload)[:200]}") from None
    usage = usage_from(payload.get("usage") or {}, provider)
    finish = choice.get("finish_reason")
    error = None
    if not text and finish != "stop":
        error = f"the model gave no text (finish_reason {finish!r})"
        if message.get("refusal"):
            error = f"the model refused: {message['refusal']}"[:500]
        elif finish == "length":
            error = USED_UP
    cost = None
    if price is not None and usage.prompt is not None and usage.completion is not None:
        cost = price(usage.prompt, usage.completion, usage.cache_read or 0, usage.cache_write or 0)
    return Prediction(
        text if error is None else None,
        error=error,
        prompt=prompt,
        reasoning=reasoning,
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        reasoning_tokens=usage.reasoning,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=usage.cache_write,
        seconds=seconds,
        first_token_seconds=first,
        cost=cost,
        finish="length" if finish == "length" else "stop",
        numbers=_number_probabilities(choice.get("logprobs")),
    )


def usage_from(usage: Mapping[str, Any], provider: str) -> Usage:
    """Return the tokens in a completion's `usage`.

    Providers count in different ways, for example with or without cached tokens, and genai-prices knows how. Without
    it, and for providers that it does not know, OpenAI's format is assumed.
    """
    extract = _extractor()
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if extract is not None:
        for name, flavor in ((listed_name(provider), "chat"), (listed_name(provider), "default"), ("openai", "chat")):
            # Without the model's name: genai-prices refuses names that it does not know.
            with suppress(LookupError, ValueError):
                extracted = extract({"usage": usage}, provider_id=name, api_flavor=flavor).usage
                # genai-prices returns 0 for tokens that are not reported.
                return Usage(
                    prompt=extracted.input_tokens,
                    completion=extracted.output_tokens,
                    reasoning=extracted.output_reasoning_tokens or reasoning,
                    cache_read=extracted.cache_read_tokens or None,
                    cache_write=extracted.cache_write_tokens or None,
                )
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        reasoning,
        details.get("cached_tokens"),
        details.get("cache_write_tokens"),
    )


@cache
def _extractor() -> Callable[..., Any] | None:
    try:
        import genai_prices
    except ImportError:
        return None
    extract: Callable[..., Any] = genai_prices.extract_usage
    return extract


def _number_probabilities(logprobs: Any) -> list[dict[str, float]] | None:
    """For each token that is a number, the alternative numbers with their probabilities; None if there is none."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not content:
        return None
    numbers = []
    for token in content:
        if token["token"].strip().isdecimal():
            alternatives = token.get("top_logprobs") or [token]
            likely = {entry["token"].strip(): math.exp(entry["logprob"]) for entry in alternatives}
            numbers.append({text: probability for text, probability in likely.items() if text.isdecimal()})
    return numbers or None


def _texts(message: Mapping[str, Any]) -> tuple[str | None, str]:
    """The reasoning (None for none) and the answer of a message."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    separate = next((message[name] for name in _REASONING_FIELDS if message.get(name)), None)
    if isinstance(separate, Mapping):
        separate = separate.get("content")
    if separate:
        return str(separate), (content or "").strip()
    reasoning, text = split_reasoning(content or "")
    return reasoning, text.strip()
