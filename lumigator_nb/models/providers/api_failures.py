"""What a provider's error means: ask again, give the row up, or stop at once."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from lumigator_nb.errors import ConfigurationError, LumigatorError, UnknownModelError
from lumigator_nb.security.redaction import Redactor
from lumigator_nb.specs import Model

Kind = Literal["busy", "slow", "transient", "row", "parameter", "fatal"]

LONGEST_HOLD_S = 120.0

_TRANSIENT = {408, 409, 425, 500, 502, 504, 520, 522, 524}
_BUSY = {429, 503, 529}
_OUT_OF_MONEY = ("insufficient_quota", "insufficient_funds", "credit balance", "billing", "exceeded your current quota")
_BLOCKED = ("moderation", "flagged", "content_filter", "content policy", "safety")
_UNSUPPORTED = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
# The classes of any-llm for providers whose own library tells no HTTP status.
_BY_CLASS: dict[str, Kind] = {
    "RateLimitError": "busy",
    "AuthenticationError": "fatal",
    "MissingApiKeyError": "fatal",
    "ModelNotFoundError": "fatal",
    "InsufficientFundsError": "fatal",
    "ContextLengthExceededError": "row",
    "ContentFilterError": "row",
    "InvalidRequestError": "row",
    "UnsupportedParameterError": "row",
}


@dataclass(frozen=True)
class Failure:
    """One call that did not bring an answer.

    Attributes:
        kind: "busy" and "slow" (a time-out): ask less at once, then again; "transient": ask again; "row": this example
            cannot be answered; "parameter": the model does not take `parameter`; "fatal": nothing can be answered.
        message: in the provider's words.
        wait: seconds that the provider asked us to wait.
        error: what to raise where it is fatal.
    """

    kind: Kind
    message: str
    wait: float | None = None
    parameter: str | None = None
    error: LumigatorError | None = None


class MalformedAnswerError(Exception):
    """The provider answered 200 with something that holds no answer."""


class RefusedError(Exception):
    """The provider answered with an error.

    Attributes:
        status_code: of HTTP.
        body: the error object as the OpenAI protocol has it; empty where the answer holds none.
        headers: of the answer.
    """

    def __init__(self, status_code: int, text: str, headers: Mapping[str, str]) -> None:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        self.status_code, self.headers = status_code, headers
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        super().__init__(text[:500])


def parsed(text: str) -> Any:
    """Return the JSON of an answer.

    Raises:
        MalformedAnswerError: it is none.
    """
    try:
        return json.loads(text)
    except ValueError:
        raise MalformedAnswerError(f"the answer is not JSON: {text[:200]}") from None


def classify(caught: Exception, model: Model, key_name: str | None, redact: Redactor) -> Failure:
    """Say what an exception of a provider's library means for the model that was asked.

    Args:
        redact: providers repeat the key that they refuse.
    """
    status, body, headers = _facts(caught)
    message = redact(_message(caught, body, status))
    code = " ".join(str(body.get(field) or "") for field in ("code", "type"))
    words = f"{code} {message}".lower()
    if status in (400, 402, 403, 429) and any(sign in words for sign in _OUT_OF_MONEY):
        return Failure("fatal", message, error=_quota(model, message))
    if status in (401, 403) and not any(sign in words for sign in _BLOCKED):
        return Failure("fatal", message, error=_refused_key(model, message, key_name))
    if status is not None and 300 <= status < 400:
        return Failure("fatal", message, error=_moved(model, status, headers))
    if status == 402:
        return Failure("fatal", message, error=_quota(model, message))
    if status == 404:
        return Failure("fatal", message, error=_unknown_model(model, message))
    if status in _BUSY:
        return Failure("busy", message, wait=retry_after(headers))
    if status in _TRANSIENT or (status is not None and status >= 500):
        return Failure("transient", message, wait=retry_after(headers))
    if status == 400 and body.get("param") and any(sign in code for sign in _UNSUPPORTED):
        return Failure("parameter", message, parameter=str(body["param"]))
    if status is not None and 400 <= status < 500:
        return Failure("row", message)
    return _without_status(caught, model, key_name, message)


def _without_status(caught: Exception, model: Model, key_name: str | None, message: str) -> Failure:
    name = type(caught).__name__
    kind = _BY_CLASS.get(name, "slow" if "timeout" in name.lower() else "transient")
    if kind != "fatal":
        return Failure(kind, message)
    if name == "ModelNotFoundError":
        return Failure(kind, message, error=_unknown_model(model, message))
    if name == "InsufficientFundsError":
        return Failure(kind, message, error=_quota(model, message))
    return Failure(kind, message, error=_refused_key(model, message, key_name))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` (seconds or a date) or `retry-after-ms` ask for, at most two minutes."""
    milliseconds, text = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds:
            return min(LONGEST_HOLD_S, float(milliseconds) / 1000)
        if text and text.strip().replace(".", "", 1).isdigit():
            return min(LONGEST_HOLD_S, float(text))
        if text:
            until = email.utils.parsedate_to_datetime(text)
            return min(LONGEST_HOLD_S, max(0.0, until.timestamp() - time.time()))
    except ValueError:
        pass
    return None


