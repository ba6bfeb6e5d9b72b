"""Where sealing keys are stored: a file in LUMIGATOR_HOME, or the operating system's keyring."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from lumigator_nb.errors import ConfigurationError, MissingExtraError, SecretError
from lumigator_nb.files import whole_file

KEYRING = "keyring:"
TEXT_VARIABLE = "LUMIGATOR_SECRET_KEY"
# In bytes. A key takes 45, so more is not a key file.
_LARGEST_FILE = 1 << 20


class Keeper(Protocol):
    """A place for the keys, stored as one text. ``str(keeper)`` names the place.

    All methods raise SecretError on failure, except that writing a file raises OSError.
    """

    def read(self) -> str | None:
        """Return the text, or None if nothing has been written yet."""

    def create(self, text: str) -> None:
        """Write the text, unless a text exists already."""

    def replace(self, text: str) -> None:
        """Replace the text, completely or not at all."""


class KeyFile:
    """A file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        # O_NOFOLLOW: a link could lead to a file that other users can write. O_NONBLOCK: a pipe would wait forever.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(self._path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            link = self._path.is_symlink()
            reason = "is a symbolic link, which is not followed" if link else f"cannot be read: {error.strerror}"
            raise SecretError(f"{self} {reason}", "put the file itself there") from None
        try:
            # Of the open file, so that it cannot be exchanged between the check and the reading.
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise SecretError(f"{self} is not an ordinary file", "remove it, or restore the file")
            if os.name == "posix" and status.st_mode & 0o077:
                raise SecretError(
                    f"{self} can be read or written by others",
                    f"chmod 600 {shlex.quote(str(self._path))}; if others have read it: lumigator-nb secrets rotate",
                )
            return os.read(handle, _LARGEST_FILE).decode("utf-8", "replace")
        finally:
            os.close(handle)

    def create(self, text: str) -> None:
        self._write(text, over=False)

    def replace(self, text: str) -> None:
        self._write(text, over=True)

    def _write(self, text: str, *, over: bool) -> None:
        # The caller holds the lock, so a draft that exists here was left by a killed process. It may hold keys.
        for draft in self._path.parent.glob(f"{self._path.name}.*.part"):
            draft.unlink()
        with whole_file(self._path, 0o600, over=over) as file:
            file.write(text.encode())

    def __str__(self) -> str:
        return f"the key file {self._path}"


class OsKeyring:
    """An entry of the operating system's keyring."""

    _SERVICE = "lumigator_nb"

    def __init__(self, account: str) -> None:
        self._account = account

    def read(self) -> str | None:
        with _keyring_errors() as backend:
            return backend.get_password(self._SERVICE, self._account)

    def create(self, text: str) -> None:
        if self.read() is None:
            self.replace(text)

    def replace(self, text: str) -> None:
        with _keyring_errors() as backend:
            backend.set_password(self._SERVICE, self._account, text)

    def __str__(self) -> str:
        return f"the keyring's entry {self._account!r}"


class _Backend(Protocol):
    def get_password(self, service: str, username: str) -> str | None: ...

    def set_password(self, service: str, username: str, password: str) -> None: ...


@contextmanager
def _keyring_errors() -> Iterator[_Backend]:
    """Yield the keyring, and turn its errors into SecretError."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        raise MissingExtraError(f"{TEXT_VARIABLE}={KEYRING}", "keyring") from None
    backend = keyring.get_keyring()
    # Backends below priority 1 fail, do nothing, or write a plain text file.
    if backend.priority < 1:
        raise ConfigurationError(
            f"{TEXT_VARIABLE}={KEYRING} needs a keyring, and the operating system offers none",
            f"unlock or install one, or unset {TEXT_VARIABLE} to use a key file",
        )
    try:
        yield backend
    except KeyringError as error:
        raise SecretError(
            f"the operating system's keyring refuses: {type(error).__name__}", "unlock it, and try again"
        ) from None
