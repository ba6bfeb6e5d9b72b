"""S3 with a single layer of retries, limited in time, and errors that say what to do.

botocore and s3fs retry by count, not by time, and their counts multiply. Both are configured to try once. This layer
sees every request with its complete response, so a response that breaks off is requested again.
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

# How long after the first try another one may begin. If a server has never answered, its address is probably wrong, and
# a user at the keyboard should learn that soon.
PATIENCE_S, FIRST_CONTACT_S = 30.0, 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
# botocore's default is 60 seconds for each, longer than all retries may take.
CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
# Size of a part of an upload, and of a read. One part is in memory at a time. S3 allows 10,000 parts per upload, so a
# file can have 156 GiB.
PART_BYTES = 16 * 2**20

# Transient failures: HTTP statuses and S3 error codes in a response, and classes of errors that have no response. The
# classes are compared by name, as botocore, aiobotocore, aiohttp and urllib3 each have their own.
_TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {
    *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException"),
    *("RequestLimitExceeded", "BandwidthLimitExceeded", "IncompleteBody", "BadDigest", "OperationAborted"),
}
_TRANSIENT_ERRORS = {
    *("HTTPClientError", "ConnectionClosedError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"),
    *("ProxyConnectionError", "ResponseStreamingError", "IncompleteReadError", "FlexibleChecksumError"),
    *("ClientPayloadError", "ServerDisconnectedError", "IncompleteRead", "AioReadTimeoutError"),
}
# A field that S3 always sends. A web server at a wrong address may answer 200, too, but without the field.
_PROOFS = {
    **dict.fromkeys(("get_object", "head_object", "put_object", "upload_part", "complete_multipart_upload"), "ETag"),
    "create_multipart_upload": "UploadId",
    "list_objects_v2": "Name",
    "list_multipart_uploads": "Bucket",
}


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """s3fs with this package's retries and errors.

    Args:
        patience: how long to retry, in seconds. None: :data:`PATIENCE_S`, or :data:`FIRST_CONTACT_S` while the server
            has never answered.
    """

    # The number of tries of s3fs itself.
    retries = 1

    def __init__(self, *, patience: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._patience = patience
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
                # An earlier try completed the upload, but its response was lost.
                return await self._try("head_object", Bucket=named["Bucket"], Key=named["Key"])
            if method == "abort_multipart_upload":
                # It follows a failure that was already retried; `unfinished_uploads` finds what it leaves behind.
                patience = FIRST_CONTACT_S
            else:
                patience = self._patience or (PATIENCE_S if self._has_answered else FIRST_CONTACT_S)
            # Random, so that workers whose requests failed together do not all return at the same moment.
            pause = min(FIRST_PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)  # noqa: S311
            if not _is_transient(failure) or time.monotonic() + pause > began + patience:
                raise await self._explained(failure, method, named, tries, time.monotonic() - began) from failure
            await asyncio.sleep(pause)

    # s3fs bound its synchronous `call_s3` to its own `_call_s3` when the class was made.
    call_s3 = sync_wrapper(_call_s3)

    async def _try(self, method: str, *arguments: Any, **named: Any) -> Any:
        answer = await super()._call_s3(method, *arguments, **named)
        # Without this check, a wrong address would look like a bucket that is empty.
        if method in _PROOFS and _PROOFS[method] not in answer:
            raise NoS3Error
        if method == "get_object":
            # Read the body here, inside the retries; s3fs would read it after them.
            answer["Body"] = await _Body.of(answer["Body"])
        if answer.get("Errors"):
            from botocore.exceptions import ClientError  # type: ignore[import-untyped]

            # delete_objects answers 200 and lists the objects that it could not delete; s3fs ignores the list.
            response = {"Error": dict(answer["Errors"][0]), "ResponseMetadata": {"HTTPStatusCode": 200}}
            raise ClientError(response, method)
        return answer

    async def _explained(
        self, error: Exception, method: str, named: Mapping[str, Any], tries: int, seconds: float
    ) -> Exception:
        bucket, key = named.get("Bucket"), named.get("Key") or named.get("Prefix", "")
        code = code_of(error)
        if code in ("NoSuchKey", "NoSuchVersion", "NoSuchUpload") or (code == "404" and method == "head_object"):
            return FileNotFoundError(f"s3://{bucket}/{key}")
        if method == "head_object" and code.isdigit():
            # A response to HEAD has no body, so it gives a status but no reason; a listing gives the reason.
            try:
                await super()._call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
            except Exception as listing_error:
                error = listing_error if code_of(listing_error) else error
        tried = f" (tried {tries} times in {seconds:.0f} s)" if tries > 1 else ""
        secrets = [text for text in (self.key, self.secret, self.token) if text]
        place = f"s3://{bucket}/{key}".rstrip("/")
        return s3_error(error, method, place, endpoint=self.endpoint_url, tried=tried, secrets=secrets)


class _Body:
    """A response body that is already in memory, with the methods that s3fs calls."""

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
    """Return the file system, without a request to the server.

    Args:
        credentials: `key`, `secret`, `token` and `client_kwargs`, as s3fs takes them. If empty, the AWS chain is used.
        patience: as in :class:`PatientS3`.

    Raises:
        ConfigurationError: the endpoint is not a URL, or contains credentials.
    """
    if spec.endpoint_url is not None:
        endpoint = urlsplit(spec.endpoint_url)
        if endpoint.scheme not in ("http", "https") or not endpoint.hostname:
            raise ConfigurationError(
                f"S3_ENDPOINT_URL is not a URL: {spec.endpoint_url!r}", "use http://HOST:PORT or https://HOST"
            )
        if endpoint.username or endpoint.password:
            raise ConfigurationError(
                "S3_ENDPOINT_URL contains a name or password", "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            )
    config = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        # By default, presigned URLs are signed with version 2, which many servers no longer accept.
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
        # Other processes write to the bucket, so an earlier listing may be out of date.
        use_listings_cache=False,
        # With a larger value, s3fs sends a HEAD before each GET.
        max_concurrency=1,
    )


def unfinished_uploads(fs: PatientS3, root: str) -> Iterator[tuple[str, datetime, str]]:
    """Yield path, start and id of each multipart upload below `root` that was neither completed nor aborted."""
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


def _is_transient(error: Exception) -> bool:
    response = response_of(error)
    if response is not None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in _TRANSIENT_STATUSES or code_of(error) in _TRANSIENT_CODES
    return type(error).__name__ in _TRANSIENT_ERRORS or isinstance(error, (TimeoutError, ConnectionError))
