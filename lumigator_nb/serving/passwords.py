"""Files of passwords: one line for each person, `name:hash`; no password can be read from them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from lumigator_nb.errors import ConfigurationError, InvalidInputError
from lumigator_nb.files import whole_file

SHORTEST = 8
_NAME = re.compile(r"[^\s:#][^\s:]{0,99}")
_SALT_BYTES = 16
# What OWASP recommends for scrypt with 16 MiB; about 0.2 s of one core.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 5
_MOST_COST = 2**20


@dataclass(frozen=True)
class _Hash:
    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> _Hash:
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(_COST, _BLOCK, _PARALLEL, salt, _derived(password, salt, _COST, _BLOCK, _PARALLEL))

    @classmethod
    def parse(cls, text: str) -> _Hash:
        kind, cost, block, parallel, salt, digest = text.split("$")
        found = cls(int(cost), int(block), int(parallel), base64.b64decode(salt), base64.b64decode(digest))
        if kind != "scrypt" or not 1 < found.cost <= _MOST_COST or not found.digest:
            raise ValueError(text)
        return found

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(each).decode() for each in (self.salt, self.digest))
        return f"scrypt${self.cost}${self.block}${self.parallel}${salt}${digest}"

    def admits(self, password: str) -> bool:
        found = _derived(password, self.salt, self.cost, self.block, self.parallel)
        return hmac.compare_digest(found, self.digest)


def _derived(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    memory = 256 * cost * block
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=memory)


class Passwords:
    """The people of a password file; read anew when the file has changed.

    Args:
        path: of the file.

    Raises:
        ConfigurationError: it cannot be read, others may write to it, it is empty, or a line is malformed.
    """

    kind = "password"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._people: dict[str, str] = {}
        # For names that are not there: whoever guesses must not learn from the time which are.
        self._nobody = _Hash.of(secrets.token_urlsafe())
        if not self.people:
            raise ConfigurationError(f"the password file {path} names nobody", add_hint(path))

    @property
    def people(self) -> dict[str, str]:
        """Hash by name."""
        try:
            state = self._path.stat()
            if (state.st_mtime_ns, state.st_size) != self._read_at:
                if os.name == "posix" and state.st_mode & 0o022:
                    raise ConfigurationError(
                        f"others may write to the password file {self._path}", f"chmod 600 {self._path}"
                    )
                self._people = _parsed(self._path)
                self._read_at = state.st_mtime_ns, state.st_size
        except FileNotFoundError:
            raise ConfigurationError(f"there is no password file {self._path}", add_hint(self._path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the password file {self._path} cannot be read: {error}") from None
        return self._people

    def admits(self, name: str, password: str) -> bool:
        """Say whether that is the person's password; takes as long for names that are not there."""
        text = self.people.get(name)
        return (_Hash.parse(text) if text else self._nobody).admits(password) and text is not None

    def stamp(self, name: str) -> str | None:
        """Return a text that changes with the person's password; None where the file does not name them."""
        text = self.people.get(name)
        return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None


def add_user(path: Path, name: str, password: str) -> bool:
    """Write a person's line into a password file, or replace it; the file is made where there is none.

    Returns:
        Whether the person was there before.

    Raises:
        InvalidInputError: the name has spaces or colons, or the password is too short.
        ConfigurationError: the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError("a name has no spaces and no colons, and at most 100 characters", "such as ada")
    if len(password) < SHORTEST:
        raise InvalidInputError(f"a password has at least {SHORTEST} characters", "several words make a good one")
    path = path.expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.partition(":")[0].strip() != name]
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, 0o600) as file:
            file.write(("\n".join([*kept, f"{name}:{_Hash.of(password)}"]) + "\n").encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the password file {path} cannot be written: {error}") from None
    return len(kept) < len(lines)


def add_hint(path: Path) -> str:
    """Return how a person is added to a file."""
    return f"lumigator-nb dashboard --add-user NAME {path}"


def _parsed(path: Path) -> dict[str, str]:
    people: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.strip().partition(":")
        try:
            _Hash.parse(text)
        except (ValueError, binascii.Error):
            # The line is not repeated: it may hold the password itself.
            message = f"the password file {path}, line {number}: a line is name:hash, made by the command below"
            raise ConfigurationError(message, add_hint(path)) from None
        people[name] = text
    return people
