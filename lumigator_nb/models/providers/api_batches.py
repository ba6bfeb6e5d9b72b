"""Batch services of providers: all requests are submitted at once and answered within a day, at a lower price.

A batch outlives this process: any process can ask for its status and fetch its answers by its id.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models.base import Prediction, Request
from lumigator_nb.models.prices import price_of
from lumigator_nb.models.providers.api_failures import MalformedAnswerError
from lumigator_nb.models.providers.api_payloads import prediction_from
from lumigator_nb.models.providers.api_settings import hang_up
from lumigator_nb.specs import Model

# OpenAI's limits, the lowest among the providers.
MAX_REQUESTS = 50_000
MAX_BYTES = 200 * 10**6

# OpenAI's newer models refuse the older name "max_tokens"; all other services know only that one.
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
    """The status of a batch.

    Attributes:
        state: "waiting" until the provider has processed it; "ended" if answers can be fetched, also of a batch that
            expired or was cancelled; "failed" if the provider rejected it.
        done: number of processed requests; some providers report 0 until the end.
        total: number of requests.
        message: the provider's status and errors.
    """

    state: Literal["waiting", "ended", "failed"]
    done: int
    total: int
    message: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The provider's result for one request: a chat completion as plain JSON values, or an error."""

    row: str
    payload: dict[str, Any] | None
    error: str | None = None


def supports_batches(provider: str) -> bool:
    """Return whether any-llm supports a batch service of that provider."""
    from any_llm import AnyLLM
    from any_llm.exceptions import UnsupportedProviderError

    try:
        return bool(AnyLLM.get_provider_class(provider).SUPPORTS_BATCH)
    except (ImportError, UnsupportedProviderError):
        return False


