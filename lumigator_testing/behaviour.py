"""What the model server does with each call: its settings, its faults, its answers."""

from __future__ import annotations

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
    """How the server behaves; plain JSON values.

    Which calls meet a fault is decided by counting them (:func:`pattern`), so that shares are kept exactly.

    Attributes:
        latency: seconds before an answer begins; refusals (4xx) come at once.
        jitter: up to so many more seconds, drawn evenly from a fixed seed.
        tokens_per_second: speed of writing; None writes in no time.
        refuse, fail, hang: shares in [0, 1] of model calls that are answered 429, answered 500, never answered.
        retry_after: seconds that a 429 asks to wait (``Retry-After``); None does not say.
        outage: everything is answered 503.
        reject: HTTP status and error code for calls whose last user message is exactly the key, such as
            ``{"too long": (400, "context_length_exceeded")}``; batches reject such rows, too.
        api_key: the only key let in; others get a 401 that repeats the key they sent, as some providers do.
        models: the models there are; None answers under any name.
        quota: answers until the account is empty (429 ``insufficient_quota``; Anthropic: 400).
        unsupported: parameters answered 400 ``unsupported_parameter``.
        reasoning: True thinks aloud in the provider's way (OpenAI-compatible servers: ``<think>…</think>`` in front of
            the answer; Mistral and Anthropic: a block of its own); "field" puts it into ``reasoning_content``;
            "hidden" only counts its tokens. Thinking uses up ``max_tokens`` first, as with the providers.
        batch_seconds: how long a batch takes.
        batch_end: how batches end; an expired one has answered the first half of its rows.
        judge: judges answers between tags instead of answering; see :class:`~lumigator_testing.judging.Judge`.
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
    batch_seconds: float = 0.5
    batch_end: Literal["completed", "failed", "expired"] = "completed"
    judge: Judge | None = None

    def __post_init__(self) -> None:
        # As JSON it comes from another process.
        given: Any = self.judge
        if isinstance(given, Mapping):
            object.__setattr__(self, "judge", Judge(**given))


@dataclass(frozen=True, slots=True)
class Stats:
    """What the server has counted since it started or was reset.

    Attributes:
        calls: calls of a model, however they ended.
        answered, refused, failed, rejected: those answered 200, 429, 5xx, another 4xx.
        hung: those left without an answer on purpose.
        most_at_once: the most calls that were open at the same time; `in_flight` are open now.
        batches: batches handed in; `batched` are the rows in them.
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
    """Yield for each call the fault that it meets, or "answer".

    Calls fall into blocks of 1 / (smallest share) calls, at most 100. Each block holds every kind as often as is due
    by then (largest debt first), so that of four calls exactly one is refused at ``refuse=0.25``; the order within a
    block is shuffled from a fixed seed, so that calls which come in a steady rhythm do not meet a fault each time.

    Args:
        shares: of calls in [0, 1] by fault; the rest is answered.
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
    """Return how many tokens `text` has here: pieces of up to four characters of each word."""
    return len(_PIECE.findall(text))


def cut(text: str, tokens: int) -> str:
    """Return the first `tokens` tokens of `text`, with the spaces between them."""
    end = 0
    for _, match in zip(range(tokens), _PIECE.finditer(text), strict=False):
        end = match.end()
    return text[:end]


_RULES: dict[str, Callable[[str], str]] = {"echo": str, "shout": str.upper}


def write(model: str, text: str) -> str:
    """Return the model's answer to `text`: "lead-N" its first N sentences, "echo" all, "shout" all in capitals.

    Any other name, also one that ends in neither, answers like lead-1. Only the part after the last slash counts.
    """
    name = model.rpartition("/")[2]
    if rule := _RULES.get(name):
        return rule(text)
    match = re.fullmatch(r"lead-(\d{1,4})", name)
    return lead(text, int(match[1]) if match else 1)
