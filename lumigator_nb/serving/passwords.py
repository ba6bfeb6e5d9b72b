"""Password files: one line per user, `name:hash`. Passwords cannot be recovered from the hashes (scrypt)."""

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

MIN_LENGTH = 8
_NAME = re.compile(r"[^\s:#][^\s:]{0,99}")
_SALT_BYTES = 16
# OWASP's recommendation for scrypt with 16 MiB (Password Storage Cheat Sheet); about 0.2 s of one core.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 5
# A line with a higher cost could make each login take minutes.
_MAX_COST = 2**20


@dataclass(frozen=True)
class _Hash:
    """A salted hash of a password, with the parameters of scrypt that made it."""

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
        parsed = cls(int(cost), int(block), int(parallel), base64.b64decode(salt), base64.b64decode(digest))
        if kind != "scrypt" or not 1 < parsed.cost <= _MAX_COST or not parsed.digest:
            raise ValueError(text)
        return parsed

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(raw).decode() for raw in (self.salt, self.digest))
        return f"scrypt${self.cost}${self.block}${self.parallel}${salt}${digest}"

    def admits(self, password: str) -> bool:
        digest = _derived(password, self.salt, self.cost, self.block, self.parallel)
        return hmac.compare_digest(digest, self.digest)


def _derived(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    memory = 256 * cost * block  # twice what scrypt needs; the default of 32 MiB would refuse a higher cost
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=memory)


class Passwords:
    """Login by the users of a password file. The file is read again when it has changed.

    Args:
        path: the password file.

    Raises:
        ConfigurationError: it cannot be read, other accounts may write to it, it is empty, or a line is malformed.
    """

    kind = "password"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._users: dict[str, str] = {}
        # Checked for unknown names, so that the response time does not tell which names exist.
        self._dummy = _Hash.of(secrets.token_urlsafe())
        if not self.users:
            raise ConfigurationError(f"the password file {path} has no users", add_hint(path))

    @property
    def users(self) -> dict[str, str]:
        """Hashes by user name."""
        try:
            state = self._path.stat()
            if (state.st_mtime_ns, state.st_size) != self._read_at:
                if os.name == "posix" and state.st_mode & 0o022:
                    raise ConfigurationError(
                        f"others may write to the password file {self._path}", f"chmod 600 {self._path}"
                    )
                self._users = self._read()
                self._read_at = state.st_mtime_ns, state.st_size
        except FileNotFoundError:
            raise ConfigurationError(f"there is no password file {self._path}", add_hint(self._path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the password file {self._path} cannot be read: {error}") from None
        return self._users

    def admits(self, name: str, password: str) -> bool:
        """Return whether the password is right. Takes the same time for unknown names."""
        text = self.users.get(name)
        return (_Hash.parse(text) if text else self._dummy).admits(password) and text is not None

    def stamp(self, name: str) -> str | None:
        """Return a text that changes with the user's password; None for an unknown user."""
        text = self.users.get(name)
        return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None

    def _read(self) -> dict[str, str]:
        users: dict[str, str] = {}
        for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, text = line.strip().partition(":")
            try:
                _Hash.parse(text)
            except (ValueError, binascii.Error):
                # The message does not repeat the line, which may contain the password itself.
                message = f"the password file {self._path}, line {number}: not name:hash as the command below writes it"
                raise ConfigurationError(message, add_hint(self._path)) from None
            users[name] = text
        return users


def add_user(path: Path, name: str, password: str) -> bool:
    """Add a user to a password file, or replace the user's password. Creates the file if necessary.

    Returns:
        Whether the user existed before.

    Raises:
        InvalidInputError: the name has spaces or colons, or the password is too short.
        ConfigurationError: the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError("a name has no spaces and no colons, and at most 100 characters", "for example ada")
    if len(password) < MIN_LENGTH:
        raise InvalidInputError(f"a password has at least {MIN_LENGTH} characters", "several words make a good one")
    path = path.expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        others = [line for line in lines if line.partition(":")[0].strip() != name]
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary file and renamed: a server that reads it meanwhile never sees half of it.
        with whole_file(path, 0o600) as file:
            file.write(("\n".join([*others, f"{name}:{_Hash.of(password)}"]) + "\n").encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the password file {path} cannot be written: {error}") from None
    return len(others) < len(lines)


def add_hint(path: Path) -> str:
    """Return the command that adds a user to a password file."""
    return f"lumigator-nb dashboard --add-user NAME {path}"
