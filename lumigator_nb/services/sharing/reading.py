"""Opening the archive of an experiment, which may come from a stranger: nothing is trusted before it is checked."""

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
from lumigator_nb.services.sharing import manifest as format_
from lumigator_nb.services.sharing.manifest import MANIFEST, Manifest, Member

V = TypeVar("V", bound=BaseModel)

CHUNK = 1 << 20
MOST_MEMBERS, MOST_JSON, LONGEST_LINE = 1_000_000, 1 << 26, 1 << 20


class _Head(BaseModel):
    """The fields that the manifest of every version has."""

    model_config = ConfigDict(extra="ignore")
    format: str = ""
    version: int = 0


class Archive:
    """An open archive whose members have permitted names and the sizes that the manifest lists; see :func:`opened`.

    Attributes:
        members: by name, in the manifest's order; without the manifest.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = archive
        self._check_members()
        self.manifest = self._read_manifest()
        self.members: dict[str, Member] = {member.name: member for member in self.manifest.members}
        self._compare_with_manifest()

    def damaged(self, problem: str) -> DamagedError:
        """Return the error for a file with this problem."""
        return DamagedError(f"{self.path.name}: {problem}", "ask for the file again; nothing of it was kept")

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return sum(member.size for member in self.members.values())

    def verify(self, meter: Meter) -> None:
        """Read every member once.

        Raises:
            DamagedError: a member's bytes do not have the hash that the manifest lists.
        """
        for member in self.members.values():
            digest = hashlib.sha256()
            with self.reading(member.name) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    meter.add(len(chunk))
            if digest.hexdigest() != member.sha256:
                raise self.damaged(f"{member.name} is not what was written: its SHA-256 is another one")

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member.

        Raises:
            DamagedError: it is missing, or the block cannot read it.
        """
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise self.damaged(f"{name} is missing") from None
        try:
            with self._zip.open(info) as file:
                yield file
        except LumigatorError:
            raise
        except Exception as error:  # zipfile and pyarrow raise many kinds of errors for malformed bytes
            raise self.damaged(f"{name} cannot be read: {error or type(error).__name__}") from error

    @contextmanager
    def parquet(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a Parquet member; errors as of :meth:`reading`."""
        with self.reading(name) as file:
            yield pq.ParquetFile(file)

    def value(self, name: str, kind: type[V]) -> V:
        """Return the value in a JSON member.

        Raises:
            DamagedError: it is missing, too large or malformed.
        """
        # The manifest may list a million members.
        limit = 4 * MOST_JSON if name == MANIFEST else MOST_JSON
        with self.reading(name) as file:
            if self._zip.getinfo(name).file_size > limit:
                raise self.damaged(f"{name} is larger than {limit >> 20} MiB")
            return self._parsed(name, file.read(), kind)

    def lines(self, name: str, kind: type[V]) -> Iterator[V]:
        """Yield the values in a member of JSON Lines, reading one line at a time.

        Raises:
            DamagedError: a line is malformed, too long or cut short.
        """
        with self.reading(name) as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    raise self.damaged(f"line {number} of {name} is cut short, or longer than {LONGEST_LINE >> 20} MiB")
                yield self._parsed(f"line {number} of {name}", line, kind)

    def _check_members(self) -> None:
        infos = self._zip.infolist()
        if len(infos) > MOST_MEMBERS:
            raise self.damaged(f"it has {len(infos):,} members, and at most {MOST_MEMBERS:,} are allowed")
        for info in infos:
            name = info.filename
            # zipfile cuts a name at a NUL character and replaces backslashes on Windows: such names differ here.
            if name != info.orig_filename or not format_.ALLOWED.fullmatch(name):
                raise self.damaged(f"the member {info.orig_filename[:100]!r} does not belong in an exported experiment")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise self.damaged(f"{name} is not a plain file")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 0x1:
                raise self.damaged(f"{name} is compressed or encrypted, which no member of an exported experiment is")
        if len({info.filename for info in infos}) < len(infos):
            raise self.damaged("two members have the same name")
        # Together, stored members cannot be larger than the archive, unless they overlap. So nothing grows here.
        if sum(info.file_size for info in infos) > self.path.stat().st_size:
            raise self.damaged("its members claim to be larger than the file")

    def _read_manifest(self) -> Manifest:
        if MANIFEST not in self._zip.namelist():
            raise DamagedError(
                f"{self.path.name} is not an exported experiment: it has no {MANIFEST}",
                "give a file that ws.export(experiment, path) wrote",
            )
        head = self.value(MANIFEST, _Head)
        if head.format != format_.FORMAT:
            raise self.damaged(f"its manifest does not have the format {format_.FORMAT!r}")
        if head.version != format_.VERSION:
            raise DamagedError(
                f"{self.path.name} has version {head.version} of the format, and this package reads {format_.VERSION}",
                "a newer version wrote it: pip install --upgrade lumigator-nb",
            )
        return self.value(MANIFEST, Manifest)

    def _compare_with_manifest(self) -> None:
        sizes = {info.filename: info.file_size for info in self._zip.infolist() if info.filename != MANIFEST}
        listed = {member.name: member.size for member in self.manifest.members}
        if len(listed) < len(self.manifest.members):
            raise self.damaged("its manifest lists a member twice")
        if different := sizes.items() ^ listed.items():
            raise self.damaged(f"{min(different)[0]} is missing, or is not as the manifest lists it")

    def _parsed(self, what: str, content: bytes, kind: type[V]) -> V:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = f", at {'.'.join(map(str, first['loc']))}" if first["loc"] else ""
            raise self.damaged(f"{what} is malformed{where}: {first['msg']}") from None
        except (ArithmeticError, TypeError, ValueError) as error:  # a time beyond the calendar
            raise self.damaged(f"{what} is malformed: {error}") from None


@contextmanager
def opened(path: str | Path) -> Iterator[Archive]:
    """Open the archive of an experiment, and check its table of contents.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it cannot be opened.
        DamagedError: it is not an exported experiment, was cut short, or has a version that this package cannot read.
    """
    source = Path(path).expanduser()
    try:
        file = source.open("rb")
    except FileNotFoundError:
        raise NotFoundError("file", str(source)) from None
    except OSError as error:
        raise InvalidInputError(f"cannot open {source}: {error.strerror}", "give a file") from None
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # more kinds than zipfile documents
            raise DamagedError(
                f"{source.name} is not an exported experiment, or it was cut short: {error}",
                "compare its size with the sender's, and ask for it again",
            ) from error
        with archive:
            yield Archive(source, archive)
