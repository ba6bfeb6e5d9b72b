"""A provider's batch service: all questions handed in at once, answered within a day at a lower price.

What is handed in outlives this process: with its id, any other process can ask for it and fetch the answers.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.providers.api_failures import MalformedAnswerError
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.models.providers.api_settings import hang_up
from lumigator_nb.specs import Model

# OpenAI's bounds, the tightest among the providers.
MAX_REQUESTS = 50_000
MAX_BYTES = 200 * 10**6

# OpenAI's newer models refuse the older name, all other services know no other.
_LIMIT_NAME = {"openai": "max_completion_tokens"}
_STATES: dict[str, Literal["ended", "failed"]] = {
    "completed": "ended",
    "expired": "ended",
    "cancelled": "ended",
    "failed": "failed",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Where a batch stands.

    Attributes:
        state: "waiting" until the provider is through with it; "ended" where answers can be fetched, also of one that
            expired or was cancelled half-way; "failed" where the provider could make nothing of it.
        done, total: requests; a provider may count none before the end.
        message: the provider's words about it.
    """

    state: Literal["waiting", "ended", "failed"]
    done: int
    total: int
    message: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the provider says about one request: a chat completion as plain JSON values, or an error."""

    row: str
    payload: dict[str, Any] | None
    error: str | None = None


def supports_batches(provider: str) -> bool:
    """Tell whether any-llm reaches a batch service of that provider."""
    from any_llm import AnyLLM
    from any_llm.exceptions import UnsupportedProviderError

    try:
        return bool(AnyLLM.get_provider_class(provider).SUPPORTS_BATCH)
    except (ImportError, UnsupportedProviderError):
        return False


class BatchClient:
    """Talks to one provider's batch service, from any thread, whether or not an event loop runs there.

    The provider's exceptions come through as they are. Used as a context manager it leaves no connection behind.

    Args:
        client: any-llm's client of the provider; it must not have been used on another event loop.
        model: who answers, and how.
        without: parameters of the request that the model does not take, such as "temperature".
    """

    def __init__(self, client: Any, model: Model, without: Collection[str] = ()) -> None:
        self._client, self._model, self._without = client, model, without
        # The connections belong to one event loop, and a notebook's own is busy already.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back; batches go on."""
        if self._loop.is_closed():
            return
        self._do(hang_up(self._client.client))
        self._do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, requests: Sequence[Request]) -> str:
        """Hand in one batch and return the provider's id of it.

        Raises:
            InvalidInputError: there are none, more than MAX_REQUESTS, or more bytes than MAX_BYTES.
        """
        lines = [self._line(request) for request in requests]
        size = sum(map(len, lines))
        if not 0 < len(lines) <= MAX_REQUESTS or size > MAX_BYTES:
            raise InvalidInputError(
                f"a batch holds 1 to {MAX_REQUESTS} requests and up to {MAX_BYTES} bytes, got {len(lines)} of {size}",
                "hand in several batches",
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "requests.jsonl")
            path.write_bytes(b"".join(lines))
            batch = self._do(self._client.acreate_batch(str(path), "/v1/chat/completions"))
        return str(batch.id)

    def parts(self, requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
        """Cut requests into batches as large as :meth:`submit` takes them."""
        start = size = 0
        for index, request in enumerate(requests):
            more = len(self._line(request))
            if index - start == MAX_REQUESTS or (size + more > MAX_BYTES and index > start):
                yield requests[start:index]
                start, size = index, 0
            size += more
        if requests:
            yield requests[start:]

    def status(self, batch_id: str) -> BatchStatus:
        """Ask where a batch stands."""
        batch = self._do(self._client.aretrieve_batch(batch_id))
        counts = batch.request_counts
        done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
        # Mistral counts failed requests among the completed ones.
        return BatchStatus(_STATES.get(batch.status, "waiting"), min(done, total), total, _words(batch))

    def collect(self, batch_id: str, requests: Mapping[int, Request]) -> Iterator[tuple[Request, Prediction]]:
        """Fetch what there is of a batch that has ended or failed, every request once, in any order.

        Args:
            requests: by row, all that were handed in.

        Yields:
            The request and its answer, or why it has none. Price and duration are left to the caller.
        """
        batch = self._do(self._client.aretrieve_batch(batch_id))
        left = {str(row): request for row, request in requests.items()}
        for outcome in self._outcomes(batch):
            request = left.pop(outcome.row, None)
            if request is not None:
                yield request, self._prediction(request, outcome)
        for row, request in left.items():
            yield request, self._prediction(request, _Outcome(row, None, f"left unanswered: {_words(batch)}"))

    def cancel(self, batch_id: str) -> None:
        """Call a batch off; what is answered by then can be collected, and is charged."""
        self._do(self._client.acancel_batch(batch_id))

    def _line(self, request: Request) -> bytes:
        line = {
            "custom_id": str(request.row),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": self._body(request),
        }
        # ASCII, since any-llm reads the file in the encoding of the machine.
        return json.dumps(line).encode("ascii") + b"\n"

    def _body(self, request: Request) -> dict[str, Any]:
        generation, provider = self._model.generation, self._model.provider
        fields: dict[str, Any] = {
            _LIMIT_NAME.get(provider, "max_tokens"): generation.max_new_tokens,
            "temperature": generation.temperature,
        }
        if generation.temperature > 0 and generation.top_p < 1:
            fields["top_p"] = generation.top_p
        fields = {name: value for name, value in fields.items() if name not in self._without}
        messages = request.messages
        if self._model.provider == "anthropic" and request.system:
            # any-llm hands a batch's messages on as they are, and Anthropic takes the system prompt apart from them.
            messages, fields["system"] = messages[1:], request.system
        return {"model": self._model.name, "messages": messages, **fields}

    def _outcomes(self, batch: Any) -> Iterator[_Outcome]:
        download = _downloader(self._client)
        if download is None:
            yield from self._do(self._results(batch.id))
            return
        # any-llm reads the output file alone, and nothing at all of a batch that expired or was cancelled.
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                yield from map(_outcome, _json_lines(self._do(download(file_id))))

    async def _results(self, batch_id: str) -> list[_Outcome]:
        from any_llm.exceptions import BatchNotCompleteError

        try:
            found = await self._client.aretrieve_batch_results(batch_id)
        except BatchNotCompleteError:
            return []
        return [
            _Outcome(item.custom_id, item.result.model_dump() if item.result else None, _error_text(item.error))
            for item in found.results
        ]

    def _prediction(self, request: Request, outcome: _Outcome) -> Prediction:
        prompt = json.dumps(request.messages, ensure_ascii=False)
        if outcome.payload is None:
            return Prediction(None, error=outcome.error, prompt=prompt)
        try:
            return prediction_from(outcome.payload, prompt=prompt, seconds=None, first=None, price=None)
        except MalformedAnswerError as error:
            return Prediction(None, error=str(error), prompt=prompt)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


Download = Callable[[str], Coroutine[Any, Any, str]]


def _downloader(client: Any) -> Download | None:
    """Return how to fetch a file of results; None where any-llm fetches the results itself."""

    async def openai(file_id: str) -> str:
        return str((await client.client.files.content(file_id)).text)

    async def mistral(file_id: str) -> str:
        response = await client.client.files.download_async(file_id=file_id)
        return str((await response.aread()).decode())

    return {"openai": openai, "mistral": mistral}.get(client.PROVIDER_NAME)


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    # Not splitlines(), which also cuts at separators that JSON allows within a string.
    return (json.loads(line) for line in text.split("\n") if line.strip())


def _outcome(line: Mapping[str, Any]) -> _Outcome:
    """Read a line of OpenAI's or Mistral's files of results or errors."""
    response, row = line.get("response") or {}, str(line["custom_id"])
    body = response.get("body")
    if response.get("status_code") == 200 and isinstance(body, dict):
        return _Outcome(row, _flattened(body))
    said = line.get("error") or (body.get("error") or body if isinstance(body, dict) else body) or {}
    return _Outcome(row, None, _error_text(said, response.get("status_code")))


def _flattened(body: dict[str, Any]) -> dict[str, Any]:
    """Return a completion whose thoughts stand apart from its text; Mistral writes both as blocks of one content."""
    for choice in body.get("choices") or ():
        message = choice.get("message") or {}
        if isinstance(message.get("content"), list):
            thoughts = [part["thinking"] for part in message["content"] if part.get("type") == "thinking"]
            message["reasoning_content"] = "".join(piece.get("text", "") for thought in thoughts for piece in thought)
    return body


def _error_text(said: Any, status: int | None = None) -> str:
    """Return the words of an error, written as an object, a mapping or a text."""
    fields = said if isinstance(said, dict) else getattr(said, "__dict__", {})
    parts = [f"HTTP {status}"] if status else []
    parts += [str(fields[name]) for name in ("code", "message") if fields.get(name)] or [str(said or "unknown error")]
    return ": ".join(parts)[:500]


def _words(batch: Any) -> str:
    reasons = [error.message for error in (batch.errors.data or ()) if error.message] if batch.errors else []
    return "; ".join([f"the batch is {batch.status.replace('_', ' ')}", *reasons[:3]])
