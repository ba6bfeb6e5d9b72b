"""Where sealing keys lie: a file of the home, or the operating system's keyring."""

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
_LARGEST_FILE = 1 << 20


class Keeper(Protocol):
    """Keeps one text; its string says where. All raise SecretError where that fails, but writing a file OSError."""

    def read(self) -> str | None:
        """Return the text; None where there is none yet."""

    def create(self, text: str) -> None:
        """Write the text, unless there is one."""

    def replace(self, text: str) -> None:
        """Write the text in place of what is there, all of it or nothing."""


class KeyFile:
    """A file that nobody but its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        # A link could lead to a file that others write; a pipe would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            opened = os.open(self._path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            link = self._path.is_symlink()
            why = "is a symbolic link, which is not followed" if link else f"cannot be read: {error.strerror}"
            raise SecretError(f"{self} {why}", "put the file itself there") from None
        try:
            self._check(os.fstat(opened))
            return os.read(opened, _LARGEST_FILE).decode("utf-8", "replace")
        finally:
            os.close(opened)

    def create(self, text: str) -> None:
        self._write(text, over=False)

    def replace(self, text: str) -> None:
        self._write(text, over=True)

    def _write(self, text: str, *, over: bool) -> None:
        # The caller holds the lock, so that a draft which is there was left by a killed process.
        for left in self._path.parent.glob(f"{self._path.name}.*.part"):
            left.unlink()
        with whole_file(self._path, 0o600, over=over) as file:
            file.write(text.encode())

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise SecretError(f"{self} is no ordinary file", "remove it, or restore the file")
        if os.name == "posix" and found.st_mode & 0o077:
            raise SecretError(
                f"{self} can be read or written by others",
                f"chmod 600 {shlex.quote(str(self._path))}; and if others were there: lumigator-nb secrets rotate",
            )

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
    try:
        import keyring
        from keyring.errors import KeyringError
    except ModuleNotFoundError:
        raise MissingExtraError(f"{TEXT_VARIABLE}={KEYRING}", "keyring") from None
    backend = keyring.get_keyring()
    # Below 1 are those that fail, do nothing, or write a plain file.
    if backend.priority < 1:
        raise ConfigurationError(
            f"{TEXT_VARIABLE}={KEYRING} needs a keyring, and the operating system offers none",
            f"unlock or install one, or unset {TEXT_VARIABLE}: then a key file is made",
        )
    try:
        yield backend
    except KeyringError as error:
        raise SecretError(
            f"the operating system's keyring refuses: {type(error).__name__}", "unlock it, and try again"
        ) from None
