"""The store on a real S3 server behind a proxy that fails: what passes is waited for, what lasts is explained."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
import urllib.request
import uuid
from datetime import timedelta

import pytest
from faulty_proxy import Fault, FaultyProxy, s3_error
from s3_server import KEY, SECRET, left, plain_client, s3_server

from lumigator_nb.errors import InvalidInputError, NotFoundError, StoreUnavailableError
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage import s3
from lumigator_nb.storage.store import Store

pytestmark = pytest.mark.integration

CREDENTIALS = {"key": KEY, "secret": SECRET, "client_kwargs": {"region_name": "us-east-1"}}
HTML = {"Content-Type": "text/html"}
MIB = 2**20


@pytest.fixture(scope="module")
def server():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with s3_server(port) as address:
        yield address


@pytest.fixture(scope="module")
def proxy(server):
    with FaultyProxy(int(server.rpartition(":")[2])) as made:
        yield made


@pytest.fixture
def bucket(server, proxy):
    """An empty bucket, and a proxy without faults that has seen nothing."""
    name = f"lumi-{uuid.uuid4().hex[:8]}"
    plain_client(server).mkdir(name)
    proxy.faults, proxy.requests = [], []
    yield name
    proxy.faults = []


@pytest.fixture
def store(bucket, proxy, monkeypatch):
    monkeypatch.setattr(s3, "PATIENCE_S", 2.0)
    monkeypatch.setattr(s3, "FIRST_PAUSE_S", 0.04)
    monkeypatch.setattr(s3, "FIRST_CONTACT_S", 1.0)
    monkeypatch.setattr(s3, "PART_BYTES", 5 * MIB)
    return Store(StoreSpec(uri=f"s3://{bucket}", endpoint_url=proxy.url), CREDENTIALS)


def write(store: Store) -> None:
    store.write("x", b"new")


def write_in_parts(store: Store) -> None:
    with store.writing("x") as file:
        for _ in range(12):
            file.write(bytes(MIB))


def read(store: Store) -> None:
    store.read("kept")


def open_and_read(store: Store) -> None:
    with store.reading("kept") as file:
        file.read()


def enumerate_all(store: Store) -> None:
    store.list("")


def remove(store: Store) -> None:
    store.delete("kept")


ALL = [write, write_in_parts, read, open_and_read, enumerate_all, remove]


@pytest.mark.parametrize("action", ALL)
@pytest.mark.parametrize(
    ("fault", "said", "setting"),
    [
        (
            s3_error(403, "InvalidAccessKeyId", "unknown", extra=f"<AWSAccessKeyId>{KEY}</AWSAccessKeyId>"),
            "does not know this access key",
            "AWS_ACCESS_KEY_ID",
        ),
        (
            s3_error(403, "SignatureDoesNotMatch", f"{KEY} {SECRET}", extra=f"<StringToSign>{KEY}</StringToSign>"),
            "the secret key does not match",
            "AWS_SECRET_ACCESS_KEY",
        ),
        (s3_error(403, "RequestTimeTooSkewed", "too large"), "the clocks of this machine", "timedatectl"),
        (s3_error(403, "ExpiredToken", SECRET), "the session has expired", "AWS_SESSION_TOKEN"),
        (
            s3_error(400, "AuthorizationHeaderMalformed", "wrong", extra="<Region>eu-central-1</Region>"),
            "in the region eu-central-1",
            "AWS_DEFAULT_REGION=eu-central-1",
        ),
        (s3_error(404, "NoSuchBucket", "none"), "there is no bucket 'lumi-", "aws s3 mb s3://lumi-"),
        (Fault("answer", 200, b"<html>Hello</html>", HTML), "not as S3 does", "S3_ENDPOINT_URL"),
        (Fault("answer", 404, b"<html>Lost?</html>", HTML), "not as S3 does", "S3_ENDPOINT_URL"),
        (s3_error(507, "QuotaExceeded", "full"), "no space left", "free some space"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_what_lasts_is_explained_and_leaves_nothing(store, proxy, server, bucket, action, fault, said, setting) -> None:
    store.write("kept", b"old")
    proxy.faults = [fault]
    with pytest.raises(StoreUnavailableError) as caught:
        action(store)
    assert said in caught.value.message
    assert setting in caught.value.hint
    assert f"s3://{bucket}" in caught.value.message
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)
    proxy.faults = []
    assert left(server, bucket) == [f"{bucket}/kept"]
    assert store.read("kept") == b"old"


@pytest.mark.parametrize(
    ("action", "method", "permission", "word"),
    [
        (write, "PUT", "s3:PutObject", "write"),
        (write_in_parts, "PUT", "s3:PutObject", "write"),
        (read, "GET", "s3:GetObject", "read"),
        (open_and_read, "HEAD", "s3:GetObject", "read"),
        (enumerate_all, "GET", "s3:ListBucket", "list"),
        (remove, "POST", "s3:DeleteObject", "delete"),
    ],
)
def test_the_missing_permission_is_named(store, proxy, server, bucket, action, method, permission, word) -> None:
    store.write("kept", b"old")
    proxy.faults = [s3_error(403, "AccessDenied", "Access Denied", method=method)]
    with pytest.raises(StoreUnavailableError, match=f"permission to {word} is denied") as caught:
        action(store)
    assert permission in caught.value.hint
    assert left(server, bucket) == [f"{bucket}/kept"]


def test_a_deletion_that_is_refused_for_one_object_is_not_taken_for_done(store, proxy) -> None:
    store.write("kept", b"old")
    refused = "<Error><Key>kept</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    body = f'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{refused}</DeleteResult>'
    proxy.faults = [Fault("answer", 200, body.encode(), {"Content-Type": "application/xml"}, method="POST")]
    with pytest.raises(StoreUnavailableError, match="permission to delete is denied"):
        store.delete("kept")


PASSING = [
    Fault("reset", times=2),
    Fault("lost", times=1),
    Fault("slow", seconds=0.2, times=1),
    s3_error(500, "InternalError", "We encountered an internal error. Please try again.", times=2),
    s3_error(503, "SlowDown", "Please reduce your request rate.", times=2),
    Fault("answer", 502, b"<html>Bad Gateway</html>", HTML, times=1),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.kind}-{fault.status}")
@pytest.mark.parametrize("action", [write_in_parts, open_and_read, enumerate_all, remove])
def test_what_passes_is_waited_for(store, proxy, server, bucket, action, fault) -> None:
    store.write("kept", b"old")
    proxy.faults = [Fault(**vars(fault))]
    action(store)
    assert proxy.faults[0].times == 0
    wanted = {write: ["kept", "x"], write_in_parts: ["kept", "x"], remove: []}.get(action, ["kept"])
    found = left(server, bucket)
    if (action, fault.kind) == (write_in_parts, "lost"):
        # The answer that was lost had the upload's id; the upload that nobody knows of is for the garbage collector.
        assert found.pop() == "unfinished x"
        assert [entry.name for entry in store.abandoned_uploads()] == ["x"]
    assert found == [f"{bucket}/{name}" for name in wanted]


@pytest.mark.parametrize("action", [read, open_and_read])
def test_a_body_that_breaks_off_is_asked_for_again(store, proxy, action) -> None:
    data = os.urandom(300_000)
    store.write("kept", data)
    proxy.faults = [Fault("cut", method="GET", times=2)]
    assert store.read("kept") == data
    assert proxy.count("GET") == 3
    proxy.faults = [Fault("cut", method="GET", times=1)]
    assert store.list("") == ["kept"]
    proxy.faults = [Fault("cut", method="GET")]
    with pytest.raises(StoreUnavailableError, match=r"tried \d+ times in [12] s"):
        action(store)


@pytest.mark.parametrize(
    "fault", [Fault("reset"), s3_error(503, "SlowDown", "Please reduce your request rate.")], ids=["reset", "slow down"]
)
@pytest.mark.parametrize("action", [write, read])
def test_patience_ends(store, proxy, server, bucket, action, fault) -> None:
    store.write("kept", b"old")
    proxy.requests = []
    proxy.faults = [Fault(**vars(fault))]
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"tried \d+ times in [12] s"):
        action(store)
    assert time.monotonic() - began > 1
    # One layer of retries with growing pauses; aiohttp sends once more at once where a connection breaks.
    assert 5 <= len(proxy.requests) <= 2 * 8
    assert left(server, bucket) == [f"{bucket}/kept"]


@pytest.mark.parametrize(("profile", "said"), [(None, "no credentials were found"), ("nosuch", "profile")])
def test_missing_credentials_are_explained(bucket, proxy, monkeypatch, tmp_path, profile, said) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    unknown = Store(StoreSpec(uri=f"s3://{bucket}", endpoint_url=proxy.url), {"client_kwargs": {}})
    unknown.fs.clear_instance_cache()
    with pytest.raises(StoreUnavailableError, match=said) as caught:
        unknown.write("x", b"new")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "AWS_PROFILE" in caught.value.hint


def test_a_server_that_says_nothing_is_given_up(bucket, proxy, server, monkeypatch) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 0.5)
    monkeypatch.setattr(s3, "FIRST_CONTACT_S", 1.0)
    silent = Store(StoreSpec(uri=f"s3://{bucket}", endpoint_url=proxy.url), CREDENTIALS)
    proxy.faults = [Fault("hang")]
    with pytest.raises(StoreUnavailableError, match="Read timeout on endpoint URL") as caught:
        silent.write("x", b"new")
    assert "S3_ENDPOINT_URL" in caught.value.hint
    assert left(server, bucket) == []


def test_an_upload_streams_in_parts_and_memory_stays_flat(store, proxy, tmp_path) -> None:
    path, back = tmp_path / "big", tmp_path / "back"
    with path.open("wb") as file:
        for number in range(64):
            file.write(bytes([number]) * MIB)
    tracemalloc.start()
    store.copy_in(path, "big")
    store.copy_out("big", back)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    parts = [length for method, _, length in proxy.requests if method == "PUT"]
    assert len(parts) == 13
    assert max(parts) <= 6 * MIB
    # The proxy lives in this process too, and holds a request's and an answer's body.
    assert peak < 48 * MIB
    assert back.read_bytes() == path.read_bytes()
    assert store.size("big") == 64 * MIB


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_an_upload_that_fails_at_a_part_is_aborted(store, proxy, server, bucket, skip) -> None:
    proxy.faults = [s3_error(403, "AccessDenied", "no", method="PUT", skip=skip)]
    with pytest.raises(StoreUnavailableError, match="permission to write"):
        write_in_parts(store)
    assert left(server, bucket) == []


@pytest.mark.parametrize("written", [0, 3, 12])
def test_a_block_that_fails_publishes_nothing(store, proxy, server, bucket, written) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.writing("x") as file:
        for _ in range(written):
            file.write(bytes(MIB))
        raise RuntimeError("stop")
    del file
    gc.collect()
    assert left(server, bucket) == []


def test_an_error_of_the_block_is_not_blamed_on_the_store(store, tmp_path) -> None:
    with pytest.raises(PermissionError, match="mine"), store.writing("x"):
        raise PermissionError("mine")


def test_an_answer_that_is_lost_after_completion_does_no_harm(store, proxy, server, bucket) -> None:
    proxy.faults = [Fault("lost", method="POST", part="uploadId=", times=1)]
    write_in_parts(store)
    assert store.size("x") == 12 * MIB
    assert left(server, bucket) == [f"{bucket}/x"]


def test_a_copy_that_breaks_off_leaves_no_file(store, proxy, tmp_path) -> None:
    store.write("kept", os.urandom(300_000))
    proxy.faults = [Fault("cut", method="GET")]
    with pytest.raises(StoreUnavailableError):
        store.copy_out("kept", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_leaves_is_invisible_and_can_be_removed(store, server, bucket) -> None:
    program = f"""
