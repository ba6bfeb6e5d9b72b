"""What must not travel: code and keys. And what must not be trusted on arrival: whatever runs code or sends a key.

A function metric of a notebook is kept pickled, and unpickling runs what the sender wrote; it is taken out when the
file is written and again when it is read, so that nothing of a file is ever unpickled. A function that is named to be
imported, code that comes with a model, and a key for an address of the sender's choice would be as bad.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.security.redaction import NAME, Redactor, secret_field
from lumigator_nb.specs import MetricSpec, Model

_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def without_code(spec: MetricSpec) -> MetricSpec:
    """Return a metric without its pickled function; its key and its signature stay what they are."""
    return spec.model_copy(update={"options": _unpickled(spec.options)})


def _unpickled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _unpickled(each) for name, each in value.items() if name != "pickle"}
    return [_unpickled(each) for each in value] if isinstance(value, (list, tuple)) else value


def harmless_model(model: Model) -> tuple[Model, list[str]]:
    """Return a model of a file as it may be kept, and what was taken out of it, in words."""
    options, taken = _harmless_options(model.provider, model.base_url, model.options)
    return model.model_copy(update={"options": options}), [f"model {model.label!r}: {each}" for each in taken]


def harmless_metric(spec: MetricSpec) -> tuple[MetricSpec, list[str]]:
    """Return a metric of a file as it may be kept, and what was taken out of it, in words.

    A function that is to be imported stays where this process knows it by the same name and code already.
    """
    found: list[str] = []
    options = _harmless(without_code(spec).options, found)
    if spec.is_function and "importable" in options and not _is_known_here(spec):
        del options["importable"]
        found.append("its function")
    elif spec.is_function and "importable" not in options:
        found.append("its function")
    return spec.model_copy(update={"options": options}), [f"metric {_title(spec)!r}: {each}" for each in found]


def _harmless(value: Any, found: list[str]) -> Any:
    """The models within a metric's options, at any depth."""
    if isinstance(value, Mapping):
        plain = {name: _harmless(each, found) for name, each in value.items()}
        if isinstance(plain.get("options"), dict) and "provider" in plain:
            plain["options"], taken = _harmless_options(plain["provider"], plain.get("base_url"), plain["options"])
            found.extend(taken)
        return plain
    return [_harmless(each, found) for each in value] if isinstance(value, (list, tuple)) else value


def _harmless_options(provider: Any, address: Any, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    kept, taken = dict(options), []
    if kept.pop("trust_remote_code", False):
        taken.append("trust_remote_code")
    if address is not None and kept.pop("api_key_name", None):
        taken.append(f"the name of the key for {address}")
    if models.runs_user_code(provider):
        kept["import"] = None
        taken.append("its function")
    return kept, taken


def _is_known_here(spec: MetricSpec) -> bool:
    try:
        known = metrics.parse(str(spec.options.get("name")))
    except LumigatorError:
        return False
    same = ("name", "importable", "code")
    return known.is_function and all(known.options.get(each) == spec.options.get(each) for each in same)


def _title(spec: MetricSpec) -> str:
    try:
        return spec.title
    except (LookupError, ValueError, TypeError, AttributeError):
        return spec.name


def refuse_secret_fields(what: str, value: Any) -> None:
    """Refuse settings with a field that holds a key by its name, or an address with a password.

    Raises:
        InvalidInputError: see above; the field is named, its value never shown.
    """
    field = secret_field(_without_variables(value)) or _field_with_password(value)
    if field:
        raise InvalidInputError(
            f"the field {field!r} of {what} holds a secret, and it would be handed on",
            "take it out: name the variable that holds it, as api_key_name does",
        )


def refuse_secret_values(what: str, text: str, redact: Redactor) -> None:
    """Refuse a text with the value of a secret that is known here.

    Raises:
        InvalidInputError: see above; the variable is named, its value never shown.
    """
    if name := redact.found_in(text):
        raise InvalidInputError(f"{what} holds the value of {name}, and it would be handed on", "take it out")


def _without_variables(value: Any) -> Any:
    """Without the fields that name a variable and hold no key."""
    if isinstance(value, Mapping):
        return {
            name: _without_variables(each)
            for name, each in value.items()
            if not (name == "api_key_name" and isinstance(each, str) and NAME.fullmatch(each))
        }
    return [_without_variables(each) for each in value] if isinstance(value, (list, tuple)) else value


def _field_with_password(value: Any, field: str = "") -> str | None:
    if isinstance(value, Mapping):
        return next((found for name, each in value.items() if (found := _field_with_password(each, str(name)))), None)
    if isinstance(value, (list, tuple)):
        return next((found for each in value if (found := _field_with_password(each, field))), None)
    return field if isinstance(value, str) and field.endswith("url") and _WITH_PASSWORD.search(value) else None
