"""Signed URLs of files, valid for a while without a token, for stores that cannot sign URLs themselves."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import cast
from urllib.parse import quote, urlencode

from itsdangerous import BadData, URLSafeSerializer

from lumigator_nb.rest.errors import RefusedError

# Minimum validity of a URL, in seconds.
VALID_FOR_S = 3600


class Links:
    """Signs URLs and checks their signatures.

    Args:
        key: secret key of the signatures.
    """

    def __init__(self, key: bytes) -> None:
        # The salt names the format of the signed values. Change it together with the format, so that old URLs fail.
        self._serializer = URLSafeSerializer(key, salt="lumigator-files-2")

    def path(self, kind: str, key: str, folder: str, filename: str) -> str:
        """Return the path and query of a file's URL, below `/api/v1`.

        A URL is valid for one to two hours. It stays the same until the full hour, since programs compare the
        responses of repeated requests.

        Args:
            kind: kind of the file, such as "csv" or "job".
            key: id of the dataset, job or workflow.
            folder: readable name of the folder in the URL, without meaning.
            filename: suggested name for saving the file.
        """
        # Rounded up to the full hour.
        expires = -(-(time.time() + VALID_FOR_S) // 3600) * 3600
        signature = urlencode({"signature": self._serializer.dumps([kind, key, int(expires)])})
        return f"files/{quote(folder, safe='')}/{quote(filename, safe='')}?{signature}"

    def read(self, signature: str) -> tuple[str, str]:
        """Return kind and key of a signature.

        Raises:
            RefusedError: the signature is wrong or has expired.
        """
        try:
            kind, key, expires = cast(tuple[str, str, int], self._serializer.loads(signature))
        except (BadData, ValueError):
            raise RefusedError(HTTPStatus.NOT_FOUND, "no file has this address", "request a new address") from None
        if time.time() > expires:
            raise RefusedError(HTTPStatus.GONE, "this address was valid for one to two hours", "request a new one")
        return kind, key
