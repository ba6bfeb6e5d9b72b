"""The wire formats of the providers: requests, responses, streams and errors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

from lumigator_testing.judging import logprobs

_IDS = count(1)
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens"}


class Fault(Exception):  # noqa: N818 - the providers' errors, not ours
    """A provider's error response.

    Args:
        status: HTTP status.
        code: the provider's error code.
        message: the provider's message.
        param: the parameter at fault.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer.

    Attributes:
        thought: reasoning before the answer, or empty; `style` is its format, as `reasoning` of `Behaviour`.
        completion_tokens: tokens of reasoning and text; `reasoning_tokens` are those of the reasoning.
        finish: "stop", or "length" if `max_tokens` cut it off.
        alternatives: requested number of log probabilities per token; None: none.
        cache_read, cache_write: tokens of the prompt that came from the prompt cache, and that went into it.
        usage: as of `Behaviour`.
    """

    model: str
    text: str
    thought: str
    style: bool | str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    finish: str
    alternatives: int | None = None
    cache_read: int = 0
    cache_write: int = 0
    usage: str = "chat"


class Wire(Protocol):
    """The wire format of a provider."""

    def key(self, headers: Mapping[str, str]) -> str:
        """Return the client's API key."""
        ...

    def turns(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        """Return role and text of each turn, including the system prompt; KeyError or TypeError if malformed."""
        ...

    def budget(self, body: dict[str, Any]) -> int | None:
        """Return the maximum number of tokens that the client requests."""
        ...

    def error(self, fault: Fault) -> dict[str, Any]:
        """Return the body of an error response."""
        ...

    def answer(self, answer: Answer) -> dict[str, Any]:
        """Return the body of a response."""
        ...

    def stream(self, answer: Answer, body: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        """Yield the server-sent events of a response, each with its number of words."""
        ...


class OpenAI:
    """Chat completions in the format of OpenAI, vLLM, llama.cpp, Ollama and many others."""

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("Authorization", "").removeprefix("Bearer ")

    def turns(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        return [(turn["role"], text_of(turn.get("content"))) for turn in body["messages"]]

    def budget(self, body: dict[str, Any]) -> int | None:
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def error(self, fault: Fault) -> dict[str, Any]:
        kind = {401: "authentication_error", 429: "requests"}.get(fault.status, "invalid_request_error")
        if fault.code == "insufficient_quota":
            kind = fault.code
        kind = "server_error" if fault.status >= 500 else kind
        return {"error": {"message": fault.message, "type": kind, "param": fault.param, "code": fault.code}}

    def answer(self, answer: Answer) -> dict[str, Any]:
        likely = None if answer.alternatives is None else logprobs(answer.text, answer.alternatives)
        choice = {"index": 0, "finish_reason": answer.finish, "logprobs": likely, "message": self.message(answer)}
        return self._frame(answer, "chat.completion", choices=[choice], usage=self.usage(answer))

    def message(self, answer: Answer) -> dict[str, Any]:
        thought = {"reasoning_content": answer.thought} if answer.style == "field" else {}
        return {"role": "assistant", "content": _tagged(answer) + answer.text, "refusal": None, **thought}

    def usage(self, answer: Answer) -> dict[str, Any]:
        names = ("input", "output") if answer.usage == "responses" else ("prompt", "completion")
        counts = zip(names, (answer.prompt_tokens, answer.completion_tokens), strict=True)
        usage: dict[str, Any] = {f"{name}_tokens": tokens for name, tokens in counts}
        usage["total_tokens"] = answer.prompt_tokens + answer.completion_tokens
        usage[f"{names[1]}_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
        if answer.usage == "deepseek":
            usage["prompt_cache_hit_tokens"] = answer.cache_read
            usage["prompt_cache_miss_tokens"] = answer.prompt_tokens - answer.cache_read
        elif answer.cache_read or answer.cache_write:
            details = {"cached_tokens": answer.cache_read, "cache_write_tokens": answer.cache_write}
            usage[f"{names[0]}_tokens_details"] = details
        return usage

    def stream(self, answer: Answer, body: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        yield 0, self._chunk(answer, {"role": "assistant", "content": ""})
        for delta in self.deltas(answer):
            yield 1, self._chunk(answer, delta)
        yield 0, self._chunk(answer, {}, answer.finish)
        if (body.get("stream_options") or {}).get("include_usage"):
            frame = self._frame(answer, "chat.completion.chunk", choices=[], usage=self.usage(answer))
            yield 0, _event(frame)
        yield 0, b"data: [DONE]\n\n"

    def deltas(self, answer: Answer) -> Iterator[dict[str, Any]]:
        if answer.style == "field":
            yield from ({"reasoning_content": word} for word in _words(answer.thought))
        yield from ({"content": word} for word in _words(_tagged(answer) + answer.text))

    def _chunk(self, answer: Answer, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event(self._frame(answer, "chat.completion.chunk", choices=[choice], **more))

    def _frame(self, answer: Answer, kind: str, **more: Any) -> dict[str, Any]:
        start = {"id": f"chatcmpl-{next(_IDS)}", "object": kind, "created": int(time.time()), "model": answer.model}
        return {**start, **more}


class Mistral(OpenAI):
    """Chat completions in Mistral's format: reasoning in blocks, flat errors, usage at the end of each stream."""

    def error(self, fault: Fault) -> dict[str, Any]:
        kind = {401: "unauthorized", 429: "rate_limited"}.get(fault.status, fault.code)
        return {"object": "error", "message": fault.message, "type": kind, "param": fault.param, "code": fault.code}

    def answer(self, answer: Answer) -> dict[str, Any]:
        # Mistral returns no log probabilities.
        return super().answer(replace(answer, alternatives=None))

    def message(self, answer: Answer) -> dict[str, Any]:
        text: Any = answer.text
        if answer.thought and answer.style is True:
            text = [_thinking(answer.thought), {"type": "text", "text": answer.text}]
        return {"role": "assistant", "content": text, "tool_calls": None, "prefix": False}

    def stream(self, answer: Answer, body: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        yield 0, self._chunk(answer, {"role": "assistant", "content": ""})
        for delta in self.deltas(answer):
            yield 1, self._chunk(answer, delta)
        yield 0, self._chunk(answer, {"content": ""}, answer.finish, usage=self.usage(answer))
        yield 0, b"data: [DONE]\n\n"

    def deltas(self, answer: Answer) -> Iterator[dict[str, Any]]:
        if answer.style is True:
            yield from ({"content": [_thinking(word)]} for word in _words(answer.thought))
        yield from ({"content": word} for word in _words(answer.text))


class Anthropic:
    """Messages in Anthropic's format."""

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key", "")

    def turns(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        if "max_tokens" not in body:
            raise Fault(400, "invalid_request_error", "max_tokens: Field required")
        turns = [(turn["role"], text_of(turn["content"])) for turn in body["messages"]]
        if any(role not in ("user", "assistant") for role, _ in turns):
            raise Fault(400, "invalid_request_error", "messages: roles must be 'user' or 'assistant'; use 'system'")
        system = text_of(body.get("system"))
        return [("system", system), *turns] if system else turns

    def budget(self, body: dict[str, Any]) -> int | None:
        return int(body["max_tokens"])

    def error(self, fault: Fault) -> dict[str, Any]:
        kind = _KINDS.get(fault.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": fault.message}, "request_id": f"req_{next(_IDS)}"}

    def answer(self, answer: Answer) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": answer.text}]
        if answer.style and answer.style != "hidden":
            blocks.insert(0, {"type": "thinking", "thinking": answer.thought, "signature": "c2lnbmF0dXJl"})
        return self._frame(answer, blocks, _STOPS[answer.finish], answer.completion_tokens)

    def stream(self, answer: Answer, body: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
        yield 0, _named("message_start", message=self._frame(answer, [], None, 0))
        kinds = [("thinking", answer.thought)] if answer.style and answer.style != "hidden" else []
        for index, (kind, text) in enumerate([*kinds, ("text", answer.text)]):
            yield 0, _named("content_block_start", index=index, content_block={"type": kind, kind: ""})
            for word in _words(text):
                yield 1, _named("content_block_delta", index=index, delta={"type": f"{kind}_delta", kind: word})
            yield 0, _named("content_block_stop", index=index)
        stop = {"stop_reason": _STOPS[answer.finish], "stop_sequence": None}
        yield 0, _named("message_delta", delta=stop, usage={"output_tokens": answer.completion_tokens})
        yield 0, _named("message_stop")

    def _frame(self, answer: Answer, blocks: list[dict[str, Any]], stop: str | None, tokens: int) -> dict[str, Any]:
        return {
            "id": f"msg_{next(_IDS)}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": blocks,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                # Anthropic counts cached tokens beside the others.
                "input_tokens": answer.prompt_tokens - answer.cache_read - answer.cache_write,
                "cache_read_input_tokens": answer.cache_read,
                "cache_creation_input_tokens": answer.cache_write,
                "output_tokens": tokens,
            },
        }


def text_of(content: Any) -> str:
    """Return the text of a turn, which is a string or a list of blocks."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _tagged(answer: Answer) -> str:
    if answer.style is not True:
        return ""
    # A model that is cut off while it reasons does not close the tag.
    end = "\n</think>\n\n" if answer.text or answer.finish == "stop" else ""
    return f"<think>\n{answer.thought}{end}"


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _words(text: str) -> Iterator[str]:
    words = text.split(" ")
    yield from (word + " " for word in words[:-1])
    if words[-1]:
        yield words[-1]


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _named(name: str, **fields: Any) -> bytes:
    return f"event: {name}\n".encode() + _event({"type": name, **fields})
