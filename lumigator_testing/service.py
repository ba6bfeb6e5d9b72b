"""The simulated provider: admits or refuses calls, answers, and counts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from random import Random
from typing import Any

from lumigator_testing.behaviour import Behaviour, Stats, count_tokens, cut, labelled, pattern, write
from lumigator_testing.judging import verdict
from lumigator_testing.protocols import Answer, Anthropic, Fault, Wire

MODELS = ("echo", "lead-1", "lead-2", "lead-3", "shout")

_MESSAGES = {
    "context_length_exceeded": "This model's maximum context length is 8192 tokens. Please reduce the messages.",
    "content_filter": "The response was filtered due to the prompt triggering the content management policy.",
}


class Service:
    """The state of the provider."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.configure(behaviour)
        self.reset()

    def configure(self, behaviour: Behaviour) -> None:
        """Change the behaviour from now on."""
        self.behaviour = behaviour
        self._begin()

    def reset(self) -> None:
        """Set all counts to zero, except that of open calls."""
        open_now = getattr(self, "_in_flight", 0)
        self._in_flight = self._most_at_once = open_now
        self.counts: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()
        self.bodies: deque[dict[str, Any]] = deque(maxlen=100)
        self._begin()

    def _begin(self) -> None:
        shares = asdict(self.behaviour)
        self._faults = pattern({kind: shares[kind] for kind in ("refuse", "fail", "hang")})
        self._random = Random(0)  # noqa: S311 - waiting times are no secret

    def stats(self) -> Stats:
        """Return the counts so far."""
        return Stats(**self.counts, in_flight=self._in_flight, most_at_once=self._most_at_once)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, and that it is open until the block ends."""
        self.counts["calls"] += 1
        self._in_flight += 1
        self._most_at_once = max(self._most_at_once, self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1

    def note(self, status: int) -> None:
        """Count the result of a call."""
        kind = {200: "answered", 429: "refused"}.get(status, "failed" if status >= 500 else "rejected")
        self.counts[kind] += 1

    def next_fault(self) -> str:
        """Return the fault of the next call, or "answer"."""
        return next(self._faults)

    def admit(self, key: str) -> None:
        """Raise a fault unless the client is admitted."""
        if self.behaviour.outage:
            raise Fault(503, "service_unavailable", "The server is overloaded or not ready yet.")
        if self.behaviour.api_key is not None and key != self.behaviour.api_key:
            raise Fault(401, "invalid_api_key", f"Incorrect API key provided: {key}.")

    def answer(self, wire: Wire, body: dict[str, Any]) -> Answer:
        """Return the answer to a request, sent directly or in a batch, or raise its fault."""
        self.bodies.append(body)
        try:
            model, turns = body["model"], wire.turns(body)
            text = next((text for role, text in reversed(turns) if role == "user"), "")
            self.prompts[text] += 1
            self._check(model, body, text)
            prompt_tokens, budget = sum(count_tokens(turn) for _, turn in turns), wire.budget(body)
            if self.behaviour.judge is None:
                answer = labelled(write(model, text), body.get("response_format")) or write(model, text)
                return self._write(model, answer, text, prompt_tokens, budget)
            judged = self._write(model, verdict(self.behaviour.judge, turns), text, prompt_tokens, budget)
            return replace(judged, alternatives=int(body.get("top_logprobs") or 0) if body.get("logprobs") else None)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Fault(400, "invalid_request_error", f"Malformed request: {error!r}") from None

    def _check(self, model: str, body: dict[str, Any], text: str) -> None:
        known = self.behaviour.models
        if known is not None and model not in known:
            raise Fault(404, "model_not_found", f"The model `{model}` does not exist or you do not have access to it.")
        for name in self.behaviour.unsupported:
            if name in body:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                raise Fault(400, "unsupported_parameter", message, name)
        if text in self.behaviour.reject:
            status, code = self.behaviour.reject[text]
            raise Fault(status, code, _MESSAGES.get(code, f"Rejected: {code}"))

    def _write(self, model: str, answer: str, text: str, prompt_tokens: int, budget: int | None) -> Answer:
        style = self.behaviour.reasoning
        thought = f"The text has {count_tokens(text)} tokens; the rule of {model} gives the answer." if style else ""
        thinking = count_tokens(thought)
        wanted = thinking + count_tokens(answer)
        finish = "stop"
        if budget is not None and wanted > budget:
            thought, answer = cut(thought, budget), cut(answer, max(budget - thinking, 0))
            finish, thinking, wanted = "length", min(thinking, budget), budget
        return Answer(
            model, answer, thought, style, prompt_tokens, wanted, thinking, finish,
            cache_read=int(self.behaviour.cache_read * prompt_tokens),
            cache_write=int(self.behaviour.cache_write * prompt_tokens),
            usage=self.behaviour.usage,
        )  # fmt: skip

    def charge(self, wire: Wire) -> None:
        """Count an answer against the quota, or raise the fault of an empty account."""
        quota = self.behaviour.quota
        if quota is not None and self.counts["answered"] + self.counts["batched"] >= quota:
            if isinstance(wire, Anthropic):
                raise Fault(400, "invalid_request_error", "Your credit balance is too low to access the API.")
            raise Fault(429, "insufficient_quota", "You exceeded your current quota, please check your plan.")
        self.note(200)

    def pause(self) -> float:
        """Return the seconds until the next answer starts."""
        return self.behaviour.latency + self.behaviour.jitter * self._random.random()

    def writing(self, tokens: int) -> float:
        """Return the seconds that it takes to generate a number of tokens."""
        return tokens / self.behaviour.tokens_per_second if self.behaviour.tokens_per_second else 0.0
