"""API tokens: what lets programs into the REST API."""

from __future__ import annotations

import builtins
import hashlib
import secrets
from datetime import datetime, timedelta

from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Token
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.security.redaction import refuse_secrets
from lumigator_nb.services.access.secrets import redactor_of
from lumigator_nb.services.names import checked_name
from lumigator_nb.specs import Scope, now

# Tells people, and programs that look for secrets in repositories, what it is.
PREFIX = "lmgt_"
_RANDOM_BYTES = 32


class Tokens:
    """The API tokens of a workspace. Only their digests are kept."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def create(self, name: str, *, scope: Scope | str = Scope.READ, days: float | None = 90) -> str:
        """Make a token, and return it; it cannot be shown again.

        Args:
            name: what it is for.
            scope: "read", "write" (also creates and deletes) or "admin" (also secrets).
            days: how long it is valid; None is for ever.

        Raises:
            ConflictError: the name is taken.
            InvalidInputError: there is no such scope, it would never be valid, or the name holds a secret.

        Examples:
            >>> token = ws.tokens.create("nightly", scope="write", days=30)
            >>> len(token) > 20
            True
        """
        refuse_secrets([("name of a token", name)], redactor_of(self._settings))
        chosen = _checked_scope(scope)
        if days is not None and not days > 0:
            raise InvalidInputError(f"days must be more than 0, got {days:g}")
        text, begin = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES), now()
        row = Token(name=checked_name(name), digest=_digest(text), scope=chosen, created_at=begin)
        row.expires_at = _later(begin, days)
        with writing(self._database) as work:
            work.tokens.add(row)
        return text

    def list(self) -> builtins.list[Token]:
        """Return all tokens, newest first; not the texts, which nobody has but who was given them.

        Examples:
            >>> _ = ws.tokens.create("nightly")
            >>> [(token.name, token.scope.value) for token in ws.tokens.list()]
            [('nightly', 'read')]
        """
        with reading(self._database) as work:
            return work.tokens.list(limit=10_000)

    def revoke(self, name: str) -> None:
        """Let a token in no longer, from now on.

        Args:
            name: name or id.

        Raises:
            NotFoundError: there is none.

        Examples:
            >>> _ = ws.tokens.create("nightly")
            >>> ws.tokens.revoke("nightly")
            >>> ws.tokens.list()
            []
        """
        with writing(self._database) as work:
            work.tokens.delete(work.tokens.get(name))

    def find(self, text: str) -> Token | None:
        """Return the token of that text, also when it has expired; None where there is none."""
        with reading(self._database) as work:
            return work.tokens.with_digest(_digest(text))


def is_expired(token: Token) -> bool:
    """Say whether a token's time is over."""
    return token.expires_at is not None and token.expires_at <= now()


def _later(begin: datetime, days: float | None) -> datetime | None:
    try:
        return None if days is None else begin + timedelta(days=days)
    except OverflowError:
        raise InvalidInputError(f"{days:g} days are too many", "days=None is for ever") from None


def _checked_scope(scope: Scope | str) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise InvalidInputError(f"there is no scope {scope!r}", f"known: {', '.join(Scope)}") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
