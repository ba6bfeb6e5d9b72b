"""The keys that encrypt ("seal") stored secrets: where they come from, how they seal, how they are replaced.

The cipher is AES-256-GCM instead of Fernet, because it can bind a value to its name (associated data): a row that was
copied to another name does not open. Error messages never contain a value or a key.
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
# The first lines of key files. Existing files have this text, so it must not change.
_HEADER = "# Opens the secrets of lumigator_nb, and so may whoever has a copy. The first key seals, all of them open.\n"


class SealingKey:
    """One key. Its repr shows the id only, and it cannot be pickled.

    Args:
        key: 32 bytes.

    Attributes:
        id: the first 16 hex digits of the key's SHA-256, which identify the key without revealing it.
    """

    __slots__ = ("_cipher", "id")

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)
        self.id = hashlib.sha256(key).hexdigest()[:16]

    def seal(self, name: str, value: SecretStr) -> str:
        """Return the encrypted value as text. It opens under the same name only."""
        # Random: one key seals far fewer than the 2^32 values from which on 96 random bits might repeat.
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._cipher.encrypt(nonce, value.get_secret_value().encode(), _bound(name))
        return f"{_VERSION}.{_text_of(nonce + ciphertext)}"

    def open(self, name: str, sealed: str) -> SecretStr:
        """Return the value that :meth:`seal` encrypted under that name.

        Raises:
            SecretError: the text was altered, or sealed under another name or by another key.
        """
        from cryptography.exceptions import InvalidTag

        version, _, body = sealed.partition(".")
        if version == _VERSION:
            try:
                raw = base64.b64decode(body, altchars=b"-_", validate=True)
                # Several texts decode to the same bytes, as the last character has unused bits. Only one is genuine.
                if _text_of(raw) != body:
                    raise ValueError("altered")
                plaintext = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(name))
                return SecretStr(plaintext.decode())
            except (InvalidTag, ValueError):
                pass
        raise SecretError(
            f"the secret {name} does not open: the stored value was altered, or belongs to another name",
            f"set it again: lumigator-nb secrets set {name}",
        )

    def __repr__(self) -> str:
        return f"SealingKey({self.id!r})"

    def __reduce__(self) -> NoReturn:
        # A pickle would put the key into a job's files or a cache.
        raise TypeError("a sealing key is not pickled")


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def _bound(name: str) -> bytes:
    """Return the associated data, which is authenticated but not encrypted: the name and the version."""
    return f"lumigator_nb secret {_VERSION}\0{name}".encode()


@lru_cache(maxsize=8)
def derived(text: SecretStr, purpose: str) -> bytes:
    """Return 32 bytes that scrypt derives from a text and a purpose; takes about 0.2 s and 32 MiB, once per process.

    The salt is the purpose instead of random bytes, as all machines with the same text must derive the same key.
    """
    salt = f"lumigator_nb {purpose}".encode()
    return hashlib.scrypt(
        text.get_secret_value().encode(), salt=salt, n=2**15, r=8, p=3, maxmem=1 << 26, dklen=_KEY_BYTES
    )


class Vault:
    """All available keys. Nothing is read before it is needed.

    The sealing key is derived from `text` if there is one. If `text` is "keyring:", it comes from the operating
    system's keyring. Without a `text` it comes from the file ``secret.key`` in the home, which is created on first use.
    All available keys open, so that secrets stay readable when their key is replaced.

    Args:
        home: folder of the key file.
        text: LUMIGATOR_SECRET_KEY.
        old: LUMIGATOR_OLD_SECRET_KEY, the previous text, which opens and does not seal.
    """

    def __init__(self, home: Path, text: SecretStr | None = None, old: SecretStr | None = None) -> None:
        self._text, self._old = text, old
        self._file = _Place(KeyFile(home / FILE), home)
        self._keyring = _Place(OsKeyring(f"secrets of {home}"), home)

    @property
    def makes_keys(self) -> bool:
        """Whether keys are generated here; False if the user chose a text."""
        return not self._text or _is_keyring(self._text)

    def current(self) -> SealingKey:
        """Return the sealing key; generate it on first use.

        Raises:
            SecretError: it cannot be read or written, or other users can read it.
            ConfigurationError: the text is too short, or there is no keyring.
        """
        return self._place.first() if self.makes_keys else _of_text(self._text)

    def renew(self) -> SealingKey:
        """Generate and return a new sealing key; the previous keys still open. A key from a text stays.

        Raises:
            As in :meth:`current`.
        """
        return self._place.renewed() if self.makes_keys else _of_text(self._text)

    def find(self, key_id: str) -> SealingKey | None:
        """Return the key with that id; None if it is not available.

        Raises:
            As in :meth:`current`.
        """
        return next((key for key in self._at_hand() if key.id == key_id), None)

    def ids(self) -> list[str]:
        """Return the ids of all available keys, the sealing key first; generates none."""
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
            f"{TEXT_VARIABLE} is too short to seal secrets: it takes {SHORTEST_TEXT} characters or more",
            "generate one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return SealingKey(derived(text, "stored secrets"))


class _Place:
    """A place with generated keys, the newest first."""

    def __init__(self, keeper: Keeper, home: Path) -> None:
        self._keeper, self._home = keeper, home

    def keys(self) -> list[SealingKey]:
        lines = enumerate((self._keeper.read() or "").splitlines(), 1)
        # A comprehension: a traceback may show the variables of this frame, so none of them holds the text or a line.
        keys = [(number, _parsed(line)) for number, line in lines if line and line[0] != "#"]
        for number, key in keys:
            if key is None:
                raise SecretError(f"line {number} of {self} is not a key", "restore it, or remove that line")
        return [key for _, key in keys if key]

    def first(self) -> SealingKey:
        """Return the sealing key; generate it if there is none.

        `create` writes nothing where another process was faster, so the keys are read again.
        """
        keys = self.keys()
        if not keys:
            with self._lock():
                self._keeper.create(_HEADER + _new_line())
            keys = self.keys()
        if not keys:
            raise SecretError(f"there is no key in {self}", "restore it, or remove it and set all secrets again")
        return keys[0]

    def renewed(self) -> SealingKey:
        with self._lock():
            self.keys()  # raises if one is damaged: a new key in front must not hide that
            # The old keys stay behind the new one, so that what they sealed still opens.
            self._keeper.replace(_HEADER + _new_line() + (self._keeper.read() or "").removeprefix(_HEADER))
        return self.first()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock that processes take to write keys; turn errors of files into SecretError."""
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
    """Return the key of a line, or None if it is not a key."""
    try:
        raw = base64.b64decode(line.strip(), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return SealingKey(raw) if len(raw) == _KEY_BYTES else None


def _new_line() -> str:
    return _text_of(os.urandom(_KEY_BYTES)) + "\n"
