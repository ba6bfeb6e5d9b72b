"""From a chat completion, as the OpenAI protocol writes it, to a prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.failures import MalformedAnswerError
from lumigator_nb.models.reasoning import split_reasoning

# Where servers put what a model thought, apart from its answer.
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


def prediction_from(
    payload: Any, *, prompt: str, seconds: float | None, first: float | None, price: Callable[[int, int], float] | None
) -> Prediction:
    """Return the prediction that a chat completion holds.

    Args:
        payload: the completion as plain JSON values.
        prompt: what was sent.
        seconds, first: of the whole answer and of its first token; None where they were not measured.
        price: dollars by prompt and completion tokens.

    Raises:
        MalformedAnswerError: it holds no answer.
    """
    try:
        choice = payload["choices"][0]
        reasoning, text = _texts(choice["message"])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedAnswerError(f"the answer has no message: {str(payload)[:200]}") from None
    usage = payload.get("usage") or {}
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    finish = choice.get("finish_reason")
    error = None
    if not text and finish != "stop":
        error = _why_empty(choice["message"], finish)
    return Prediction(
        text if error is None else None,
        error=error,
        prompt=prompt,
        reasoning=reasoning,
        prompt_tokens=asked,
        completion_tokens=answered,
        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),
        seconds=seconds,
        first_token_seconds=first,
        cost=price(asked, answered) if price and asked is not None and answered is not None else None,
        finish="length" if finish == "length" else "stop",
        numbers=_numbers(choice.get("logprobs")),
    )


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
