from __future__ import annotations

import os
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lumigator_nb import config
from lumigator_nb.engine import process_setup, worker
from lumigator_nb.errors import ConfigurationError, MissingExtraError, NotFoundError, StoreUnavailableError
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage.layout import safe_filename
from lumigator_nb.storage.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request, tmp_path):
    if request.param == "file":
        yield Store(StoreSpec(uri=(tmp_path / "it's a folder").as_uri()))
        return
    made = Store(StoreSpec(uri=f"memory://{tmp_path.name}"))
    yield made
    made.delete("")


def test_what_is_written_is_read_listed_and_deleted(store) -> None:
    store.write("a/b.txt", b"one")
    store.write("a/c/d.txt", b"two")
    store.write("a/b.txt", b"three")
    assert store.read("a/b.txt") == b"three"
    assert store.list("a") == ["a/b.txt", "a/c/d.txt"]
    assert store.exists("a/c/d.txt")
    store.delete("a/c")
    assert store.list("a") == ["a/b.txt"]


def test_absence_is_found_out(store) -> None:
    assert store.find("nothing") is None
    assert store.list("nothing") == []
    store.delete("nothing")
    with pytest.raises(NotFoundError, match=r"there is no file .*nothing"):
        store.read("nothing")


def test_a_write_that_fails_half_way_leaves_the_old_content(store) -> None:
    store.write("x", b"old")
    with pytest.raises(RuntimeError, match="stop"), store.writing("x") as file:
        file.write(b"new")
        raise RuntimeError("stop")
    assert store.read("x") == b"old"
    assert store.list("") == ["x"]
    assert store.abandoned_uploads() == []


def test_entries_tell_size_and_time(store) -> None:
    store.write("a/b", b"12")
    store.write("a/c/d", b"")
    found = store.entries("a")
    assert [(entry.name, entry.size) for entry in found] == [("a/b", 2), ("a/c/d", 0)]
    assert store.size("a/b") == 2
    assert store.modified("a/b") == found[0].modified
    assert abs(datetime.now(UTC) - found[0].modified) < timedelta(minutes=1)
    assert store.entries("nothing") == []
    for absent in ("a/nothing", "a"):
        with pytest.raises(NotFoundError):
            store.size(absent)


def test_files_are_copied_in_and_out(store, tmp_path) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_bytes(os.urandom(3_000_000))
    store.copy_in(source, "x")
    store.copy_out("x", target)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(NotFoundError, match="there is no file '.*/absent'"):
        store.copy_in(tmp_path / "absent", "y")
    with pytest.raises(NotFoundError):
        store.copy_out("y", target)
    assert store.list("y") == []
    assert target.stat().st_size == 3_000_000
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_copy_to_where_none_can_be_names_that_place(store, tmp_path) -> None:
    store.write("x", b"1")
    (tmp_path / "taken").write_text("a file where a folder must be")
    with pytest.raises(StoreUnavailableError, match="/taken/target: a file is where a folder must be"):
        store.copy_out("x", tmp_path / "taken" / "target")


def test_an_error_of_the_block_is_not_blamed_on_the_store(store) -> None:
    with pytest.raises(PermissionError, match="mine"), store.writing("x"):
        raise PermissionError("mine")
    store.write("x", b"1")
    with pytest.raises(PermissionError, match="mine"), store.reading("x"):
        raise PermissionError("mine")


def test_only_s3_signs_addresses(store) -> None:
    store.write("x", b"1")
    with pytest.raises(ConfigurationError, match="cannot sign addresses") as caught:
        store.presigned("x")
    assert "S3_BUCKET" in caught.value.hint