def hold(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the provider's rate limit is filled up again, where its headers say it is used up.

    Reads `x-ratelimit-*` (OpenAI and most others: a duration such as "1m30s") and `anthropic-ratelimit-*` (a time).
    """
    for what in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{what}") == "0":
            return _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        if headers.get(f"anthropic-ratelimit-{what}-remaining") == "0":
            return _until(headers.get(f"anthropic-ratelimit-{what}-reset", ""))
    return None


def _duration(text: str) -> float | None:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    seconds, number, rest = 0.0, "", text.strip()
    while rest:
        if rest[0].isdigit() or rest[0] == ".":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = "ms" if rest.startswith("ms") else rest[0]
        if unit not in units or not number:
            return None
        seconds, number, rest = seconds + float(number) * units[unit], "", rest[len(unit) :]
    return min(LONGEST_HOLD_S, seconds + (float(number) if number else 0.0))


def _until(text: str) -> float | None:
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        return None
    return min(LONGEST_HOLD_S, max(0.0, (until - datetime.now(UTC)).total_seconds()))


def _facts(caught: Exception) -> tuple[int | None, dict[str, Any], Mapping[str, str]]:
    """Status, error object and headers, wherever the provider's library and any-llm put them."""
    original = getattr(caught, "original_exception", None) or caught
    response = getattr(original, "response", None) or getattr(original, "raw_response", None)
    status = getattr(original, "status_code", None) or getattr(caught, "status_code", None)
    headers = getattr(original, "headers", None) or getattr(response, "headers", None) or {}
    body = getattr(original, "body", None)
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        body = {"code": getattr(caught, "code", None), "param": getattr(caught, "param", None)}
    return status if isinstance(status, int) else None, body, headers


def _message(caught: Exception, body: Mapping[str, Any], status: int | None) -> str:
    text = body.get("message") or getattr(caught, "message", None) or str(caught) or type(caught).__name__
    line = " ".join(str(text).split())[:500]
    return f"HTTP {status}: {line}" if status else f"{type(caught).__name__}: {line}"


def _quota(model: Model, message: str) -> LumigatorError:
    return ConfigurationError(
        f"{model.provider} takes no more questions from this account: {message}",
        "top the account up or raise its limit, then resume: answers so far are kept",
    )


def _moved(model: Model, status: int, headers: Mapping[str, str]) -> LumigatorError:
    where = str(headers.get("Location") or headers.get("location") or "another address")[:200]
    return ConfigurationError(
        f"the server of {model.label!r} answers HTTP {status}: it sends on to {where}, which is not followed",
        "give the address itself as base_url",
    )


def _refused_key(model: Model, message: str, key_name: str | None) -> LumigatorError:
    kept = f"check {key_name} in the environment, .env or the stored secrets"
    where = kept if key_name else "name its key's variable: api_key_name='…'"
    return ConfigurationError(f"{model.provider} refuses the API key for {model.name!r}: {message}", where)


def _unknown_model(model: Model, message: str) -> LumigatorError:
    where = f"at {model.base_url}" if model.base_url else f"of {model.provider}"
    return UnknownModelError(f"there is no model {model.name!r} {where}: {message}", "check its spelling and base_url")
