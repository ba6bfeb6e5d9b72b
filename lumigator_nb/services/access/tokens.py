"""API tokens, by which programs get access to the REST API."""

from __future__ import annotations

import builtins
import hashlib
import secrets
from datetime import timedelta

from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Token
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import Scope, now

# People, and scanners that search repositories for secrets, recognize a token by it.
PREFIX = "lmgt_"
_RANDOM_BYTES = 32


class Tokens:
    """The API tokens of a workspace. Only their digests are stored."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def create(self, name: str, *, scope: Scope | str = Scope.READ, days: float | None = 90) -> str:
        """Create a token, and return its string, which cannot be shown again.

        Args:
            name: says what the token is for.
            scope: "read", "write" (also creates and deletes) or "admin" (also secrets).
            days: how long it is valid; None means for ever.

        Raises:
            ConflictError: the name is taken.
            InvalidInputError: the scope does not exist, `days` is out of range, or the name holds a secret.

        Examples:
            >>> token = ws.tokens.create("nightly", scope="write", days=30)
            >>> len(token) > 20
            True
        """
        refuse_secrets([("name of a token", name)], redactor_of(self._settings))
        if scope not in list(Scope):
            raise InvalidInputError(f"there is no scope {scope!r}", f"known: {', '.join(Scope)}")
        if days is not None and not days > 0:
            raise InvalidInputError(f"days must be more than 0, got {days:g}")
        begin = now()
        try:
            end = None if days is None else begin + timedelta(days=days)
        except OverflowError:  # beyond the year 9999
            raise InvalidInputError(f"{days:g} days are too many", "days=None means for ever") from None
        text = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        row = Token(name=checked_name(name), digest=_digest(text), scope=Scope(scope), created_at=begin, expires_at=end)
        with writing(self._database) as work:
            work.tokens.add(row)
        return text

    def list(self) -> builtins.list[Token]:
        """Return all tokens, newest first. Token strings are never stored.

        Examples:
            >>> _ = ws.tokens.create("nightly")
            >>> [(token.name, token.scope.value) for token in ws.tokens.list()]
            [('nightly', 'read')]
        """
        with reading(self._database) as work:
            return work.tokens.list(limit=10_000)

    def revoke(self, name: str) -> None:
        """Revoke a token; it gives no access from now on.

        Args:
            name: name or id.

        Raises:
            NotFoundError: there is no such token.

        Examples:
            >>> _ = ws.tokens.create("nightly")
            >>> ws.tokens.revoke("nightly")
            >>> ws.tokens.list()
            []
        """
        with writing(self._database) as work:
            work.tokens.delete(work.tokens.get(name))

    def find(self, text: str) -> Token | None:
        """Return the token with this string, even if it has expired; None if there is none."""
        with reading(self._database) as work:
            return work.tokens.with_digest(_digest(text))


def is_expired(token: Token) -> bool:
    """Return whether a token has expired."""
    return token.expires_at is not None and token.expires_at <= now()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
