"""The package as the cluster gets it: a zip that Ray unpacks and puts first on the job's Python path.

Jobs thus run the code that submitted them, whatever version the cluster's nodes have installed.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import lumigator_nb
from lumigator_nb.cluster.api import RayApi

PACKAGE = Path(lumigator_nb.__file__).parent
_LEFT_OUT = {"__pycache__", "_migrations"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def ship(api: RayApi, package: Path) -> str:
    """Upload the folder `package` unless the head has it already; return the URI for ``runtime_env["py_modules"]``.

    Raises:
        ClusterUnavailableError: the head does not take it.
    """
    data = pack(package)
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
        for file in sorted(package.rglob("*")):
            inside = file.relative_to(package)
            if file.is_file() and not _LEFT_OUT & set(inside.parts) and not file.name.startswith("."):
                entry = zipfile.ZipInfo(f"{package.name}/{inside.as_posix()}", _EPOCH)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
