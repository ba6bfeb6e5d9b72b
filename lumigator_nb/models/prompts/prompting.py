"""From a request to the token ids that a model is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import Request
from lumigator_nb.models.prompts import translating
from lumigator_nb.models.prompts.reasoning import left_open
from lumigator_nb.specs import Task

# Tokenizers without a limit carry a huge number instead.
_SANE = 10_000_000
_CAUSAL_LIMITS = (
    *("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx"),
    *("seq_len", "context_length"),
)
_ENCODER_LIMITS = ("max_encoder_position_embeddings", "max_source_positions", "max_position_embeddings", "n_positions")
_DECODER_LIMITS = ("max_decoder_position_embeddings", "max_target_positions", "max_position_embeddings")


@dataclass(frozen=True)
class Wording:
    """How a request is put to a model.

    Attributes:
        render: the whole prompt of a request, with this in the place of its user's turn.
        adds_special_tokens: whether the tokenizer adds its start and end marks; a chat template brings its own.
        described: for the record.
        first_token: what the decoder must begin with; None leaves it to the model.
        opens_reasoning: every prompt ends with a ``<think>`` that the model is to close.
    """

    render: Callable[[Request, str], str]
    adds_special_tokens: bool
    described: str
    first_token: int | None = None
    opens_reasoning: bool = False


_PROBE = "what the user says"

# What a model without a chat template is to go on after.
_CUES = {"summarization": "Summary:", "translation": "Translation:", "text_generation": "Answer:"}


def choose(name: str, config: Any, tokenizer: Any, task: Task) -> Wording:
    """Return the wording that fits the model: chat, continuation, or the text as a trained model expects it.

    A chat template comes first, for encoder-decoders too: whoever trained the model so wrote down how to talk to it.

    Raises:
        InvalidInputError: a translation model does not know the languages.
    """
    if tokenizer.chat_template:
        return _chat(tokenizer)
    if config.is_encoder_decoder:
        return _trained(name, config, tokenizer, task)
    cue = _CUES[task.kind]
    return Wording(lambda request, user: _continuation(request, user, cue), True, f"instruction, text, {cue!r}")


def _trained(name: str, config: Any, tokenizer: Any, task: Task) -> Wording:
    if task.kind == "translation":
        route = translating.route(name, config, tokenizer, task)
        own = route.prefix if task.template is None or config.model_type == "marian" else ""
        return Wording(lambda request, user: own + user, True, route.described, route.first_token)
    if task.kind == "text_generation" and config.model_type in translating.PREFIX_TYPES:
        return Wording(lambda request, user: f"{request.system}\n\n{user}", True, "instruction, text")
    settings = getattr(config, "task_specific_params", None) or {}
    prefix = settings.get("summarization", {}).get("prefix", "") if task.template is None else ""
    return Wording(lambda request, user: prefix + user, True, f"text, after {prefix!r}" if prefix else "text")


def _continuation(request: Request, user: str, cue: str) -> str:
    turns = [f"{question}\n\n{cue} {answer}" for question, answer in request.shots]
    return "\n\n".join(part for part in (request.system, *turns, user, cue) if part)


def _chat(tokenizer: Any) -> Wording:
    def template(messages: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def with_system_role(request: Request, user: str) -> str:
        return template(replace(request, user=user).messages)

    def without(request: Request, user: str) -> str:
        messages = replace(request, user=user, system="").messages
        if request.system:
            messages[0] = {**messages[0], "content": f"{request.system}\n\n{messages[0]['content']}"}
        return template(messages)

    probe = Request(0, "text", "text", system="a system prompt")
    try:
        knows_system_role = probe.system in with_system_role(probe, probe.user)
    except Exception:  # the template decides what it raises for a role it does not know
        knows_system_role = False
    render, place = (with_system_role, "as system prompt") if knows_system_role else (without, "before the first text")
    return Wording(render, False, f"chat: instruction {place}", opens_reasoning=_opens_reasoning(render))


def _opens_reasoning(render: Callable[[Request, str], str]) -> bool:
    """Whether the template opens a thought after the user's turn; the text itself may hold such tags."""
    try:
        prompt = render(Request(0, _PROBE, _PROBE), _PROBE)
    except Exception:  # a template that fails for every request is every example's error, not the model's
        return False
    return left_open(prompt.rpartition(_PROBE)[2])


