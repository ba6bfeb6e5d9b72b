"""Code and secrets: neither leaves with an exported file, and nothing that runs code or sends a key arrives with one.

A function metric of a notebook is stored pickled, and unpickling runs the sender's code. Pickles are removed when a
file is written and again when it is read, so that nothing of a file is ever unpickled. A function that is named to be
imported, code that comes with a model, and the name of a key for an address that the sender chose are as dangerous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lumigator_nb import metrics, models
from lumigator_nb.errors import InvalidInputError, LumigatorError
from lumigator_nb.security.redaction import NAME, Redactor, secret_field, texts_in
from lumigator_nb.specs import MetricSpec, Model

_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def without_code(spec: MetricSpec) -> MetricSpec:
    """Return a metric without its pickled function; its key and its signature do not change."""

    def unpickled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: unpickled(inner) for name, inner in value.items() if name != "pickle"}
        return [unpickled(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return spec.model_copy(update={"options": unpickled(spec.options)})


def harmless_model(model: Model) -> tuple[Model, list[str]]:
    """Return a model that is safe to store, and a description of each setting that was removed."""
    options, removed = _harmless_options(model.provider, model.base_url, model.options)
    return model.model_copy(update={"options": options}), [f"model {model.label!r}: {what}" for what in removed]


def harmless_metric(spec: MetricSpec) -> tuple[MetricSpec, list[str]]:
    """Return a metric that is safe to store, and a description of each setting that was removed.

    A function to be imported stays if this process has registered one with the same name and code.
    """
    removed: list[str] = []

    def harmless(value: Any) -> Any:
        """Make the models within the options harmless, at any depth: a jury has several."""
        if isinstance(value, Mapping):
            fields = {name: harmless(inner) for name, inner in value.items()}
            if isinstance(fields.get("options"), dict) and "provider" in fields:
                found = _harmless_options(fields["provider"], fields.get("base_url"), fields["options"])
                fields["options"] = found[0]
                removed.extend(found[1])
            return fields
        return [harmless(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    options = harmless(without_code(spec).options)
    if spec.is_function and not ("importable" in options and _is_registered(spec)):
        options.pop("importable", None)
        removed.append("its function")
    name = spec.options.get("name", spec.name)
    return spec.model_copy(update={"options": options}), [f"metric {name!r}: {what}" for what in removed]


def _harmless_options(provider: Any, address: Any, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    harmless, removed = dict(options), []
    if harmless.pop("trust_remote_code", False):
        removed.append("trust_remote_code")
    if address is not None and harmless.pop("api_key_name", None):
        removed.append(f"the name of the key for {address}")
    if models.runs_user_code(provider):
        harmless["import"] = None
        removed.append("its function")
    return harmless, removed


def _is_registered(spec: MetricSpec) -> bool:
    try:
        registered = metrics.parse(str(spec.options.get("name")))
    except LumigatorError:
        return False
    decisive = ("name", "importable", "code")
    return registered.is_function and all(registered.options.get(name) == spec.options.get(name) for name in decisive)


def refuse_secret_fields(what: str, settings: Any) -> None:
    """Refuse settings with a field that holds a key, judged by its name, or an address with a password.

    Raises:
        InvalidInputError: there is such a field; it is named, and its value never shown.
    """
    for field, value in _fields(settings):
        # api_key_name is the name of a variable, but someone may have written the key there.
        is_variable = field == "api_key_name" and isinstance(value, str) and NAME.fullmatch(value)
        is_secret = isinstance(value, str) and not is_variable and secret_field({field: value})
        if is_secret or (field.endswith("url") and any(map(_WITH_PASSWORD.search, texts_in(value)))):
            raise InvalidInputError(
                f"the field {field!r} of {what} holds a secret, and the file would reveal it",
                "take it out: name the variable that holds it, as api_key_name does",
            )


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of every field, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name), inner
            yield from _fields(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _fields(inner)


def refuse_secret_values(what: str, text: str, redact: Redactor) -> None:
    """Refuse a text that contains the value of a known secret.

    Raises:
        InvalidInputError: it does; the secret is named, and its value never shown.
    """
    if name := redact.found_in(text):
        raise InvalidInputError(f"{what} holds the value of {name}, and the file would reveal it", "take it out")
