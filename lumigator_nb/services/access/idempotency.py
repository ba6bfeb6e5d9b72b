"""Stored replies to requests with an idempotency key.

This follows the IETF draft "The Idempotency-Key HTTP Header Field": a repeated request gets the first reply again; the
same key with a different request is refused; and a repetition is refused while the first request is still running.
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
# The process that took the key and has not replied by then was killed.
ABANDONED_AFTER = timedelta(minutes=2)


class UnderWayError(LumigatorError):
    """The first request with this key has no reply yet."""

    def __init__(self) -> None:
        super().__init__("a request with this idempotency key is under way", "wait for its answer, then send it again")


class UsedKeyError(LumigatorError):
    """The key was used for a different request."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request", "a new request needs a new key")


class Replies:
    """The stored replies of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, key: str, fingerprint: str) -> Reply | None:
        """Reserve a key for a request; return the reply that it got before, or None if it is to be processed now.

        Raises:
            UnderWayError: the request is being processed.
            UsedKeyError: the key was used for a different request.
        """
        with writing(self._database) as work:
            reply = work.replies.find(key)
            if reply is None:
                try:
                    work.replies.add(Reply(key=key, fingerprint=fingerprint))
                except ConflictError:  # another process reserved it since the look-up
                    raise UnderWayError from None
                return None
            if reply.fingerprint != fingerprint:
                raise UsedKeyError
            if reply.status is not None:
                return reply
            if now() - reply.created_at < ABANDONED_AFTER:
                raise UnderWayError
            reply.created_at = now()
            return None

    def end(self, key: str, status: int, headers: Mapping[str, str], body: str) -> None:
        """Store the reply."""
        with writing(self._database) as work:
            reply = work.replies.find(key)
            if reply is not None:
                reply.status, reply.headers, reply.body = status, dict(headers), body

    def drop(self, key: str) -> None:
        """Release a key, so that the request can be sent again."""
        with writing(self._database) as work:
            reply = work.replies.find(key)
            if reply is not None:
                work.replies.delete(reply)

    def tidy(self) -> None:
        """Remove replies that are older than `KEPT_FOR`."""
        with writing(self._database) as work:
            work.replies.forget(now() - KEPT_FOR)
