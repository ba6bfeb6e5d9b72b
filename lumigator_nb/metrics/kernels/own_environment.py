"""Call a function in a separate virtual environment, for packages whose requirements conflict with ours.

The environment is built at the first call, on the machine that computes, and stays in ``$LUMIGATOR_HOME/environments``.
Packages that it does not install itself come from the current environment (PyTorch above all), so that it stays small.

Ray's runtime environments are not used: where Ray itself runs in a virtual environment they copy all of it (3.4 GB,
minutes) for each set of requirements, and end with the Ray head.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.specs import digest

log = logging.getLogger(__name__)

Function = Callable[[Mapping[str, Any]], Any]

# A file with the paths of our packages. Python appends them to sys.path, so that the environment's own packages win;
# .pth files are read in the order of their names, and this one is the last.
_PATHS = "zz_packages_of_lumigator.pth"
_SCRIPT = """from __future__ import annotations
{source}
import json, sys
with open(sys.argv[1]) as file:
    payload = json.load(file)
result = {name}(payload)
with open(sys.argv[2], "w") as file:
    json.dump(result, file)
"""


def call(what: str, module: str, requirements: Sequence[str], function: Function, payload: Mapping[str, Any]) -> Any:
    """Return ``function(payload)``, computed in an environment where `module` can be imported.

    Args:
        what: what needs the package, such as "metric 'comet'", for errors.
        module: of the package. If it is installed here, the function is called in this process.
        requirements: for pip, if the package is not installed here.
        function: defined at the top level of a module. Its source alone is run elsewhere, so it has to import what it
            needs itself, and nothing of this package.
        payload: JSON values; the result has to be JSON values too.

    Raises:
        ConfigurationError: no environment could be built, or the function failed in it.
    """
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:  # a mere folder of that name has no origin
        return function(payload)
    python = _environment(what, requirements)
    with tempfile.TemporaryDirectory() as folder:
        script, source, result = (Path(folder) / name for name in ("call.py", "payload.json", "result.json"))
        script.write_text(_SCRIPT.format(source=inspect.getsource(function), name=function.__name__), encoding="utf-8")
        source.write_text(json.dumps(payload), encoding="utf-8")
        # Without PYTHONPATH, whose packages would win over the environment's own.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python), str(script), str(source), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ConfigurationError(f"{what} failed in its environment: {(lines or ['no message'])[-1][:500]}")
        return json.loads(result.read_text(encoding="utf-8"))


def _environment(what: str, requirements: Sequence[str]) -> Path:
    """Return the path of the environment's Python; build the environment if it does not exist."""
    home = Path(os.environ.get("LUMIGATOR_HOME") or Path.home() / ".lumigator").expanduser() / "environments"
    home.mkdir(parents=True, exist_ok=True)
    # Another Python or another environment of ours has other packages to share.
    name = digest([sorted(requirements), sys.version, sys.prefix])
    folder = home / name
    # Several workers of one machine may need it at the same time; one of them builds it.
    with FileLock(home / f"{name}.lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)  # left over from a process that was killed while building
            log.info("building an environment for %s: %s", what, ", ".join(requirements))
            try:
                _build(what, folder, requirements)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return _python(folder)


def _build(what: str, folder: Path, requirements: Sequence[str]) -> None:
    """Create the environment; the file "ready" is its last, so that an unfinished one is recognized."""
    venv.create(folder, symlinks=os.name != "nt")
    python = _python(folder)
    (packages,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    paths = [path for path in sys.path if Path(path).is_dir() and "site-packages" in path]
    (packages / _PATHS).write_text("\n".join(paths) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise ConfigurationError(
            f"no environment could be built for {what} ({', '.join(requirements)}): {errors[-1][:300]}",
            "give the machine that computes a package index (PIP_INDEX_URL), or score in a separate environment and "
            "import the numbers",
        )
    (folder / "ready").touch()


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
