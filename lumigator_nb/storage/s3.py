"""S3 with patience: one layer of retries, bounded in time, and errors that say what to do.

botocore and s3fs retry too, each in its own way and multiplied by each other, with no bound in seconds. Both are told
to try once; this layer sees every request and its whole answer, so that a body that breaks off is asked for again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem  # type: ignore[import-untyped]

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage.explain import NoS3Error, code_of, response_of, s3_error

# Seconds from the first try until no other one begins; a server that never answered has more likely a wrong address.
PATIENCE_S, FIRST_CONTACT_S = 30.0, 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
# One part of an upload, and of a file that is read piece by piece; held in memory meanwhile. S3 allows 10,000 parts.
PART_BYTES = 16 * 2**20

_PASSING_STATUSES = {408, 429, 500, 502, 503, 504}
_PASSING_CODES = {
    *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException"),
    *("RequestLimitExceeded", "BandwidthLimitExceeded", "IncompleteBody", "BadDigest", "OperationAborted"),
}
_PASSING_ERRORS = {
    *("HTTPClientError", "ConnectionClosedError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"),
    *("ProxyConnectionError", "ResponseStreamingError", "IncompleteReadError", "FlexibleChecksumError"),
    *("ClientPayloadError", "ServerDisconnectedError", "IncompleteRead", "AioReadTimeoutError"),
}
# What every answer of S3 holds, and that of a web server that happens to be there need not.
_PROOFS = {
    **dict.fromkeys(("get_object", "head_object", "put_object", "upload_part", "complete_multipart_upload"), "ETag"),
    "create_multipart_upload": "UploadId",
    "list_objects_v2": "Name",
    "list_multipart_uploads": "Bucket",
}


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """s3fs, with retries and errors of this package.

    Args:
        patience: seconds to try for, also at the first contact; None is :data:`PATIENCE_S`, less at the first contact.
    """

    # Of s3fs itself.
    retries = 1

    def __init__(self, *, patience: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._given_patience = patience
        self._has_answered = False

    async def _call_s3(self, method: str, *arguments: Any, **named: Any) -> Any:
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                answer = await self._try(method, *arguments, **named)
                self._has_answered = True
                return answer
            except Exception as error:
                self._has_answered |= response_of(error) is not None
                failure = error
            if tries > 1 and method == "complete_multipart_upload" and code_of(failure) == "NoSuchUpload":
                # The answer to an earlier try was lost, and it was a good one.
                return await self._try("head_object", Bucket=named["Bucket"], Key=named["Key"])
            pause = min(FIRST_PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)  # noqa: S311
            if not _passes(failure) or time.monotonic() + pause > began + self._patience(method):
                raise await self._explained(failure, method, named, tries, time.monotonic() - began) from failure
            await asyncio.sleep(pause)

    # The synchronous form that s3fs has is bound to its own method.
    call_s3 = sync_wrapper(_call_s3)

    async def _try(self, method: str, *arguments: Any, **named: Any) -> Any:
        answer = await super()._call_s3(method, *arguments, **named)
        if method in _PROOFS and _PROOFS[method] not in answer:
            raise NoS3Error
        if method == "get_object":
            answer["Body"] = await _Body.of(answer["Body"])
        if answer.get("Errors"):
            # Of those that could not be deleted; s3fs passes over them.
            raise _refusal(answer["Errors"][0], method)
        return answer

    def _patience(self, method: str) -> float:
        # An abort follows a failure that has been waited for already; what it leaves is found by `unfinished_uploads`.
        if method == "abort_multipart_upload":
            return FIRST_CONTACT_S
        return self._given_patience or (PATIENCE_S if self._has_answered else FIRST_CONTACT_S)

    async def _explained(
        self, error: Exception, method: str, named: Mapping[str, Any], tries: int, seconds: float
    ) -> Exception:
        bucket, key = named.get("Bucket"), named.get("Key") or named.get("Prefix", "")
        code = code_of(error)
        if code in ("NoSuchKey", "NoSuchVersion", "NoSuchUpload") or (code == "404" and method == "head_object"):
            return FileNotFoundError(f"s3://{bucket}/{key}")
        if method == "head_object" and code.isdigit():
            error = await self._reason_of_bare(error, bucket)
        tried = f" (tried {tries} times in {seconds:.0f} s)" if tries > 1 else ""
        secrets = [text for text in (self.key, self.secret, self.token) if text]
        place = f"s3://{bucket}/{key}".rstrip("/")
        return s3_error(error, method, place, endpoint=self.endpoint_url, tried=tried, secrets=secrets)

    async def _reason_of_bare(self, error: Exception, bucket: object) -> Exception:
        """The answer to HEAD has no body and so no reason; another request is told it."""
        try:
            await super()._call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        except Exception as told:
            return told if code_of(told) else error
        return error


class _Body:
    """A body that is here already, as s3fs reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @classmethod
    async def of(cls, body: Any) -> _Body:
        try:
            return cls(await body.read())
        finally:
            body.close()

    async def read(self) -> bytes:
        return self._data

    def close(self) -> None:
        pass


def open_s3(spec: StoreSpec, credentials: Mapping[str, Any], patience: float | None = None) -> PatientS3:
    """Return the file system; nothing is asked of the server yet.

    Args:
        credentials: `key`, `secret`, `token` and `client_kwargs` as s3fs takes them; empty leaves it to the AWS chain.
        patience: as of :class:`PatientS3`.

    Raises:
        ConfigurationError: the endpoint is no address, or holds credentials.
    """
    _check_endpoint(spec.endpoint_url)
    config = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        # Presigned URLs would be signed by version 2, which many servers do not know.
        "signature_version": "s3v4",
    }
    if spec.path_style is not None:
        config["s3"] = {"addressing_style": "path" if spec.path_style else "virtual"}
    return PatientS3(
        **credentials,
        patience=patience,
        endpoint_url=spec.endpoint_url,
        config_kwargs=config,
        default_block_size=PART_BYTES,
        # Other processes write to the bucket, so what was listed once may be wrong by now.
        use_listings_cache=False,
        # Larger means a HEAD before each GET.
        max_concurrency=1,
    )


def unfinished_uploads(fs: PatientS3, root: str) -> Iterator[tuple[str, datetime, str]]:
    """Yield path, beginning and id of each multipart upload below `root` that was neither completed nor aborted."""
    bucket, _, folder = root.partition("/")
    marks: dict[str, str] = {}
    while True:
        prefix = {"Prefix": f"{folder}/"} if folder else {}
        page = fs.call_s3("list_multipart_uploads", Bucket=bucket, **prefix, **marks)
        for upload in page.get("Uploads", []):
            yield f"{bucket}/{upload['Key']}", upload["Initiated"], upload["UploadId"]
        if not page.get("IsTruncated"):
            return
        marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _check_endpoint(url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"S3_ENDPOINT_URL is no address: {url!r}", "use http://HOST:PORT or https://HOST")
    if parts.username or parts.password:
        raise ConfigurationError(
            "S3_ENDPOINT_URL holds a name or password", "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
        )


def _passes(error: Exception) -> bool:
    response = response_of(error)
    if response is not None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in _PASSING_STATUSES or code_of(error) in _PASSING_CODES
    return type(error).__name__ in _PASSING_ERRORS or isinstance(error, (TimeoutError, ConnectionError))


def _refusal(error: Mapping[str, Any], method: str) -> Exception:
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    refusal: Exception = ClientError({"Error": dict(error), "ResponseMetadata": {"HTTPStatusCode": 200}}, method)
    return refusal
