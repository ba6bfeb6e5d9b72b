"""The package as the cluster gets it: a zip that Ray unpacks and puts first on the job's Python path.

Jobs thus run the code that submitted them, whatever version the cluster's nodes have installed.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from lumigator_nb.cluster.api import RayApi

PACKAGE = Path(__file__).parents[1]
_LEFT_OUT = {"__pycache__", "_migrations"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def ship(api: RayApi, package: Path) -> str:
    """Upload the folder `package` unless the head has it already; return the URI for ``runtime_env["py_modules"]``.

    Raises:
        ClusterUnavailableError: the head does not take it.
    """
    data = _packed(package, frozenset((file, *_changed(file)) for file in _files(package)))
    name = f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip"
    path = f"/api/packages/gcs/{name}"
    # Asking also pins the package, so that it is not collected between this call and the submission.
    if api.call("GET", path).status != 200:
        api.expect_success(api.call("PUT", path, data, timeout=60))
    return f"gcs://{name}"


def pack(package: Path) -> bytes:
    """Return a zip of the folder with the folder itself on top; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(_files(package)):
            entry = zipfile.ZipInfo(f"{package.name}/{file.relative_to(package).as_posix()}", _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _packed(package: Path, state: frozenset[tuple[Path, int, int]]) -> bytes:
    """The zip of a folder as it is now; packing it takes more than the rest of a submission."""
    return pack(package)


def _files(package: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _changed(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size
