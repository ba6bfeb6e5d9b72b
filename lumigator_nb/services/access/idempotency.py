"""Answers that are kept for repetitions of a request with an idempotency key.

As the draft "The Idempotency-Key HTTP Header Field" of the IETF's HTTPAPI group has it: the same key with the same
request gets the first answer again, with another one it is refused, and while the first is under way it has to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Reply
from lumigator_nb.errors import ConflictError, LumigatorError
from lumigator_nb.specs import now

KEPT_FOR = timedelta(hours=24)
# Whoever has not answered by then has died.
ABANDONED_AFTER = timedelta(minutes=2)


class UnderWayError(LumigatorError):
    """The first request with that key has not been answered yet."""

    def __init__(self) -> None:
        super().__init__("a request with this idempotency key is under way", "wait for its answer, then send it again")


class UsedKeyError(LumigatorError):
    """The key was used for another request."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request", "a new request needs a key of its own")


class Replies:
    """The answers of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, key: str, fingerprint: str) -> Reply | None:
        """Take a key for a request; return the answer that it got before, or None where it is to be worked on.

        Raises:
            UnderWayError: it is being worked on.
            UsedKeyError: the key was used for another request.
        """
        with writing(self._database) as work:
            found = work.replies.find(key)
            if found is None:
                try:
                    work.replies.add(Reply(key=key, fingerprint=fingerprint))
                except ConflictError:
                    raise UnderWayError from None
                return None
            if found.fingerprint != fingerprint:
                raise UsedKeyError
            if found.status is not None:
                return found
            if now() - found.created_at < ABANDONED_AFTER:
                raise UnderWayError
            found.created_at = now()
            return None

    def end(self, key: str, status: int, headers: Mapping[str, str], body: str) -> None:
        """Keep the answer."""
        with writing(self._database) as work:
            found = work.replies.find(key)
            if found is not None:
                found.status, found.headers, found.body = status, dict(headers), body

    def drop(self, key: str) -> None:
        """Give a key back: the request can be tried again."""
        with writing(self._database) as work:
            found = work.replies.find(key)
            if found is not None:
                work.replies.delete(found)

    def tidy(self) -> None:
        """Remove answers that are too old to be asked for again."""
        with writing(self._database) as work:
            work.replies.forget(now() - KEPT_FOR)
