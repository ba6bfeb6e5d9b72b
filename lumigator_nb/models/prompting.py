"""From an example's text to the token ids that a model is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lumigator_nb.errors import InvalidInputError

# Tokenizers without a limit carry a huge number instead.
_SANE = 10_000_000
_CAUSAL_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_ENCODER_LIMITS = ("max_encoder_position_embeddings", "max_source_positions", "max_position_embeddings", "n_positions")
_DECODER_LIMITS = ("max_decoder_position_embeddings", "max_target_positions", "max_position_embeddings")


@dataclass(frozen=True)
class Prompt:
    """How texts are put to a model.

    Attributes:
        render: the whole prompt for one text.
        adds_special_tokens: whether the tokenizer adds its start and end marks; a chat template brings its own.
        described: for the record.
    """

    render: Callable[[str], str]
    adds_special_tokens: bool
    described: str


def choose(config: Any, tokenizer: Any, instruction: str) -> Prompt:
    """Return the prompt that fits the model: chat, continuation, or the plain text of a trained summarizer."""
    if config.is_encoder_decoder:
        settings = getattr(config, "task_specific_params", None) or {}
        prefix = settings.get("summarization", {}).get("prefix", "")
        return Prompt(lambda text: prefix + text, True, f"text, after {prefix!r}" if prefix else "text")
    if tokenizer.chat_template:
        return _chat(tokenizer, instruction)
    return Prompt(lambda text: f"{instruction}\n\n{text}\n\nSummary:", True, "instruction, text, 'Summary:'")


def _chat(tokenizer: Any, instruction: str) -> Prompt:
    def template(*messages: tuple[str, str]) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def with_system_role(text: str) -> str:
        return template(("system", instruction), ("user", text))

    try:
        knows_system_role = instruction.strip() in with_system_role("text")
    except Exception:  # the template decides what it raises for a role it does not know
        knows_system_role = False
    if knows_system_role:
        return Prompt(with_system_role, False, "chat: instruction as system prompt")
    return Prompt(
        lambda text: template(("user", f"{instruction}\n\n{text}")), False, "chat: instruction before the text"
    )


class Encoder:
    """Turns texts into token ids that fit the model.

    Args:
        tokenizer: of the model.
        prompt: how a text is put.
        limit: most tokens of a prompt; None where the model has no limit.
    """

    def __init__(self, tokenizer: Any, prompt: Prompt, limit: int | None) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._limit = limit

    def __call__(self, text: str) -> tuple[list[int], bool]:
        """Return the token ids, and whether the text's end was cut to fit; the prompt around it stays whole.

        Raises:
            InvalidInputError: the prompt does not fit even without the text.
        """
        ids = self._tokens(self._prompt.render(text))
        if self._limit is None or len(ids) <= self._limit:
            return ids, False
        while text and len(ids) > self._limit:
            text = self._shortened(text, len(ids) - self._limit)
            ids = self._tokens(self._prompt.render(text))
        if len(ids) > self._limit:
            raise InvalidInputError(
                f"the instruction alone takes {len(ids)} tokens, and the model takes {self._limit}",
                "shorten the task's prompt, or lower max_new_tokens",
            )
        return ids, True

    def _tokens(self, prompt: str) -> list[int]:
        encoded = self._tokenizer(prompt, add_special_tokens=self._prompt.adds_special_tokens, verbose=False)
        return list(encoded["input_ids"])

    def _shortened(self, text: str, excess: int) -> str:
        """Cut about `excess` tokens, and at least one character, off the end."""
        if not self._tokenizer.is_fast:
            n = len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return text[: min(len(text) * (n - excess) // n if n > excess else 0, len(text) - 1)]
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        keep = len(offsets) - excess
        return text[: min(offsets[keep][0], len(text) - 1)] if keep > 0 else ""


@dataclass(frozen=True)
class Limits:
    """What fits, in tokens.

    Attributes:
        prompt: most tokens of a prompt; None where there is no limit.
        new: most tokens generated.
        notes: what was changed from what was asked for.
    """

    prompt: int | None
    new: int
    notes: tuple[str, ...] = ()


def limits(config: Any, tokenizer: Any, wanted: int) -> Limits:
    """Divide the model's room between prompt and `wanted` new tokens.

    A decoder-only model shares one window between both, of which an answer gets half at most; an encoder-decoder
    has one for each.
    """
    text_config = config.get_text_config()
    if config.is_encoder_decoder:
        decoder = _smallest(config, _DECODER_LIMITS)
        new = min(wanted, decoder - 1) if decoder else wanted
        prompt = _smallest(config, _ENCODER_LIMITS, tokenizer.model_max_length)
    else:
        window = _smallest(text_config, _CAUSAL_LIMITS, tokenizer.model_max_length)
        new = min(wanted, window // 2) if window else wanted
        prompt = window - new if window else None
    notes = (f"max_new_tokens lowered from {wanted} to {new}, what the model has room for",) if new < wanted else ()
    return Limits(prompt, new, notes)


def _smallest(config: Any, names: tuple[str, ...], other: int | None = None) -> int | None:
    """The smaller of the first limit that the configuration names and `other`, as far as they make sense."""
    named = next((value for name in names if isinstance(value := getattr(config, name, None), int) and value > 0), None)
    return min((value for value in (named, other) if value is not None and 0 < value < _SANE), default=None)
