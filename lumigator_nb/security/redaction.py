"""API keys: rules for their names, redaction of texts, and encryption on their way to the cluster."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote

from pydantic import SecretStr

from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.security import vault

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# Variables with such names count as secrets, if their values are too long to occur in ordinary text by chance.
_SECRET_NAME = re.compile(r"(API_?KEY|ACCOUNT_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CONNECTION_STRING)S?($|_)")
# The password in an address such as postgresql+psycopg://USER:PASSWORD@HOST/NAME, and the key in a connection string.
_URL_PASSWORD = re.compile(r"://[^/?#@\s]*?:([^/?#\s]+)@")
# A password such as "postgres", which protects nothing and occurs in ordinary texts.
_WORD = re.compile(r"[A-Za-z]{1,12}")
_PART = re.compile(r"(?:AccountKey|SharedAccessKey|Password|Pwd)=([^;\s]+)", re.IGNORECASE)
_SHORTEST = 8
_LONGEST_NAME = 255
# Variables by which programs find code, files, proxies, certificates and servers. A secret becomes an environment
# variable of the worker that needs it, and must not change what the worker runs or reaches.
_PROCESS_NAME = re.compile(
    r"(LD|DYLD|GCONV|GLIBC|MALLOC|BASH|LC|PIP|UV|CONDA|RAY|CUDA|OMP|GOMP|MKL|NCCL|SSL|GIT_SSH|GIT_CONFIG)_.*"
    r"|(PYTHON|PERL5|RUBY|GIT_SSH|SSLKEYLOG).*|.*(PATH|_PROXY|_HOME|_OPTIONS|_CA_BUNDLE|_CONFIG_FILE)"
    r"|.*_(BASE_URL|API_BASE|HOST|ENDPOINT(_URL.*)?)"
    r"|HOME|USER|LOGNAME|SHELL|ENV|IFS|PWD|TMPDIR|TMP|TEMP|LANG|LANGUAGE|TZ|TERM|EDITOR|VISUAL|PAGER|BROWSER"
)
# Variables that the cluster's nodes share with the submitting machine; either can open sealed keys on a node.
_NODE_SECRETS = ("LUMIGATOR_SECRET_KEY", "RAY_AUTH_TOKEN")


class Redactor:
    """Replaces secret values in texts by their names.

    Args:
        secrets: value by name. Values of fewer than 8 characters are ignored, since they may occur in ordinary text.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        # The longest first: one secret may contain another, and would else be removed in part.
        forms = {form: name for name, value in secrets.items() if len(value) >= _SHORTEST for form in _forms(value)}
        self._secrets = sorted(((name, form) for form, name in forms.items()), key=lambda item: -len(item[1]))

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
        """Redact a log record and its traceback; a filter for logging handlers, which always returns True."""
        if self._secrets:
            message = self(record.getMessage())
            if record.exc_info:
                message += "\n" + self(logging.Formatter().formatException(record.exc_info))
                record.exc_info = record.exc_text = None
            record.msg, record.args = message, ()
        return True


def _forms(value: str) -> set[str]:
    """Return a secret as it may stand in a text: as it is, in an address, and as repr and JSON write it, also twice.

    An error's text often has the repr of a value, which doubles backslashes and escapes quotes; an error about that
    error does so again.
    """
    forms = {value, quote(value, safe=""), quote_plus(value)}
    for _ in range(2):
        forms |= {written for form in forms for written in _escaped(form)}
    return forms


