"""Predictions: from the token ids that a local model generated to an answer."""

from __future__ import annotations

from typing import Any

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.prompts.prompting import Encoded
from lumigator_nb.models.prompts.reasoning import USED_UP, split_reasoning


class Reader:
    """Decodes answers.

    Args:
        tokenizer: the model's tokenizer.
        ends: the ids of the tokens that end an answer.
        forced: id of the token that the decoder was made to begin with; it does not count as generated.
    """

    def __init__(self, tokenizer: Any, ends: list[int], *, forced: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._forced = forced

    def __call__(self, prompt: Encoded, row: list[int], seconds: float) -> Prediction:
        """Return the answer to a prompt.

        Args:
            prompt: the encoded request.
            row: the generated token ids; in a batch they may go on after the end token.
            seconds: latency of the answer.
        """
        end = next((index for index, token in enumerate(row) if token in self._ends), len(row))
        ids = [token for index, token in enumerate(row[:end]) if index > 0 or token != self._forced]
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        reasoning, answer = split_reasoning(text, opened=prompt.opens_reasoning)
        reasoning_tokens = None
        if reasoning:
            reasoning_ids = self._tokenizer(reasoning, add_special_tokens=False, verbose=False)["input_ids"]
            reasoning_tokens = len(reasoning_ids) or None
        finish = "stop" if end < len(row) else "length"
        answer = answer.strip()
        used_up = bool(reasoning) and not answer and finish == "length"
        return Prediction(
            None if used_up else answer,
            error=USED_UP if used_up else None,
            prompt=prompt.prompt,
            reasoning=reasoning,
            prompt_tokens=len(prompt.ids),
            completion_tokens=len(ids),
            reasoning_tokens=reasoning_tokens,
            seconds=seconds,
            truncated=prompt.truncated,
            finish=finish,
        )


def end_tokens(own: Any, tokenizer: Any) -> list[int]:
    """Return the ids of all tokens that end an answer.

    Chat models often name one in their generation settings and another in their tokenizer.

    Args:
        own: the model's own generation settings.
        tokenizer: the model's tokenizer.
    """
    configured = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    return sorted({token for token in (*configured, tokenizer.eos_token_id) if token is not None})


def failed(prompt: Encoded, error: str) -> Prediction:
    """Return the prediction of a request that the model could not answer."""
    return Prediction(
        None, error=error, prompt=prompt.prompt, prompt_tokens=len(prompt.ids), truncated=prompt.truncated
    )


def described(error: Exception) -> str:
    """Return an exception as the text that a prediction stores: one line of at most 500 characters."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:500]
