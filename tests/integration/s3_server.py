"""An S3 server of our own over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
from waiting import until

KEY, SECRET = "someone", "hunter2-is-the-secret"


@contextmanager
def s3_server(port: int) -> Iterator[str]:
    """Run the server and yield its address."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: _answers(port), "the S3 server answers")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def plain_client(address: str) -> fsspec.AbstractFileSystem:
    """Look into a bucket without the code that is tested."""
    return fsspec.filesystem("s3", key=KEY, secret=SECRET, endpoint_url=address, use_listings_cache=False)


def left(address: str, bucket: str) -> list[str]:
    """All objects and unfinished multipart uploads of a bucket."""
    files = plain_client(address)
    uploads = [f"unfinished {upload['Key']}" for upload in files.list_multipart_uploads(bucket)]
    return [*files.find(bucket), *uploads]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