def _escaped(text: str) -> set[str]:
    return {repr(text)[1:-1], ascii(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}


def secrets_in(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose names mark them as secrets, and of others the password in their address."""
    secrets = {}
    for name, value in variables.items():
        if _SECRET_NAME.search(name):
            part = _PART.search(value) if "CONNECTION_STRING" in name else None
            secrets[name] = part[1] if part else value
        elif (found := _URL_PASSWORD.search(value)) and not _WORD.fullmatch(unquote(found[1])):
            secrets[name] = unquote(found[1])
    return secrets


def redactor(*sources: Mapping[str, str]) -> Redactor:
    """Return a redactor of all secrets in this process's environment, and of all values in `sources`."""
    return Redactor({**secrets_in(os.environ), **{name: value for source in sources for name, value in source.items()}})


def refuse_secrets(texts: Iterable[tuple[str, str | None]], redact: Redactor) -> None:
    """Check that texts which are about to be stored contain no secrets.

    Args:
        texts: pairs of a description, such as "name", and the text.
        redact: knows the secrets.

    Raises:
        InvalidInputError: one contains the value of a secret. The message has its name, never its value.
    """
    for what, text in texts:
        name = redact.found_in(text) if text else None
        if name:
            raise InvalidInputError(f"the {what} holds the value of {name}, which would be stored", "remove it")


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts of a JSON value, at any depth, including the names of fields."""
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
    """Return the name of a field, at any depth, whose name marks it as a secret; None if there is none."""
    if isinstance(value, list):
        return next((name for item in value if (name := secret_field(item))), None)
    if not isinstance(value, Mapping):
        return None
    for name, inner in value.items():
        plain = str(name).upper().replace("-", "_")
        # Texts only: max_tokens has a secret's name, but a number.
        if isinstance(inner, str) and (_SECRET_NAME.search(plain) or plain == "AUTHORIZATION"):
            return str(name)
        if field := secret_field(inner):
            return field
    return None


def check_name(name: str) -> None:
    """Check the name of an environment variable that holds an API key.

    Raises:
        InvalidInputError: it is not such a name. The message does not repeat it, as it may be the key itself.
    """
    if not NAME.fullmatch(name):
        raise InvalidInputError(
            "api_key_name takes the name of an environment variable in capitals, never the key itself",
            "put the key into .env as NAME=key, and write api_key_name='NAME'",
        )


def plain_name(name: str) -> str:
    """Return the name of a secret in capitals: `openai_api_key` is OPENAI_API_KEY.

    Raises:
        InvalidInputError: it is not such a name. The message does not repeat it, as it may be the secret itself.
    """
    # upper() turns some characters beyond ASCII into ASCII letters, such as ı into I.
    capitals = name.upper() if isinstance(name, str) and name.isascii() else ""
    if len(capitals) > _LONGEST_NAME or not NAME.fullmatch(capitals):
        raise InvalidInputError(
            f"the name of a secret is that of a variable: letters, digits and _, at most {_LONGEST_NAME} characters",
            "such as OPENAI_API_KEY; the value is never part of it",
        )
    return capitals


def refuse_process_name(name: str) -> None:
    """Refuse the name of a variable that changes what programs run or reach.

    Args:
        name: in capitals.

    Raises:
        InvalidInputError: it is such a name.
    """
    if _PROCESS_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name} changes what programs do, and cannot be the name of a secret", "use a name such as OPENAI_API_KEY"
        )


def seal(keys: Mapping[str, str], secret: str) -> bytes:
    """Return keys, encrypted (Fernet: AES-128-CBC with HMAC-SHA256) by a key that scrypt derives from `secret`."""
    return _cipher(secret).encrypt(json.dumps(dict(keys)).encode())


def unseal(sealed: bytes) -> dict[str, str]:
    """Return the keys that :func:`seal` encrypted, with a secret from this node's environment.

    Raises:
        ConfigurationError: no secret of this node opens them.
    """
    from cryptography.fernet import InvalidToken

    for name in _NODE_SECRETS:
        secret = os.environ.get(name)
        if secret:
            try:
                keys: dict[str, str] = json.loads(_cipher(secret).decrypt(sealed))
            except InvalidToken:
                continue
            return keys
    raise ConfigurationError(
        "the API keys that came with this workflow cannot be opened on this node",
        "give the cluster's nodes the same LUMIGATOR_SECRET_KEY as in .env, or the API keys themselves",
    )


def _cipher(secret: str) -> Fernet:
    from cryptography.fernet import Fernet

    # The same text may also seal the database's secrets. Its own purpose gives a different key, so that the
    # sealed keys in the store do not help to open those.
    return Fernet(base64.urlsafe_b64encode(vault.derived(SecretStr(secret), "keys on their way")))
