"""The key that seals stored secrets: where it comes from, what it seals, how another one takes its place.

The cipher is AES-256-GCM and not Fernet, because it binds what is not secret: a value opens under its own name only,
so that a row that was copied onto another name does not. No error says what was sealed, or by which bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr

from lumigator_nb.errors import ConfigurationError, SecretError
from lumigator_nb.security.key_places import KEYRING, TEXT_VARIABLE, Keeper, KeyFile, OsKeyring

FILE = "secret.key"
SHORTEST_TEXT = 16
_KEY_BYTES, _NONCE_BYTES = 32, 12
_VERSION = "1"
_HEADER = "# Opens the secrets of lumigator_nb, and so may whoever has a copy. The first key seals, all of them open.\n"


class SealingKey:
    """One key. It shows its id only, and cannot be pickled.

    Args:
        key: 32 bytes.

    Attributes:
        id: the beginning of the key's SHA-256, in hex; says which key it is and nothing of what it is.
    """

    __slots__ = ("_cipher", "id")

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self.id = hashlib.sha256(key).hexdigest()[:16]

    def seal(self, name: str, value: SecretStr) -> str:
        """Return the value encrypted, as text, to be opened under the same name."""
        nonce = os.urandom(_NONCE_BYTES)
        closed = self._cipher.encrypt(nonce, value.get_secret_value().encode(), _bound(name))
        return f"{_VERSION}.{_text_of(nonce + closed)}"

    def open(self, name: str, sealed: str) -> SecretStr:
        """Return what :meth:`seal` closed under that name.

        Raises:
            SecretError: it was altered, or sealed under another name or by another key.
        """
        from cryptography.exceptions import InvalidTag

        version, _, body = sealed.partition(".")
        if version == _VERSION:
            try:
                raw = base64.b64decode(body, altchars=b"-_", validate=True)
                # Several texts decode to the same bytes: the last character has bits that do not count.
                if _text_of(raw) != body:
                    raise ValueError("altered")
                opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(name))
                return SecretStr(opened.decode())
            except (InvalidTag, ValueError):
                pass
        raise SecretError(
            f"the secret {name} does not open: what is stored was altered, or belongs to another name",
            f"set it anew: lumigator-nb secrets set {name}",
        )

    def __repr__(self) -> str:
        return f"SealingKey({self.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealing key is not pickled")


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def _bound(name: str) -> bytes:
    return f"lumigator_nb secret {_VERSION}\0{name}".encode()


@lru_cache(maxsize=8)
def derived(text: SecretStr, purpose: str) -> bytes:
    """Return 32 bytes made of a text by scrypt, others for each purpose; takes about 0.2 s and 32 MiB, once.

    The salt is the purpose, as all who know the text must come to the same key.
    """
    salt = f"lumigator_nb {purpose}".encode()
    return hashlib.scrypt(
        text.get_secret_value().encode(), salt=salt, n=2**15, r=8, p=3, maxmem=1 << 26, dklen=_KEY_BYTES
    )


class Vault:
    """The keys at hand. Nothing is read before it is asked for.

    The key that seals is derived from a text where there is one; else it lies in the operating system's keyring, where
    the text is "keyring:"; else in the file ``secret.key`` of the home, made on first use. All keys that are at hand
    open, so that what an earlier one sealed is not lost when it is replaced.

    Args:
        home: folder of the key file.
        text: LUMIGATOR_SECRET_KEY.
        old: LUMIGATOR_OLD_SECRET_KEY, what the text was before; it opens and does not seal.
    """

    def __init__(self, home: Path, text: SecretStr | None = None, old: SecretStr | None = None) -> None:
        self._text, self._old = text, old
        self._file = _Place(KeyFile(home / FILE), home)
        self._keyring = _Place(OsKeyring(f"secrets of {home}"), home)

    @property
    def makes_keys(self) -> bool:
        """Whether another key can be made here, and is not the user's to choose."""
        return not self._text or _is_keyring(self._text)

    def current(self) -> SealingKey:
        """Return the key that seals, which is made on first use.

        Raises:
            SecretError: it cannot be read or written, or others can read it.
            ConfigurationError: the text is too short, or there is no keyring.
        """
        return self._place.first() if self.makes_keys else _of_text(self._text)

    def renew(self) -> SealingKey:
        """Return another key that seals from now on; those before it still open. A text stays as it is.

        Raises:
            As :meth:`current`.
        """
        return self._place.renewed() if self.makes_keys else _of_text(self._text)

    def find(self, key_id: str) -> SealingKey | None:
        """Return the key of that id; None where it is not at hand.

        Raises:
            As :meth:`current`.
        """
        return next((key for key in self._at_hand() if key.id == key_id), None)

    def ids(self) -> list[str]:
        """Return the ids of all keys at hand, the one that seals first; none is made."""
        return list(dict.fromkeys(key.id for key in self._at_hand()))

    @property
    def _place(self) -> _Place:
        return self._keyring if self._text else self._file

    def _at_hand(self) -> Iterator[SealingKey]:
        for text in (self._text, self._old):
            if text and _is_keyring(text):
                yield from self._keyring.keys()
            elif text:
                yield _of_text(text)
        yield from self._file.keys()

    def __repr__(self) -> str:
        return f"Vault({self._file})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault is not pickled")


def _is_keyring(text: SecretStr) -> bool:
    return text.get_secret_value().strip() == KEYRING


def _of_text(text: SecretStr | None) -> SealingKey:
    if text is None or len(text) < SHORTEST_TEXT:
        raise ConfigurationError(
            f"{TEXT_VARIABLE} is too short to seal secrets by: it takes {SHORTEST_TEXT} characters or more",
            "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return SealingKey(derived(text, "stored secrets"))


class _Place:
    """Keys that were made here, newest first."""

    def __init__(self, keeper: Keeper, home: Path) -> None:
        self._keeper, self._home = keeper, home

    def keys(self) -> list[SealingKey]:
        lines = enumerate((self._keeper.read() or "").splitlines(), 1)
        # No variable holds the text, as a traceback may show the variables.
        found = [(number, _parsed(line)) for number, line in lines if line and line[0] != "#"]
        for number, key in found:
            if key is None:
                raise SecretError(f"line {number} of {self} is no key", "restore it, or remove that line")
        return [key for _, key in found if key]

    def first(self) -> SealingKey:
        """Return the key that seals; whoever asks first makes it."""
        found = self.keys()
        if not found:
            with self._alone():
                self._keeper.create(_HEADER + _new_line())
            found = self.keys()
        if not found:
            raise SecretError(f"there is no key in {self}", "restore it, or remove it and set all secrets anew")
        return found[0]

    def renewed(self) -> SealingKey:
        with self._alone():
            self.keys()  # raises where one is damaged
            self._keeper.replace(_HEADER + _new_line() + (self._keeper.read() or "").removeprefix(_HEADER))
        return self.first()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        from filelock import FileLock

        try:
            self._home.mkdir(parents=True, exist_ok=True)
            with FileLock(self._home / f"{FILE}.lock", mode=0o600):
                yield
        except OSError as error:
            raise SecretError(f"{self} cannot be written: {error.strerror}", "check its folder's permissions") from None

    def __str__(self) -> str:
        return str(self._keeper)


def _parsed(line: str) -> SealingKey | None:
    try:
        raw = base64.b64decode(line.strip(), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return SealingKey(raw) if len(raw) == _KEY_BYTES else None


def _new_line() -> str:
    return _text_of(os.urandom(_KEY_BYTES)) + "\n"