import sys
from lumigator_nb.storage import s3 as store_s3
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage.store import Store
store_s3.PART_BYTES = 5 * 2**20
store = Store(StoreSpec(uri="s3://{bucket}", endpoint_url="{server}"), {CREDENTIALS!r})
with store.writing("x") as file:
    for _ in range(12):
        file.write(bytes(2**20))
    print("half", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert store.list("") == []
    assert not store.exists("x")
    (found,) = store.abandoned_uploads()
    assert found.name == "x"
    assert found.age > timedelta(minutes=-1)
    store.remove_abandoned(found)
    store.remove_abandoned(found)
    assert left(server, bucket) == []


def test_listing_sizes_and_times(store, proxy) -> None:
    store.write("a/b", b"12")
    store.write("a/c/d", b"345")
    proxy.requests = []
    found = store.entries("a")
    assert [(entry.name, entry.size) for entry in found] == [("a/b", 2), ("a/c/d", 3)]
    assert len(proxy.requests) == 1
    assert abs(store.modified("a/b") - found[0].modified) < timedelta(seconds=2)
    for absent in (store.size, store.modified, store.read):
        with pytest.raises(NotFoundError):
            absent("a/nothing")
    with pytest.raises(NotFoundError), store.reading("a/nothing"):
        pass


def test_small_files_take_one_request(store, proxy) -> None:
    proxy.requests = []
    store.write("x", b"small")
    store.write("empty", b"")
    assert store.read("x") == b"small"
    assert store.read("empty") == b""
    assert [method for method, _, _ in proxy.requests] == ["PUT", "PUT", "GET", "GET"]


def test_a_presigned_address_is_loaded_without_credentials(store) -> None:
    store.write("folder/a b.txt", b"for all")
    with urllib.request.urlopen(store.presigned("folder/a b.txt", 60)) as reply:
        assert reply.read() == b"for all"
    assert SECRET not in store.presigned("folder/a b.txt")
    with pytest.raises(InvalidInputError, match="between 1 and 604800"):
        store.presigned("folder/a b.txt", 0)


def test_a_prefix_sees_only_its_own(bucket, proxy, store) -> None:
    below = Store(StoreSpec(uri=f"s3://{bucket}/team", endpoint_url=proxy.url, path_style=True), CREDENTIALS)
    store.write("other", b"1")
    below.write("x", b"2")
    below.check()
    assert below.list("") == ["x"]
    assert below.abandoned_uploads() == []
    assert store.list("") == ["other", "team/x"]
