"""Prompts of local models: from a request to token ids that fit the model's window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import Request
from lumigator_nb.models.prompts import translating
from lumigator_nb.models.prompts.reasoning import left_open
from lumigator_nb.specs import Task

# Tokenizers without a limit have a huge number in its place (transformers' VERY_LARGE_INTEGER is 1e30).
_SANE = 10_000_000
# The names of the window's size in the configurations of transformers, by kind of model.
_CAUSAL_LIMITS = (
    *("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx"),
    *("seq_len", "context_length"),
)
_ENCODER_LIMITS = ("max_encoder_position_embeddings", "max_source_positions", "max_position_embeddings", "n_positions")
_DECODER_LIMITS = ("max_decoder_position_embeddings", "max_target_positions", "max_position_embeddings")


@dataclass(frozen=True)
class Wording:
    """The form of a model's prompts.

    Attributes:
        render: from a request, and the text to use as its user's turn, to the whole prompt.
        adds_special_tokens: whether the tokenizer adds start and end tokens; a chat template has its own.
        described: description for the workflow's details.
        first_token: id of the token that the decoder must begin with; None leaves it to the model.
        opens_reasoning: whether every prompt ends with a ``<think>`` that the model closes.
    """

    render: Callable[[Request, str], str]
    adds_special_tokens: bool
    described: str
    first_token: int | None = None
    opens_reasoning: bool = False


_PROBE = "what the user says"

# Base models continue a text; this is its last line.
_CUES = {
    "summarization": "Summary:",
    "translation": "Translation:",
    "text_generation": "Answer:",
    "classification": "Label:",
}


def choose(name: str, config: Any, tokenizer: Any, task: Task) -> Wording:
    """Return the wording that fits the model: chat, continuation, or the text as a task-specific model expects it.

    A chat template takes precedence, for encoder-decoders too, because the model was trained with it.

    Args:
        name: the model's name, for errors and for models whose languages are in their names.
        config: the model's configuration (transformers' ``PretrainedConfig``).
        tokenizer: the model's tokenizer.
        task: the task.

    Raises:
        InvalidInputError: a translation model does not know the languages.
    """
    if tokenizer.chat_template:
        return _chat(tokenizer)
    if config.is_encoder_decoder:
        return _sequence_to_sequence(name, config, tokenizer, task)
    return continuation(task)


def continuation(task: Task) -> Wording:
    """Return the wording for a base model, which continues a text."""
    cue = _CUES[task.kind]

    def render(request: Request, user: str) -> str:
        turns = [f"{question}\n\n{cue} {answer}" for question, answer in request.shots]
        return "\n\n".join(part for part in (request.system, *turns, user, cue) if part)

    return Wording(render, True, f"instruction, text, {cue!r}")


def _sequence_to_sequence(name: str, config: Any, tokenizer: Any, task: Task) -> Wording:
    """The wording of models trained for a task: no instruction, at most a prefix. A template replaces the prefix.

    Only Marian keeps its prefix with a template, because it is a token that selects the language.
    """
    if task.kind == "translation":
        route = translating.route(name, config, tokenizer, task)
        prefix = route.prefix if task.template is None or config.model_type == "marian" else ""
        return Wording(lambda request, user: prefix + user, True, route.described, route.first_token)
    if task.kind in ("text_generation", "classification") and config.model_type in translating.PREFIX_TYPES:
        return Wording(lambda request, user: f"{request.system}\n\n{user}", True, "instruction, text")
    settings = getattr(config, "task_specific_params", None) or {}
    prefix = settings.get("summarization", {}).get("prefix", "") if task.template is None else ""
    return Wording(lambda request, user: prefix + user, True, f"text, after {prefix!r}" if prefix else "text")


def _chat(tokenizer: Any) -> Wording:
    def template(messages: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def with_system_role(request: Request, user: str) -> str:
        return template(replace(request, user=user).messages)

    def without_system_role(request: Request, user: str) -> str:
        messages = replace(request, user=user, system="").messages
        if request.system:
            messages[0] = {**messages[0], "content": f"{request.system}\n\n{messages[0]['content']}"}
        return template(messages)

    # Some templates refuse a system role, others drop it silently: only a rendered prompt shows which.
    probe = Request(0, "text", "text", system="a system prompt")
    try:
        knows_system_role = probe.system in with_system_role(probe, probe.user)
    except Exception:  # a template can raise anything for a role that it does not know
        knows_system_role = False
    render, place = with_system_role, "as system prompt"
    if not knows_system_role:
        render, place = without_system_role, "before the first text"
    try:
        prompt = render(Request(0, _PROBE, _PROBE), _PROBE)
        # Only what follows the user's turn counts: the example itself may have such tags.
        opens_reasoning = left_open(prompt.rpartition(_PROBE)[2])
    except Exception:  # a template that fails for every request is reported as the error of each example
        opens_reasoning = False
    return Wording(render, False, f"chat: instruction {place}", opens_reasoning=opens_reasoning)


@dataclass(frozen=True)
class Encoded:
    """A request as token ids.

    Attributes:
        request: the request.
        ids: the prompt's token ids.
        truncated: whether the end of the example was cut off so that the prompt fits.
        prompt: the text of the tokens.
        opens_reasoning: see :class:`Wording`.
    """

    request: Request
    ids: list[int]
    truncated: bool
    prompt: str
    opens_reasoning: bool = False


class Encoder:
    """Encodes requests as token ids that fit the model.

    Args:
        tokenizer: the model's tokenizer.
        wording: the form of the prompts.
        limit: most tokens of a prompt; None for no limit.
    """

    def __init__(self, tokenizer: Any, wording: Wording, limit: int | None) -> None:
        self._tokenizer = tokenizer
        self._wording = wording
        self._limit = limit

    def __call__(self, request: Request) -> Encoded:
        """Encode a request. If it is too long, the end of the example is cut off, and the text around it stays whole.

        Raises:
            InvalidInputError: the prompt does not fit even without the example.
        """
        before, text, after = "", request.user, ""
        # A template's filter may have changed the example; then all of the user's turn counts as example.
        if request.example and request.example in request.user:
            before, text, after = request.user.partition(request.example)
        prompt, ids = self._encode(request, before + text + after)
        if self._limit is None or len(ids) <= self._limit:
            return Encoded(request, ids, False, prompt, self._wording.opens_reasoning)
        # In a loop, because tokens at the cut merge differently with the text that follows.
        while text and len(ids) > self._limit:
            text = self._shorten(text, len(ids) - self._limit)
            prompt, ids = self._encode(request, before + text + after)
        if len(ids) > self._limit:
            raise InvalidInputError(
                f"the instruction alone takes {len(ids)} tokens, and the model takes {self._limit}",
                "shorten the task's prompt, or lower max_new_tokens",
            )
        return Encoded(request, ids, True, prompt, self._wording.opens_reasoning)

    def _encode(self, request: Request, user: str) -> tuple[str, list[int]]:
        prompt = self._wording.render(request, user)
        encoded = self._tokenizer(prompt, add_special_tokens=self._wording.adds_special_tokens, verbose=False)
        return prompt, list(encoded["input_ids"])

    def _shorten(self, text: str, excess: int) -> str:
        """Cut about `excess` tokens, and at least one character, off the end."""
        # Only fast tokenizers know where in the text a token begins; for others the cut is proportional.
        if not self._tokenizer.is_fast:
            n = len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return text[: min(len(text) * (n - excess) // n if n > excess else 0, len(text) - 1)]
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        keep = len(offsets) - excess
        return text[: min(offsets[keep][0], len(text) - 1)] if keep > 0 else ""


@dataclass(frozen=True)
class Limits:
    """Limits of a model, in tokens.

    Attributes:
        prompt: most tokens of a prompt; None for no limit.
        new: most tokens of an answer.
        notes: how they differ from the settings, and why.
    """

    prompt: int | None
    new: int
    notes: tuple[str, ...] = ()


def limits(config: Any, tokenizer: Any, wanted: int, room: int | None = None) -> Limits:
    """Divide the model's window between prompt and `wanted` new tokens.

    A decoder-only model has one window for both, of which an answer gets at most half; an encoder-decoder has one for
    each.

    Args:
        config: the model's configuration (transformers' ``PretrainedConfig``).
        tokenizer: the model's tokenizer.
        wanted: the setting `max_new_tokens`.
        room: most tokens of prompt and answer that memory has room for; None if the window is the only limit.
    """
    notes: list[str] = []
    text_config = config.get_text_config()
    if config.is_encoder_decoder:
        decoder = _smallest(config, _DECODER_LIMITS)
        # The decoder's start token takes one position.
        new = min(wanted, decoder - 1) if decoder else wanted
        prompt = _smallest(config, _ENCODER_LIMITS, tokenizer.model_max_length)
    else:
        window = _smallest(text_config, _CAUSAL_LIMITS, tokenizer.model_max_length)
        if room is not None and (window is None or room < window):
            if window is not None:
                notes.append(
                    f"prompt and answer have {room} tokens, not the model's {window}: memory has room for no more"
                )
            window = room
        new = min(wanted, window // 2) if window else wanted
        prompt = window - new if window else None
    if new < wanted:
        notes.append(f"max_new_tokens lowered from {wanted} to {new}, what the model has room for")
    return Limits(prompt, new, tuple(notes))


def _smallest(config: Any, names: tuple[str, ...], other: int | None = None) -> int | None:
    """The smaller of `other` and the first of `names` in the configuration; None if neither is a sensible number."""
    values = (getattr(config, name, None) for name in names)
    configured = next((value for value in values if isinstance(value, int) and value > 0), None)
    return min((value for value in (configured, other) if value is not None and 0 < value < _SANE), default=None)
