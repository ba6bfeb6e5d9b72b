"""The behaviour of the model server: settings, faults, answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from random import Random
from typing import Any, Literal

from lumigator_nb.models.providers.baselines import lead
from lumigator_testing.judging import Judge

ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The settings of the server, as plain JSON values.

    Faults are assigned by counting calls (:func:`pattern`), so that their shares are exact.

    Attributes:
        latency: seconds until an answer starts; refusals (4xx) come at once.
        jitter: maximum of additional seconds, drawn uniformly with a fixed seed.
        tokens_per_second: speed of generation; None: no delay.
        refuse, fail, hang: shares in [0, 1] of model calls that get 429, get 500, or never get a response.
        retry_after: seconds in the header ``Retry-After`` of a 429; None: no header.
        outage: every request gets 503.
        reject: HTTP status and error code for calls whose last user message is exactly the key, such as
            ``{"too long": (400, "context_length_exceeded")}``; batches reject such rows, too.
        api_key: the only accepted key; others get a 401 that repeats the key, as some providers do.
        models: names of the models; None accepts any name.
        quota: number of answers until the account is empty (429 ``insufficient_quota``; Anthropic: 400).
        unsupported: parameters that get 400 ``unsupported_parameter``.
        reasoning: True: reasoning in the provider's format (OpenAI-compatible servers: ``<think>…</think>`` in front
            of the answer; Mistral and Anthropic: a separate block); "field": in ``reasoning_content``; "hidden": only
            counts its tokens. Reasoning uses up ``max_tokens`` first, as at the providers.
        cache_read, cache_write: shares of each prompt's tokens that are reported as read from the prompt cache, and as
            written to it.
        usage: format in which OpenAI-compatible servers report tokens: that of chat completions, of the Responses API,
            or DeepSeek's.
        batch_seconds: duration of a batch.
        batch_end: state in which batches end; an expired batch has answered the first half of its rows.
        judge: judge answers between tags instead of answering; see :class:`~lumigator_testing.judging.Judge`.
    """

    latency: float = 0.0
    jitter: float = 0.0
    tokens_per_second: float | None = None
    refuse: float = 0.0
    fail: float = 0.0
    hang: float = 0.0
    retry_after: float | None = None
    outage: bool = False
    reject: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    api_key: str | None = None
    models: tuple[str, ...] | None = None
    quota: int | None = None
    unsupported: tuple[str, ...] = ()
    reasoning: bool | Literal["field", "hidden"] = False
    cache_read: float = 0.0
    cache_write: float = 0.0
    usage: Literal["chat", "responses", "deepseek"] = "chat"
    batch_seconds: float = 0.5
    batch_end: Literal["completed", "failed", "expired"] = "completed"
    judge: Judge | None = None

    def __post_init__(self) -> None:
        # Settings from another process come as JSON.
        fields: Any = self.judge
        if isinstance(fields, Mapping):
            object.__setattr__(self, "judge", Judge(**fields))


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the server started or was reset.

    Attributes:
        calls: model calls, whatever their result.
        answered, refused, failed, rejected: calls with status 200, 429, 5xx, another 4xx.
        hung: calls that were left without a response on purpose.
        most_at_once: maximum number of concurrent calls; `in_flight` are open now.
        batches: submitted batches; `batched` are the rows in them.
    """

    calls: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    rejected: int = 0
    hung: int = 0
    in_flight: int = 0
    most_at_once: int = 0
    batches: int = 0
    batched: int = 0


def pattern(shares: Mapping[str, float]) -> Iterator[str]:
    """Yield the fault of each call, or "answer".

    Calls form blocks of 1 / (smallest share) calls, at most 100. Each block contains every kind as often as is due by
    then (largest debt first), so that exactly one of four calls is refused at ``refuse=0.25``. The order within a block
    is shuffled with a fixed seed, so that calls in a regular rhythm do not always meet the same fault.

    Args:
        shares: share of calls in [0, 1] for each fault; the rest is answered.
    """
    due = {kind: Fraction(str(share)) for kind, share in shares.items() if share}
    if not due:
        yield from repeat(ANSWER)
    rest = 1 - sum(due.values(), Fraction(0))
    if rest < 0:
        raise ValueError(f"the shares of faults add up to more than 1: {dict(shares)}")
    if rest:
        due[ANSWER] = rest
    size, debt, random = min(round(1 / min(due.values())), 100), dict.fromkeys(due, Fraction(0)), Random(0)  # noqa: S311
    while True:
        block = [_next(debt, due) for _ in range(size)]
        random.shuffle(block)
        yield from block


def _next(debt: dict[str, Fraction], due: Mapping[str, Fraction]) -> str:
    for kind, share in due.items():
        debt[kind] += share
    kind = max(debt, key=debt.__getitem__)
    debt[kind] -= 1
    return kind


_PIECE = re.compile(r"\S{1,4}")


def count_tokens(text: str) -> int:
    """Return the number of tokens of `text`: each word counts one token per four characters begun."""
    return len(_PIECE.findall(text))


def cut(text: str, tokens: int) -> str:
    """Return the first `tokens` tokens of `text`, with the spaces between them."""
    end = 0
    for _, match in zip(range(tokens), _PIECE.finditer(text), strict=False):
        end = match.end()
    return text[:end]


_RULES: dict[str, Callable[[str], str]] = {"echo": str, "shout": str.upper}


def write(model: str, text: str) -> str:
    """Return the answer to `text`: of "lead-N" its first N sentences, of "echo" the text, of "shout" in capitals.

    Models of any other name answer like lead-1. Only the part of the name after the last slash counts.
    """
    name = model.rpartition("/")[2]
    if rule := _RULES.get(name):
        return rule(text)
    match = re.fullmatch(r"lead-(\d{1,4})", name)
    return lead(text, int(match[1]) if match else 1)


def labelled(text: str, response_format: Any) -> str | None:
    """Return the answer to a JSON Schema with one field of some labels: that which the text names, or else the last.

    None where the request has no such schema.
    """
    try:
        ((name, field),) = response_format["json_schema"]["schema"]["properties"].items()
        labels = field["enum"]
    except (KeyError, TypeError, ValueError):
        return None
    named = [label for label in labels if label.lower() in text.lower()]
    return json.dumps({name: (named or labels[-1:])[0]})
