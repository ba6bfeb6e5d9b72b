"""From a chat completion, as the OpenAI protocol writes it, to a prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.prices import Priced, listed_name
from lumigator_nb.models.prompts.reasoning import split_reasoning
from lumigator_nb.models.providers.api_failures import MalformedAnswerError

# Where servers put what a model thought, apart from its answer.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


class Usage(NamedTuple):
    """The tokens of an answer, as its provider bills them; None where they are not reported.

    Attributes:
        prompt: all of the input. `cache_read` of them came from the provider's prompt cache, and `cache_write` were
            written to it, at prices of their own.
        completion: all of the output; `reasoning` of them are thoughts.
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
    """Return the prediction that a chat completion holds.

    Args:
        payload: the completion as plain JSON values.
        prompt: what was sent.
        seconds, first: of the whole answer and of its first token; None where they were not measured.
        price: dollars by tokens.
        provider: whose way of reporting tokens the payload follows. What any-llm has converted follows OpenAI's.

    Raises:
        MalformedAnswerError: it holds no answer.
    """
    try:
        choice = payload["choices"][0]
        reasoning, text = _texts(choice["message"])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedAnswerError(f"the answer has no message: {str(payload)[:200]}") from None
    usage = usage_from(payload.get("usage") or {}, provider)
    finish = choice.get("finish_reason")
    error = None
    if not text and finish != "stop":
        error = _why_empty(choice["message"], finish)
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
        cost=_cost(usage, price),
        finish="length" if finish == "length" else "stop",
        numbers=_numbers(choice.get("logprobs")),
    )


def usage_from(usage: Mapping[str, Any], provider: str) -> Usage:
    """Return the tokens that a completion's `usage` reports.

    Providers differ in what they count where: genai-prices knows how. What it does not know, or where it is not
    installed, is read as OpenAI writes it.
    """
    extract = _extractor()
    thoughts = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if extract is not None:
        for name, flavor in ((listed_name(provider), "chat"), (listed_name(provider), "default"), ("openai", "chat")):
            # Without the model's name, which would have to be one that it knows.
            with suppress(LookupError, ValueError):
                found = extract({"usage": usage}, provider_id=name, api_flavor=flavor).usage
                # It writes 0 for what is not reported.
                return Usage(
                    found.input_tokens, found.output_tokens, found.output_reasoning_tokens or thoughts,
                    found.cache_read_tokens or None, found.cache_write_tokens or None,
                )  # fmt: skip
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        thoughts,
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


def _cost(usage: Usage, price: Priced | None) -> float | None:
    if price is None or usage.prompt is None or usage.completion is None:
        return None
    return price(usage.prompt, usage.completion, usage.cache_read or 0, usage.cache_write or 0)


def _numbers(logprobs: Any) -> list[dict[str, float]] | None:
    """For each token that is a number, the numbers that might have stood there, and how likely each was."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not content:
        return None
    found = []
    for token in content:
        if token["token"].strip().isdecimal():
            likely = {each["token"].strip(): math.exp(each["logprob"]) for each in token.get("top_logprobs") or [token]}
            found.append({text: share for text, share in likely.items() if text.isdecimal()})
    return found or None


def _texts(message: Mapping[str, Any]) -> tuple[str | None, str]:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    apart = next((message[name] for name in _REASONING_FIELDS if message.get(name)), None)
    if isinstance(apart, Mapping):
        apart = apart.get("content")
    if apart:
        return str(apart), (content or "").strip()
    reasoning, text = split_reasoning(content or "")
    return reasoning, text.strip()


def _why_empty(message: Mapping[str, Any], finish: Any) -> str:
    if message.get("refusal"):
        return f"the model refused: {message['refusal']}"[:500]
    if finish == "length":
        return "max_new_tokens was used up before the answer began: raise it"
    return f"the model gave no text (finish_reason {finish!r})"