class BatchClient:
    """Client of one provider's batch service, for any thread, with or without a running event loop.

    The provider's exceptions pass through unchanged. As a context manager it closes its connections.

    Args:
        client: any-llm's client of the provider; it must not have been used on another event loop.
        model: the model that answers, with its settings.
        without: parameters of the request that the model does not take, such as "temperature".
    """

    def __init__(self, client: Any, model: Model, without: Collection[str] = ()) -> None:
        self._client, self._model, self._without = client, model, without
        self._price = price_of(model, batch=True)
        # Connections belong to one event loop, and a notebook's own loop is already running in its thread.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; batches continue at the provider."""
        if self._loop.is_closed():
            return
        # In this order: connections are closed on their loop, which must not stop before its executor has ended.
        self._do(hang_up(self._client.client))
        self._do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, requests: Sequence[Request]) -> str:
        """Submit one batch and return its id at the provider.

        Raises:
            InvalidInputError: there are no requests, more than MAX_REQUESTS, or more bytes than MAX_BYTES.
        """
        lines = [self._line(request) for request in requests]
        size = sum(map(len, lines))
        if not 0 < len(lines) <= MAX_REQUESTS or size > MAX_BYTES:
            raise InvalidInputError(
                f"a batch holds 1 to {MAX_REQUESTS} requests and up to {MAX_BYTES} bytes, got {len(lines)} of {size}",
                "submit several batches",
            )
        # any-llm takes the path of a file.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "requests.jsonl")
            path.write_bytes(b"".join(lines))
            batch = self._do(self._client.acreate_batch(str(path), "/v1/chat/completions"))
        return str(batch.id)

    def parts(self, requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
        """Split requests into batches that :meth:`submit` takes."""
        start = size = 0
        for index, request in enumerate(requests):
            line_size = len(self._line(request))
            if index - start == MAX_REQUESTS or (size + line_size > MAX_BYTES and index > start):
                yield requests[start:index]
                start, size = index, 0
            size += line_size
        if requests:
            yield requests[start:]

    def status(self, batch_id: str) -> BatchStatus:
        """Ask the provider for the status of a batch."""
        batch = self._do(self._client.aretrieve_batch(batch_id))
        counts = batch.request_counts
        done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
        # Mistral counts failed requests among the completed ones.
        return BatchStatus(_STATES.get(batch.status, "waiting"), min(done, total), total, _message(batch))

    def collect(self, batch_id: str, requests: Mapping[int, Request]) -> Iterator[tuple[Request, Prediction]]:
        """Fetch the results of a batch that has ended or failed, every request once, in any order.

        Args:
            batch_id: id of the batch at the provider.
            requests: by row, all requests of the batch.

        Yields:
            The request and its answer, or why it has none; without duration.
        """
        batch = self._do(self._client.aretrieve_batch(batch_id))
        left = {str(row): request for row, request in requests.items()}
        for outcome in self._outcomes(batch):
            request = left.pop(outcome.row, None)
            if request is not None:
                yield request, self._prediction(request, outcome)
        for row, request in left.items():
            yield request, self._prediction(request, _Outcome(row, None, f"left unanswered: {_message(batch)}"))

    def cancel(self, batch_id: str) -> None:
        """Cancel a batch; the answers so far are charged, and can be collected."""
        self._do(self._client.acancel_batch(batch_id))

    def _line(self, request: Request) -> bytes:
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
            # any-llm passes a batch's messages on unchanged, and Anthropic takes the system prompt in a separate field.
            messages, fields["system"] = messages[1:], request.system
        line = {
            "custom_id": str(request.row),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": self._model.name, "messages": messages, **fields},
        }
        # ASCII, because any-llm reads the file with the machine's default encoding.
        return json.dumps(line).encode("ascii") + b"\n"

    def _outcomes(self, batch: Any) -> Iterator[_Outcome]:
        """The results of a batch, also of one that expired or was cancelled.

        For OpenAI and Mistral any-llm would read the output file alone, without the errors, and nothing of a batch
        that did not complete. So their files are read here.
        """
        from any_llm.exceptions import BatchNotCompleteError

        if self._client.PROVIDER_NAME in ("openai", "mistral"):
            for file_id in (batch.output_file_id, batch.error_file_id):
                text = self._do(self._download(file_id)) if file_id else ""
                # Not splitlines(), which also splits at separators that JSON allows within a string.
                yield from (_outcome(json.loads(line)) for line in text.split("\n") if line.strip())
            return
        try:
            results = self._do(self._client.aretrieve_batch_results(batch.id)).results
        except BatchNotCompleteError:
            return
        for item in results:
            payload = item.result.model_dump() if item.result else None
            yield _Outcome(item.custom_id, payload, _error_text(item.error))

    async def _download(self, file_id: str) -> str:
        files = self._client.client.files
        if self._client.PROVIDER_NAME == "openai":
            return str((await files.content(file_id)).text)
        response = await files.download_async(file_id=file_id)
        return str((await response.aread()).decode())

    def _prediction(self, request: Request, outcome: _Outcome) -> Prediction:
        prompt = json.dumps(request.messages, ensure_ascii=False)
        if outcome.payload is None:
            return Prediction(None, error=outcome.error, prompt=prompt)
        try:
            return prediction_from(outcome.payload, prompt=prompt, seconds=None, first=None, price=self._price)
        except MalformedAnswerError as error:
            return Prediction(None, error=str(error), prompt=prompt)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the client's event loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _outcome(line: Mapping[str, Any]) -> _Outcome:
    """Read a line of OpenAI's or Mistral's files of results or errors."""
    response, row = line.get("response") or {}, str(line["custom_id"])
    status, body = response.get("status_code"), response.get("body")
    if status != 200 or not isinstance(body, dict):
        error = line.get("error") or (body.get("error") or body if isinstance(body, dict) else body) or {}
        return _Outcome(row, None, _error_text(error, status))
    for choice in body.get("choices") or ():
        # Mistral writes reasoning and text as blocks of one content; the text alone is read further on.
        message = choice.get("message") or {}
        if isinstance(message.get("content"), list):
            thoughts = [part["thinking"] for part in message["content"] if part.get("type") == "thinking"]
            message["reasoning_content"] = "".join(piece.get("text", "") for thought in thoughts for piece in thought)
    return _Outcome(row, body)


def _error_text(error: Any, status: int | None = None) -> str:
    """Return the message of an error, which may be an object, a mapping or a text."""
    fields = error if isinstance(error, dict) else getattr(error, "__dict__", {})
    parts = [f"HTTP {status}"] if status else []
    parts += [str(fields[name]) for name in ("code", "message") if fields.get(name)] or [str(error or "unknown error")]
    return ": ".join(parts)[:500]


def _message(batch: Any) -> str:
    reasons = [error.message for error in (batch.errors.data or ()) if error.message] if batch.errors else []
    return "; ".join([f"the batch is {batch.status.replace('_', ' ')}", *reasons[:3]])
