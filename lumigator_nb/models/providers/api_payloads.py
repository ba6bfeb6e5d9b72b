"""Predictions from chat completions in the format of the OpenAI protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.prices import Priced, listed_name
from lumigator_nb.models.prompts.reasoning import USED_UP, split_reasoning
from lumigator_nb.models.providers.api_failures import MalformedAnswerError

# The fields in which servers return reasoning separately from the answer.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
# The fields of `Usage` besides `reasoning` and `others`, by their names in genai-prices.
_COUNTED = {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}


class Usage(NamedTuple):
    """The billed tokens of an answer; None if they are not reported.

    Attributes:
        prompt: all input tokens.
        completion: all output tokens.
        reasoning: those output tokens that are reasoning.
        cache_read: those input tokens that were read from the provider's prompt cache, at a separate price.
        cache_write: those input tokens that were written to that cache, at a separate price.
        others: further kinds of tokens within those, such as audio, by their names in genai-prices.
    """

    prompt: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    others: Mapping[str, int] = MappingProxyType({})


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
        provider: the provider whose format of usage the payload has; any-llm converts all that do not speak OpenAI's
            protocol to OpenAI's format.

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
        cost = price(usage.prompt, usage.completion, usage.cache_read or 0, usage.cache_write or 0, usage.others)
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
    """Return the tokens in the `usage` of an answer.

    Providers count in different ways, for example with or without cached tokens, and genai-prices knows how. A provider
    that it does not know is expected to count as OpenAI does.
    """
    from genai_prices import extract_usage

    name = listed_name(provider)
    for provider_id, flavor in ((name, "chat"), (name, "default"), ("openai", "chat"), ("openai", "responses")):
        # Without the model's name: genai-prices refuses names that it does not know.
        with suppress(LookupError, ValueError):
            extracted = extract_usage({"usage": usage}, provider_id=provider_id, api_flavor=flavor).usage
            others = {kind: n for kind, n in vars(extracted).items() if n and kind not in _COUNTED}
            # any-llm passes on for how long Anthropic caches, in a field that OpenAI's format lacks.
            cached_for = (usage.get("prompt_tokens_details") or {}).get("cache_creation_token_details") or {}
            if long := cached_for.get("ephemeral_1h_input_tokens"):
                others["cache_write_1h_tokens"] = long
            # genai-prices returns 0 for tokens that are not reported.
            return Usage(
                prompt=extracted.input_tokens,
                completion=extracted.output_tokens,
                reasoning=extracted.output_reasoning_tokens or None,
                cache_read=extracted.cache_read_tokens or None,
                cache_write=extracted.cache_write_tokens or None,
                others=others,
            )
    return Usage()


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
