"""API keys: where they come from, how they reach the cluster, and how they are kept out of everything else."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.security import vault

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# Only variables with such names are taken for secrets, and only values that are too long to occur by chance.
_SECRET_NAME = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD)S?($|_)")
_SHORTEST = 8
_LONGEST_NAME = 255
# Variables by which programs find code, files, proxies, certificates and servers. A secret becomes a variable of the
# worker that needs it, and must not change what the worker does.
_PROCESS_NAME = re.compile(
    r"(LD|DYLD|GCONV|GLIBC|MALLOC|BASH|LC|PIP|UV|CONDA|RAY|CUDA|OMP|GOMP|MKL|NCCL|SSL|GIT_SSH|GIT_CONFIG)_.*"
    r"|(PYTHON|PERL5|RUBY|GIT_SSH|SSLKEYLOG).*|.*(PATH|_PROXY|_HOME|_OPTIONS|_CA_BUNDLE|_CONFIG_FILE)"
    r"|.*_(BASE_URL|API_BASE|HOST|ENDPOINT(_URL.*)?)"
    r"|HOME|USER|LOGNAME|SHELL|ENV|IFS|PWD|TMPDIR|TMP|TEMP|LANG|LANGUAGE|TZ|TERM|EDITOR|VISUAL|PAGER|BROWSER"
)
# What the cluster's nodes share with whoever submits to them, by which sealed keys are opened there.
_NODE_SECRETS = ("LUMIGATOR_SECRET_KEY", "RAY_AUTH_TOKEN")


class Redactor:
    """Replaces secret values in texts by their names.

    Args:
        secrets: value by name; short values are ignored, since they would occur in ordinary text.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        longest_first = sorted(secrets.items(), key=lambda item: -len(item[1]))
        self._secrets = [(name, value) for name, value in longest_first if len(value) >= _SHORTEST]

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        for name, value in self._secrets:
            if value in text:
                text = text.replace(value, f"[{name} removed]")
        return text

    def found_in(self, text: str) -> str | None:
        """Return the name of a secret whose value is in the text, or None."""
        return next((name for name, value in self._secrets if value in text), None)

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a log record, its traceback included; to be added to a handler as a filter."""
        if self._secrets:
            message = self(record.getMessage())
            if record.exc_info:
                message += "\n" + self(logging.Formatter().formatException(record.exc_info))
                record.exc_info = record.exc_text = None
            record.msg, record.args = message, ()
        return True


def secrets_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose names say that they are secret."""
    return {name: value for name, value in variables.items() if _SECRET_NAME.search(name)}


def redactor(*sources: Mapping[str, str]) -> Redactor:
    """Return a redactor of all secrets in this process's environment, and of all values in `sources`."""
    return Redactor({**secrets_in(os.environ), **{name: value for each in sources for name, value in each.items()}})


def refuse_secrets(texts: Iterable[tuple[str, str | None]], redact: Redactor) -> None:
    """Refuse texts that are about to be stored and hold a secret.

    Args:
        texts: what each text is, and the text.

    Raises:
        InvalidInputError: one holds the value of a secret; it is named, never shown.
    """
    for what, text in texts:
        name = redact.found_in(text) if text else None
        if name:
            raise InvalidInputError(f"the {what} holds the value of {name}, and it would be stored", "take it out")


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts of a value from JSON, at any depth, the names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_in(inner)


def secret_field(value: Any) -> str | None:
    """Return the name of a field, at any depth, that holds a secret by its name; None where there is none."""
    if isinstance(value, list):
        return next((found for each in value if (found := secret_field(each))), None)
    if not isinstance(value, Mapping):
        return None
    for name, inner in value.items():
        plain = str(name).upper().replace("-", "_")
        # Numbers are no secrets: max_tokens.
        if isinstance(inner, str) and (_SECRET_NAME.search(plain) or plain == "AUTHORIZATION"):
            return str(name)
        if found := secret_field(inner):
            return found
    return None


def check_name(name: str) -> None:
    """Refuse what is not the name of a variable, most likely the key itself; it is not repeated.

    Raises:
        InvalidInputError: see above.
    """
    if not NAME.fullmatch(name):
        raise InvalidInputError(
            "api_key_name takes the name of an environment variable in capitals, never the key itself",
            "put the key into .env as NAME=key, and write api_key_name='NAME'",
        )


def plain_name(name: str) -> str:
    """Return the name of a secret in capitals: `openai_api_key` is OPENAI_API_KEY.

    Raises:
        InvalidInputError: it is none, and most likely the secret itself; it is not repeated.
    """
    # What is not ASCII could turn into letters that are.
    capitals = name.upper() if isinstance(name, str) and name.isascii() else ""
    if len(capitals) > _LONGEST_NAME or not NAME.fullmatch(capitals):
        raise InvalidInputError(
            f"the name of a secret is that of a variable: letters, digits and _, at most {_LONGEST_NAME} characters",
            "such as OPENAI_API_KEY; the value is never part of it",
        )
    return capitals


def refuse_process_name(name: str) -> None:
    """Refuse a name by which programs find what they run or reach; `name` is in capitals.

    Raises:
        InvalidInputError: it is one.
    """
    if _PROCESS_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name} is a variable that changes what programs do, and no name for a secret", "such as OPENAI_API_KEY"
        )


def seal(keys: Mapping[str, str], secret: str) -> bytes:
    """Return keys encrypted (Fernet: AES-128-CBC with HMAC-SHA256) for whoever has `secret`, stretched by scrypt."""
    return _cipher(secret).encrypt(json.dumps(dict(keys)).encode())


def unseal(sealed: bytes) -> dict[str, str]:
    """Return the keys that :func:`seal` closed, by a secret that this node's environment holds.

    Raises:
        ConfigurationError: this node has no secret that opens them.
    """
    from cryptography.fernet import InvalidToken

    for name in _NODE_SECRETS:
        secret = os.environ.get(name)
        if secret:
            try:
                opened: dict[str, str] = json.loads(_cipher(secret).decrypt(sealed))
            except InvalidToken:
                continue
            return opened
    raise ConfigurationError(
        "the API keys that came with this workflow cannot be opened on this node",
        "give the cluster's nodes the same LUMIGATOR_SECRET_KEY as in .env, or the API keys themselves",
    )


def _cipher(secret: str) -> Fernet:
    from cryptography.fernet import Fernet

    # The same text may seal the database's secrets: what lies in the store must not make it easier to guess.
    return Fernet(base64.urlsafe_b64encode(vault.derived(SecretStr(secret), "keys on their way")))
