"""Addresses that let whoever has them load one file for a while, where the store cannot sign its own."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import cast
from urllib.parse import quote, urlencode

from itsdangerous import BadData, URLSafeSerializer

from lumigator_nb.rest.errors import RefusedError

# Seconds for which an address is valid at least.
VALID_FOR_S = 3600


class Links:
    """Signs and reads addresses.

    Args:
        key: who has it can sign.
    """

    def __init__(self, key: bytes) -> None:
        self._serializer = URLSafeSerializer(key, salt="lumigator-files-2")

    def path(self, kind: str, key: str, folder: str, filename: str) -> str:
        """Return the path below `/api/v1` of a file, and its query.

        Programs compare what they are shown, so that it is the same until the hour is over: an address is valid for
        one to two hours.

        Args:
            kind: which of the files that belong to `key`.
            folder: what it belongs to, for people.
            filename: as it is to be called where it is saved.
        """
        expires = -(-(time.time() + VALID_FOR_S) // 3600) * 3600
        signature = urlencode({"signature": self._serializer.dumps([kind, key, int(expires)])})
        return f"files/{quote(folder, safe='')}/{quote(filename, safe='')}?{signature}"

    def read(self, signature: str) -> tuple[str, str]:
        """Return kind and key of a signature.

        Raises:
            RefusedError: it was not made here, or its time is over.
        """
        try:
            kind, key, expires = cast(tuple[str, str, int], self._serializer.loads(signature))
        except (BadData, ValueError):
            raise RefusedError(HTTPStatus.NOT_FOUND, "no file has this address", "ask for the address again") from None
        if time.time() > expires:
            raise RefusedError(HTTPStatus.GONE, "this address was valid for one to two hours", "ask for a new one")
        return kind, key