def test_an_unfinished_write_of_a_killed_process_is_not_listed(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.0123.part").write_bytes(b"half")
    store.write("a/of.the.user.part", b"1")
    assert store.list("") == ["a/of.the.user.part"]
    (found,) = store.abandoned_uploads()
    assert found.name == "a/x.0123.part"
    assert timedelta(0) <= found.age < timedelta(minutes=1)
    store.remove_abandoned(found)
    store.remove_abandoned(found)
    assert store.abandoned_uploads() == []


def test_a_killed_write_is_found(tmp_path) -> None:
    program = f"""
import os
from lumigator_nb.specs import StoreSpec
from lumigator_nb.storage.store import Store
with Store(StoreSpec(uri={tmp_path.as_uri()!r})).writing("x") as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    assert not store.exists("x")
    (found,) = store.abandoned_uploads()
    assert found.name.startswith("x.")
    store.remove_abandoned(found)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB and 8 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k,nr_inodes=8", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_files():
    """Files may grow to 64 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(store: Store, name: str = "x") -> None:
    with store.writing(name) as file:
        for _ in range(100):
            file.write(os.urandom(10_000))


def fill_table(store: Store, name: str = "x") -> None:
    with store.writing(name) as file:
        pq.write_table(pa.table({"a": [os.urandom(10_000) for _ in range(100)]}), file)


@pytest.mark.parametrize("write", [fill, fill_table])
def test_a_full_disk_is_explained_and_leaves_nothing(small_disk, write) -> None:
    store = Store(StoreSpec(uri=small_disk.as_uri()))
    store.write("kept", b"old")
    with pytest.raises(StoreUnavailableError, match="x: the disk is full") as caught:
        write(store)
    assert "LUMIGATOR_HOME" in caught.value.hint
    assert [path.name for path in small_disk.iterdir()] == ["kept"]
    store.write("kept", b"new")
    assert store.read("kept") == b"new"


def test_a_disk_without_inodes_is_explained(small_disk) -> None:
    store = Store(StoreSpec(uri=small_disk.as_uri()))
    with pytest.raises(StoreUnavailableError, match="no inodes left"):
        for number in range(10):
            store.write(f"f{number}", b"1")
    assert store.abandoned_uploads() == []


def test_a_read_only_disk_is_explained(small_disk) -> None:
    store = Store(StoreSpec(uri=small_disk.as_uri()))
    store.write("kept", b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for change in (lambda: store.write("x", b"1"), lambda: store.delete("kept")):
        with pytest.raises(StoreUnavailableError, match="the file system is read-only") as caught:
            change()
        assert "LUMIGATOR_STORE" in caught.value.hint
    assert store.read("kept") == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_explained(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreUnavailableError, match="permission is denied"):
        Store(StoreSpec(uri=tmp_path.as_uri())).write("x", b"1")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("write", [fill, fill_table])
def test_a_file_that_grows_too_large_leaves_nothing(small_files, tmp_path, write) -> None:
    with pytest.raises(StoreUnavailableError, match="larger than allowed") as caught:
        write(Store(StoreSpec(uri=tmp_path.as_uri())))
    assert "ulimit" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_is_explained(tmp_path) -> None:
    with pytest.raises(StoreUnavailableError, match="longer than the file system allows"):
        Store(StoreSpec(uri=tmp_path.as_uri())).write("a" * 300, b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_explained(tmp_path) -> None:
    (tmp_path / "taken").write_text("a file where a folder must be")
    store = Store(StoreSpec(uri=(tmp_path / "taken").as_uri()))
    with pytest.raises(StoreUnavailableError, match="cannot reach"):
        store.write("x", b"")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a store's address"):
        Store(StoreSpec(uri="nosuch://place"))


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [
        ("s3://b", "s3fs", "s3"),
        ("gs://b", "gcsfs", "gcs"),
        ("az://b", "adlfs", "azure"),
        ("abfs://b", "adlfs", "azure"),
    ],
)
def test_the_extra_that_is_missing_is_named(monkeypatch, uri, package, extra) -> None:
    monkeypatch.delitem(sys.modules, "lumigator_nb.storage.s3", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"lumigator-nb\[{extra}\]"):
        Store(StoreSpec(uri=uri))


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://minio", "http://", "http://me:hunter2@minio:9000"])
def test_an_endpoint_that_is_none_is_refused(endpoint) -> None:
    with pytest.raises(ConfigurationError, match="S3_ENDPOINT_URL") as caught:
        Store(StoreSpec(uri="s3://b", endpoint_url=endpoint))
    assert "hunter2" not in str(caught.value)


def test_a_password_in_the_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="contains a password") as caught:
        Store(StoreSpec(uri="sftp://me:hunter2@host/folder"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "path_style", "start"),
    [
        ("https://minio.example", None, "https://minio.example/lumi/x?"),
        ("https://minio.example", True, "https://minio.example/lumi/x?"),
        ("https://minio.example", False, "https://lumi.minio.example/x?"),
        (None, None, "https://lumi.s3.amazonaws.com/x?"),
        (None, True, "https://s3.amazonaws.com/lumi/x?"),
    ],
)
def test_the_bucket_is_named_in_the_host_or_in_the_path(endpoint, path_style, start) -> None:
    spec = StoreSpec(uri="s3://lumi", endpoint_url=endpoint, path_style=path_style)
    signed = Store(spec, {"key": "me", "secret": "hunter2"}).presigned("x")
    assert signed.startswith(start)
    assert "AWS4-HMAC-SHA256" in signed


def test_the_settings_of_s3_are_handed_on(monkeypatch, tmp_path) -> None:
    env = tmp_path / ".env"
    env.write_text(
        "S3_BUCKET=lumi\nS3_PATH_STYLE=true\nS3_ENDPOINT_URL=https://s3.example\nAWS_DEFAULT_REGION=eu-west-3\n"
    )
    settings = config.load(env)
    assert settings.store_spec == StoreSpec(uri="s3://lumi", endpoint_url="https://s3.example", path_style=True)
    # Without keys the ordinary chain has them, but the region counts all the same.
    assert settings.store_credentials == {"client_kwargs": {"region_name": "eu-west-3"}}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for-today")
    assert config.load(env).store_credentials["token"] == "for-today"
    assert config.load(env).node_environment["AWS_SESSION_TOKEN"] == "for-today"
    # The token of one key would spoil another.
    other = config.load(env, aws_access_key_id="other", aws_secret_access_key="secret")
    assert "token" not in other.store_credentials
    assert "AWS_SESSION_TOKEN" not in other.node_environment


@pytest.mark.parametrize(("flag", "path_style"), [([], None), (["--path-style"], True), (["--no-path-style"], False)])
def test_the_worker_opens_the_store_in_the_same_style(monkeypatch, flag, path_style) -> None:
    opened = []
    elsewhere = StoreSpec(uri="memory://none")
    monkeypatch.setattr(process_setup, "Store", lambda spec, patience: opened.append(spec) or Store(elsewhere))
    with pytest.raises(NotFoundError):
        worker.main(["s3://lumi", "absent", "--endpoint-url", "https://s3.example", *flag])
    assert opened == [StoreSpec(uri="s3://lumi", endpoint_url="https://s3.example", path_style=path_style)]


def test_check_leaves_nothing_behind(store) -> None:
    store.check()
    assert store.list("") == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("data.csv", "data.csv"),
        ("../../x y'é.csv", "x_y_e.csv"),
        ("..\\..\\boot.ini", "boot.ini"),
        (".hidden", "hidden"),
        ("日本語.csv", "csv"),
        ("", "upload"),
        ("a" * 300 + ".csv", "a" * 96 + ".csv"),
        ("$(touch x).csv", "touch_x_.csv"),
    ],
)
def test_filenames_are_made_safe(given, kept) -> None:
    assert safe_filename(given) == kept
