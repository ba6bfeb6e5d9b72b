"""Reading the file of an experiment that may come from anybody: nothing of it is believed before it is checked."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from lumigator_nb.display.meter import Meter
from lumigator_nb.errors import DamagedError, InvalidInputError, LumigatorError, NotFoundError
from lumigator_nb.services.sharing import manifest as parts

V = TypeVar("V", bound=BaseModel)

CHUNK = 1 << 20
MOST_MEMBERS, MOST_JSON, LONGEST_LINE = 1_000_000, 1 << 26, 1 << 20


class _Head(BaseModel):
    """As much of any version's manifest as tells which version it is."""

    model_config = ConfigDict(extra="ignore")
    format: str = ""
    version: int = 0


class Archive:
    """An opened file whose members' names and sizes are known to be in order; see :func:`opened`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = archive
        infos = self._checked_infos(path.stat().st_size)
        self.manifest = self._manifest(infos)
        self._members = {member.name: member for member in self.manifest.members}
        self._compare(infos)

    @property
    def names(self) -> list[str]:
        """The members besides the manifest, in order."""
        return list(self._members)

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self._members.values())

    def verify(self, meter: Meter) -> None:
        """Read everything once.

        Raises:
            DamagedError: a member is not what the manifest says.
        """
        for name in self._members:
            for chunk in self.chunks(name):
                meter.add(len(chunk))

    def value(self, name: str, kind: type[V]) -> V:
        """Return what a JSON member holds.

        Raises:
            DamagedError: it is missing, damaged or malformed.
        """
        if self.require(name).size > MOST_JSON:
            raise self.damaged(f"{name} is larger than {MOST_JSON >> 20} MiB")
        return self._parsed(name, b"".join(self.chunks(name)), kind)

    def lines(self, name: str, kind: type[V]) -> Iterator[V]:
        """Yield what a member of JSON Lines holds, one value at a time."""
        rest, number = b"", 0
        for chunk in self.chunks(name):
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise self.damaged(f"line {number + len(whole) + 1} of {name} is too long")
            for line in whole:
                number += 1
                yield self._parsed(f"line {number} of {name}", line, kind)
        if rest:
            raise self.damaged(f"{name} ends within a line")

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a member's bytes.

        Raises:
            DamagedError: at the end, where they are not those of the manifest.
        """
        member, digest, size = self.require(name), hashlib.sha256(), 0
        with self._explained(name), self._zip.open(name) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        if size != member.size or digest.hexdigest() != member.sha256:
            raise self.damaged(f"{name} is not what was written: its SHA-256 is another one")

    @contextmanager
    def parquet(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a Parquet member; what it cannot be read for counts as damage."""
        self.require(name)
        with self._explained(name), self._zip.open(name) as file:
            yield pq.ParquetFile(file)

    def require(self, name: str) -> parts.Member:
        """Return what the manifest says of a member.

        Raises:
            DamagedError: it is not there.
        """
        if name not in self._members:
            raise self.damaged(f"{name} is missing")
        return self._members[name]

    def damaged(self, what: str) -> DamagedError:
        """The error of a file of which `what` is wrong."""
        return DamagedError(f"{self.path.name}: {what}", "ask for the file again; nothing of it was kept")

    def _checked_infos(self, file_size: int) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > MOST_MEMBERS:
            raise self.damaged(f"it has {len(infos):,} members, and at most {MOST_MEMBERS:,} may be")
        for info in infos:
            self._check_info(info)
        found = {info.filename: info for info in infos}
        if len(found) < len(infos):
            raise self.damaged("a member is there twice")
        # Stored members cannot be larger than the file that holds them, so nothing grows when it is opened.
        if sum(info.file_size for info in infos) > file_size:
            raise self.damaged("its members claim to be larger than the file")
        return found

    def _check_info(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        if name != info.orig_filename or not (name == parts.MANIFEST or parts.is_known(name)):
            raise self.damaged(f"the member {info.orig_filename[:100]!r} does not belong into an exported experiment")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise self.damaged(f"{name} is no plain file")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 0x1:
            raise self.damaged(f"{name} is compressed or encrypted, which no exported experiment is")

    def _manifest(self, infos: dict[str, zipfile.ZipInfo]) -> parts.Manifest:
        if parts.MANIFEST not in infos:
            raise DamagedError(
                f"{self.path.name} is no exported experiment: it has no {parts.MANIFEST}",
                "give a file that ws.export(experiment, path) wrote",
            )
        if infos[parts.MANIFEST].file_size > 4 * MOST_JSON:
            raise self.damaged(f"{parts.MANIFEST} is too large")
        with self._explained(parts.MANIFEST):
            content = self._zip.read(parts.MANIFEST)
        head = self._parsed(parts.MANIFEST, content, _Head)
        if head.format != parts.FORMAT:
            raise self.damaged(f"its manifest is not of the format {parts.FORMAT!r}")
        if head.version != parts.VERSION:
            raise DamagedError(
                f"{self.path.name} is of version {head.version} of the format, and this package knows {parts.VERSION}",
                "a newer version wrote it: pip install --upgrade lumigator-nb",
            )
        return self._parsed(parts.MANIFEST, content, parts.Manifest)

    def _compare(self, infos: dict[str, zipfile.ZipInfo]) -> None:
        listed = [member.name for member in self.manifest.members]
        if len(set(listed)) < len(listed):
            raise self.damaged("its manifest lists a member twice")
        extra = set(infos) - {*listed, parts.MANIFEST}
        if extra:
            raise self.damaged(f"the manifest does not list {min(extra)}")
        for member in self.manifest.members:
            if member.name not in infos:
                raise self.damaged(f"{member.name} is missing")
            if infos[member.name].file_size != member.size:
                raise self.damaged(f"{member.name} is not as long as the manifest says")

    def _parsed(self, what: str, content: bytes, kind: type[V]) -> V:
        try:
            return kind.model_validate_json(content)
        except (ValidationError, ArithmeticError, TypeError, ValueError) as error:
            first = error.errors(include_input=False)[0] if isinstance(error, ValidationError) else None
            where = f", at {'.'.join(map(str, first['loc']))}" if first and first["loc"] else ""
            raise self.damaged(f"{what} is malformed{where}: {first['msg'] if first else error}") from None

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Whatever the libraries below raise at bytes that make no sense."""
        try:
            yield
        except LumigatorError:
            raise
        except Exception as error:
            raise self.damaged(f"{what} cannot be read: {error or type(error).__name__}") from error


@contextmanager
def opened(path: str | Path) -> Iterator[Archive]:
    """Open the file of an experiment, and check its table of contents.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it cannot be opened.
        DamagedError: it is no exported experiment, was cut short, or is of a version that this package does not know.
    """
    source = Path(path).expanduser()
    try:
        file = source.open("rb")
    except FileNotFoundError:
        raise NotFoundError("file", str(source)) from None
    except OSError as error:
        raise InvalidInputError(f"cannot open {source}: {error.strerror}", "give a file") from None
    with file, _unzipped(source, file) as archive:
        yield Archive(source, archive)


@contextmanager
def _unzipped(path: Path, file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # it raises more kinds than it says
        raise DamagedError(
            f"{path.name} is not an exported experiment, or it was cut short: {error}",
            "compare its size with the sender's, and ask for it again",
        ) from error
    with archive:
        yield archive
