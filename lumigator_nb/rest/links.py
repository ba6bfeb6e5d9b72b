"""Addresses that let whoever has them load one file for a while, where the store cannot sign its own."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast
from urllib.parse import quote

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer

from lumigator_nb.rest.errors import RefusedError

VALID_FOR_S = 3600


class Links:
    """Signs and reads addresses.

    Args:
        key: who has it can sign.
    """

    def __init__(self, key: bytes) -> None:
        self._serializer = URLSafeTimedSerializer(key, salt="lumigator-files")

    def path(self, kind: str, key: str, filename: str) -> str:
        """Return the path below `/api/v1` of a file.

        Args:
            kind: which of the files that belong to `key`.
            filename: as it is to be called where it is saved.
        """
        return f"files/{self._serializer.dumps([kind, key])}/{quote(filename, safe='')}"

    def read(self, signed: str) -> tuple[str, str]:
        """Return kind and key of a path.

        Raises:
            RefusedError: it was not signed here, or its time is over.
        """
        try:
            kind, key = cast(tuple[str, str], self._serializer.loads(signed, max_age=VALID_FOR_S))
        except SignatureExpired:
            raise RefusedError(HTTPStatus.GONE, "this address was valid for an hour", "ask for a new one") from None
        except BadData:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no file has this address", "ask for the address again") from None
        return kind, key
