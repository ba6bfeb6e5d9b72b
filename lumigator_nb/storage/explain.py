"""Explanations of a store's errors: what is wrong, which setting to check, and what to do.

No message repeats what a server says about credentials, and keys are removed from other servers' texts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lumigator_nb.errors import StoreUnavailableError

ENDPOINT_HINT = "check S3_ENDPOINT_URL (empty means AWS), and that the server is up and can be reached from here"
KEYS_HINT = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
GENERAL_HINT = "check S3_BUCKET, S3_ENDPOINT_URL and the AWS_* variables, or the folder's permissions and free space"
FOLDER_HINT = "check LUMIGATOR_HOME or LUMIGATOR_STORE"

# For each request: what it does, and the permission that it needs.
_PERMISSIONS = {
    "get_object": ("read", "s3:GetObject"),
    "head_object": ("read", "s3:GetObject"),
    "put_object": ("write", "s3:PutObject"),
    "create_multipart_upload": ("write", "s3:PutObject"),
    "upload_part": ("write", "s3:PutObject"),
    "complete_multipart_upload": ("write", "s3:PutObject"),
    "list_objects_v2": ("list", "s3:ListBucket"),
    "delete_objects": ("delete", "s3:DeleteObject"),
    "list_multipart_uploads": ("list unfinished uploads", "s3:ListBucketMultipartUploads"),
    "abort_multipart_upload": ("abort unfinished uploads", "s3:AbortMultipartUpload"),
}
# With bare statuses, since responses to HEAD have no body, and so no code. The same holds for the tuples below.
_DENIED = ("AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "401")
_OTHER_REGION = (
    "PermanentRedirect",
    "301",
    "307",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
)
# Error code → what is wrong, and what to do.
_REASONS = {
    "InvalidAccessKeyId": ("the server does not know this access key", KEYS_HINT),
    "SignatureDoesNotMatch": ("the secret key does not match this access key", KEYS_HINT),
    "InvalidToken": ("the server refuses the session token", f"check AWS_SESSION_TOKEN; {KEYS_HINT}"),
    "ExpiredToken": ("the session has expired", "sign in again, and set AWS_SESSION_TOKEN to the new token"),
    "RequestTimeTooSkewed": (
        "the clocks of this machine and of the server differ by more than 15 minutes",
        "set this machine's clock, for example with NTP: timedatectl set-ntp true",
    ),
    "KeyTooLongError": ("the name is longer than the server allows", "use a shorter name"),
    "PreconditionFailed": ("the object was replaced while it was read", "read it again"),
    "InvalidBucketName": ("that is not a bucket name", "check S3_BUCKET: lower-case letters, digits, '-' and '.'"),
}
_FULL = ("QuotaExceeded", "StorageFull", "XMinioStorageFull", "507")
# A status in place of a code: the response's body was not an S3 error, so the server probably does not speak S3.
_NO_S3 = ("400", "404", "405", "410", "411", "501")
_BUSY = ("SlowDown", "ServiceUnavailable", "500", "502", "503", "504", "InternalError", "RequestTimeout")

_FOLDER_REASONS = {
    errno.ENOSPC: ("the disk is full", f"free some space, or move the store elsewhere: {FOLDER_HINT}"),
    errno.EDQUOT: ("the quota of the disk is used up", f"free some space, or move the store elsewhere: {FOLDER_HINT}"),
    errno.EFBIG: ("the file grew larger than allowed", "check `ulimit -f` and the file system's limits"),
    errno.EROFS: ("the file system is read-only", FOLDER_HINT),
    errno.EACCES: ("permission is denied", f"check the folder's owner and permissions; {FOLDER_HINT}"),
    errno.EPERM: ("permission is denied", f"check the folder's owner and permissions; {FOLDER_HINT}"),
    errno.ENAMETOOLONG: ("the name is longer than the file system allows", "use a shorter name or a shorter folder"),
    errno.ENOTDIR: ("a file is where a folder must be", FOLDER_HINT),
    errno.EEXIST: ("a file is where a folder must be", FOLDER_HINT),
    errno.EISDIR: ("a folder is where a file must be", FOLDER_HINT),
    errno.EMFILE: ("this process has too many files open", "check `ulimit -n`"),
    errno.EIO: ("the disk reports an error", "check the disk, and restore the store from a backup"),
    errno.ESTALE: ("the network file system lost the file", "mount it again"),
}


class NoS3Error(Exception):
    """The server's response is not one of S3."""


def response_of(error: BaseException | None) -> dict[str, Any] | None:
    """Return the S3 server's response from an error of botocore or s3fs; None for other errors."""
    # s3fs translates botocore's errors to OSErrors, and chains the original as their cause.
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
        error = error.__cause__
    return None


