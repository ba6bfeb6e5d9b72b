"""From the token ids that a model of this machine wrote to a prediction."""

from __future__ import annotations

from typing import Any

from lumigator_nb.models.base import Prediction
from lumigator_nb.models.prompts.prompting import Encoded
from lumigator_nb.models.prompts.reasoning import USED_UP, split_reasoning


class Reader:
    """Reads answers.

    Args:
        tokenizer: of the model.
        ends: the tokens that end an answer.
        forced: what the model was made to begin with, which does not count.
    """

    def __init__(self, tokenizer: Any, ends: list[int], *, forced: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._ends = ends
        self._forced = forced

    def __call__(self, each: Encoded, row: list[int], seconds: float) -> Prediction:
        """Return what a row of tokens says, which may go on beyond the end mark."""
        ids = self._completion(row)
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        reasoning, answer = split_reasoning(text, opened=each.opens_reasoning)
        thought = 0
        if reasoning:
            thought = len(self._tokenizer(reasoning, add_special_tokens=False, verbose=False)["input_ids"])
        finish = "stop" if any(token in self._ends for token in row) else "length"
        answer = answer.strip()
        used_up = bool(reasoning) and not answer and finish == "length"
        return Prediction(
            None if used_up else answer,
            error=USED_UP if used_up else None,
            prompt=each.prompt,
            reasoning=reasoning,
            prompt_tokens=len(each.ids),
            completion_tokens=len(ids),
            reasoning_tokens=thought or None,
            seconds=seconds,
            truncated=each.truncated,
            finish=finish,
        )

    def _completion(self, row: list[int]) -> list[int]:
        """The tokens that count: up to the end mark, without what the decoder was forced to begin with."""
        stop = next((at for at, token in enumerate(row) if token in self._ends), len(row))
        return [token for at, token in enumerate(row[:stop]) if at > 0 or token != self._forced]


def end_tokens(own: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: chat models often name one in one place and another in the other.

    Args:
        own: the model's own generation settings.
    """
    named = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    return sorted({token for token in (*named, tokenizer.eos_token_id) if token is not None})


def failed(each: Encoded, error: str) -> Prediction:
    """Return the prediction of a request that was put to the model and came to nothing."""
    return Prediction(None, error=error, prompt=each.prompt, prompt_tokens=len(each.ids), truncated=each.truncated)


def described(error: Exception) -> str:
    """Return an error as a row of predictions holds it."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:500]
