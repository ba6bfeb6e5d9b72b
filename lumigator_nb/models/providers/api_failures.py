"""Classification of a provider's errors: retry, fail the example, or stop."""

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
# any-llm's exceptions, for providers whose library does not give the HTTP status.
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
    """A call that returned no answer.

    Attributes:
        kind: "busy" and "slow" (a time-out): retry with fewer requests at once; "transient": retry; "row": this example
            cannot be answered; "parameter": the model does not take `parameter`; "fatal": no example can be answered.
        message: the provider's message, without secrets.
        wait: seconds that the provider asks to wait before a retry.
        parameter: name of the refused parameter.
        error: the error to raise if `kind` is "fatal".
    """

    kind: Kind
    message: str
    wait: float | None = None
    parameter: str | None = None
    error: LumigatorError | None = None


class MalformedAnswerError(Exception):
    """The provider's response has status 200 and no answer in it."""


class RefusedError(Exception):
    """The provider's response is an HTTP error.

    Attributes:
        status_code: HTTP status.
        body: the response's JSON object; empty if it is not one.
        headers: the response's headers.
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
    """Return a response's JSON.

    Raises:
        MalformedAnswerError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError:
        raise MalformedAnswerError(f"the answer is not JSON: {text[:200]}") from None


def classify(caught: Exception, model: Model, key_name: str | None, redact: Redactor) -> Failure:
    """Return what an exception of a provider's library means for the model that was asked.

    Args:
        caught: the exception.
        model: the model.
        key_name: the variable that holds the model's API key; None without a key.
        redact: removes the key from the message: providers repeat the key that they refuse.
    """
    status, body, headers = _response(caught)
    text = body.get("message") or getattr(caught, "message", None) or str(caught) or type(caught).__name__
    source = f"HTTP {status}" if status else type(caught).__name__
    message = redact(f"{source}: {' '.join(str(text).split())[:500]}")
    if status is None:
        return _by_class(caught, model, key_name, message)
    # Words come before statuses: 429 can also mean an empty account, and 403 a text that a moderation refused.
    code = " ".join(str(body.get(field) or "") for field in ("code", "type"))
    words = f"{code} {message}".lower()
    if status in (400, 402, 403, 429) and any(sign in words for sign in _OUT_OF_MONEY):
        return Failure("fatal", message, error=_quota(model, message))
    if status in (401, 403) and not any(sign in words for sign in _BLOCKED):
        return Failure("fatal", message, error=_refused_key(model, message, key_name))
    if 300 <= status < 400:
        target = str(headers.get("Location") or headers.get("location") or "another address")[:200]
        moved = ConfigurationError(
            f"the server of {model.label!r} answers HTTP {status}: it redirects to {target}, which is not followed",
            "set base_url to that address",
        )
        return Failure("fatal", message, error=moved)
    if status == 402:
        return Failure("fatal", message, error=_quota(model, message))
    if status == 404:
        return Failure("fatal", message, error=_unknown_model(model, message))
    if status in _BUSY:
        return Failure("busy", message, wait=retry_after(headers))
    if status in _TRANSIENT or status >= 500:
        return Failure("transient", message, wait=retry_after(headers))
    if status == 400 and body.get("param") and any(sign in code for sign in _UNSUPPORTED):
        return Failure("parameter", message, parameter=str(body["param"]))
    if 400 <= status < 500:
        return Failure("row", message)
    return _by_class(caught, model, key_name, message)


def _by_class(caught: Exception, model: Model, key_name: str | None, message: str) -> Failure:
    """Classify an exception without an HTTP status by the name of its class."""
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
    """Return the seconds in `Retry-After` (seconds or a date) or `retry-after-ms`, at most two minutes."""
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
    """Return the seconds until the provider's rate limit resets; None unless its headers say that it is used up.

    Reads `x-ratelimit-*` (OpenAI and most others: a duration such as "1m30s") and `anthropic-ratelimit-*` (a time).
    """
    for unit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{unit}") == "0":
            return _duration(headers.get(f"x-ratelimit-reset-{unit}", ""))
        if headers.get(f"anthropic-ratelimit-{unit}-remaining") == "0":
            try:
                reset = datetime.fromisoformat(headers.get(f"anthropic-ratelimit-{unit}-reset", ""))
            except ValueError:
                return None
            return min(LONGEST_HOLD_S, max(0.0, (reset - datetime.now(UTC)).total_seconds()))
    return None


def _duration(text: str) -> float | None:
    """The seconds of a duration such as "1m30s", "6ms" or "20"; None if it is malformed."""
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


def _response(caught: Exception) -> tuple[int | None, dict[str, Any], Mapping[str, str]]:
    """Status, error object and headers of the response, which libraries put in different places."""
    # any-llm wraps the exception of the provider's library.
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


def _quota(model: Model, message: str) -> LumigatorError:
    return ConfigurationError(
        f"{model.provider} takes no more requests from this account: {message}",
        "top up the account or raise its limit, then resume: answers so far are kept",
    )


def _refused_key(model: Model, message: str, key_name: str | None) -> LumigatorError:
    hint = "name the variable with its key: api_key_name='…'"
    if key_name:
        hint = f"check {key_name} in the environment, .env or the stored secrets"
    return ConfigurationError(f"{model.provider} refuses the API key for {model.name!r}: {message}", hint)


def _unknown_model(model: Model, message: str) -> LumigatorError:
    where = f"at {model.base_url}" if model.base_url else f"of {model.provider}"
    return UnknownModelError(f"there is no model {model.name!r} {where}: {message}", "check its spelling and base_url")