def code_of(error: BaseException | None) -> str:
    """Return S3's error code, such as "NoSuchKey", or the HTTP status if the body had none; "" for other errors."""
    response = response_of(error)
    if response is None:
        return ""
    return str(response["Error"].get("Code") or response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))


def s3_error(
    error: Exception, method: str, place: str, *, endpoint: str | None, tried: str = "", secrets: Iterable[str] = ()
) -> StoreUnavailableError:
    """Explain a failed request.

    Args:
        error: an error of botocore, aiohttp or s3fs.
        method: botocore's name of the request, such as "put_object".
        place: URL of the object or bucket.
        endpoint: the server's address; None for AWS.
        tried: how often and how long the request was tried, for the message.
        secrets: texts to mask in the message.
    """
    reason, hint = _s3_reason(error, method, place, endpoint)
    for secret in secrets:
        reason = reason.replace(secret, "***")
    return StoreUnavailableError(f"cannot reach {place}: {reason}{tried}", hint)


def _s3_reason(error: Exception, method: str, place: str, endpoint: str | None) -> tuple[str, str]:
    response, code = response_of(error), code_of(error)
    if response is None:
        return _reason_without_response(error)
    bucket = place.split("/")[2]
    if code == "NoSuchBucket":
        server = f" --endpoint-url {endpoint}" if endpoint else ""
        return f"there is no bucket {bucket!r}", f"check S3_BUCKET, or make it: aws s3 mb s3://{bucket}{server}"
    if code in _OTHER_REGION:
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or response["Error"].get("Region")
        if region:
            return f"the bucket is in the region {region}", f"set AWS_DEFAULT_REGION={region}"
        hint = "set AWS_DEFAULT_REGION to the bucket's region, and check S3_ENDPOINT_URL"
        return "the bucket is in another region", hint
    if code in _DENIED:
        action, permission = _PERMISSIONS.get(method, (method, "s3:*"))
        return (
            f"permission to {action} is denied ({code})",
            f"ask the bucket's owner for {permission} (and s3:ListBucket, without which absent files count as denied),"
            f" or check S3_BUCKET and AWS_ACCESS_KEY_ID",
        )
    if code in _REASONS:
        reason, hint = _REASONS[code]
        return f"{reason} ({code})", hint
    if code in _FULL:
        return f"the server has no space left ({code})", "free some space on the server of S3_ENDPOINT_URL"
    if code in _NO_S3:
        return f"the server answers {code}, and not as S3 does", ENDPOINT_HINT
    message = str(response["Error"].get("Message", ""))[:200]
    hint = "the server is busy or failing: try again later" if code in _BUSY else GENERAL_HINT
    return f"the server answers {code}: {message}", hint


def _reason_without_response(error: Exception) -> tuple[str, str]:
    # By name, as in `s3.py`: the classes belong to packages that need not be installed.
    kind = type(error).__name__
    if isinstance(error, NoS3Error) or kind == "ResponseParserError":
        return "the server answers, and not as S3 does", ENDPOINT_HINT
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return f"no credentials were found: {error}", f"set them; {KEYS_HINT}"
    if kind == "ParamValidationError":
        return _REASONS["InvalidBucketName"] if "bucket" in str(error) else (str(error), GENERAL_HINT)
    if kind == "InvalidRegionError":
        return str(error), "check AWS_DEFAULT_REGION"
    if "SSL" in kind or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"the encrypted connection fails: {error}", f"check AWS_CA_BUNDLE; {ENDPOINT_HINT}"
    lost = any(word in kind for word in ("Connect", "Disconnect", "Timeout", "Payload", "Incomplete"))
    return f"{kind}: {error}", ENDPOINT_HINT if lost else GENERAL_HINT


def folder_error(error: OSError, place: str, path: str | Path) -> StoreUnavailableError:
    """Explain why a file of this machine cannot be read or written.

    Args:
        place: the file's URL or path, for the message.
        path: the file's path, to look up the free inodes of its disk.
    """
    reason, hint = _FOLDER_REASONS.get(error.errno or 0, (f"{type(error).__name__}: {error}", GENERAL_HINT))
    if error.errno == errno.ENOSPC and _has_no_inodes(Path(path)):
        reason, hint = "the disk has no inodes left: it has too many files", f"remove files; {FOLDER_HINT}"
    return StoreUnavailableError(f"cannot reach {place}: {reason}", hint)


def _has_no_inodes(path: Path) -> bool:
    if not hasattr(os, "statvfs"):
        return False
    nearest = next((folder for folder in path.parents if folder.exists()), None)
    if nearest is None:
        return False
    disk = os.statvfs(nearest)
    # File systems that create inodes on demand, such as btrfs, report none at all.
    return disk.f_files > 0 and disk.f_favail == 0 and disk.f_bavail > 0