@dataclass(frozen=True)
class Encoded:
    """A request as the model gets it.

    Attributes:
        ids: the prompt's tokens.
        truncated: the example's end was cut to fit.
        prompt: what the tokens stand for.
        opens_reasoning: see :class:`Wording`.
    """

    request: Request
    ids: list[int]
    truncated: bool
    prompt: str
    opens_reasoning: bool = False


class Encoder:
    """Turns requests into token ids that fit the model.

    Args:
        tokenizer: of the model.
        wording: how a request is put.
        limit: most tokens of a prompt; None where the model has no limit.
    """

    def __init__(self, tokenizer: Any, wording: Wording, limit: int | None) -> None:
        self._tokenizer = tokenizer
        self._wording = wording
        self._limit = limit

    def __call__(self, request: Request) -> Encoded:
        """Return what the model gets; where it is too long the example's end is cut, what is around it stays whole.

        Raises:
            InvalidInputError: the prompt does not fit even without the example.
        """
        before, text, after = _parts(request)
        prompt, ids = self._put(request, before + text + after)
        if self._limit is None or len(ids) <= self._limit:
            return Encoded(request, ids, False, prompt, self._wording.opens_reasoning)
        while text and len(ids) > self._limit:
            text = self._shortened(text, len(ids) - self._limit)
            prompt, ids = self._put(request, before + text + after)
        if len(ids) > self._limit:
            raise InvalidInputError(
                f"the instruction alone takes {len(ids)} tokens, and the model takes {self._limit}",
                "shorten the task's prompt, or lower max_new_tokens",
            )
        return Encoded(request, ids, True, prompt, self._wording.opens_reasoning)

    def _put(self, request: Request, user: str) -> tuple[str, list[int]]:
        prompt = self._wording.render(request, user)
        encoded = self._tokenizer(prompt, add_special_tokens=self._wording.adds_special_tokens, verbose=False)
        return prompt, list(encoded["input_ids"])

    def _shortened(self, text: str, excess: int) -> str:
        """Cut about `excess` tokens, and at least one character, off the end."""
        if not self._tokenizer.is_fast:
            n = len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return text[: min(len(text) * (n - excess) // n if n > excess else 0, len(text) - 1)]
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        keep = len(offsets) - excess
        return text[: min(offsets[keep][0], len(text) - 1)] if keep > 0 else ""


def _parts(request: Request) -> tuple[str, str, str]:
    """The user's turn before, in and after the example; all of it where the template has changed the example."""
    if not request.example:
        return "", request.user, ""
    before, found, after = request.user.partition(request.example)
    return (before, request.example, after) if found else ("", request.user, "")


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


def limits(config: Any, tokenizer: Any, wanted: int, room: int | None = None) -> Limits:
    """Divide the model's room between prompt and `wanted` new tokens.

    A decoder-only model shares one window between both, of which an answer gets half at most; an encoder-decoder
    has one for each.

    Args:
        room: what memory has room for, where that may be less than the window of a decoder-only model.
    """
    notes: list[str] = []
    text_config = config.get_text_config()
    if config.is_encoder_decoder:
        decoder = _smallest(config, _DECODER_LIMITS)
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
    """The smaller of the first limit that the configuration names and `other`, as far as they make sense."""
    named = next((value for name in names if isinstance(value := getattr(config, name, None), int) and value > 0), None)
    return min((value for value in (named, other) if value is not None and 0 < value < _SANE), default=None)
