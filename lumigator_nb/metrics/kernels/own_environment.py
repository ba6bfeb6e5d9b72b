"""Calling a function of a package that cannot live beside ours: in a virtual environment of its own.

The environment is built at the first call, on the machine that computes, and stays in ``$LUMIGATOR_HOME/environments``.
What it does not bring itself it takes from the packages that are here (PyTorch above all), so that it stays small.
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

# A file of paths behind the environment's own packages; its name puts it after all others.
_PATHS = "zz_packages_of_lumigator.pth"
_SCRIPT = """from __future__ import annotations
{source}
import json, sys
with open(sys.argv[1]) as given:
    payload = json.load(given)
result = {name}(payload)
with open(sys.argv[2], "w") as file:
    json.dump(result, file)
"""


def call(what: str, module: str, requirements: Sequence[str], function: Function, payload: Mapping[str, Any]) -> Any:
    """Return ``function(payload)``, computed where `module` can be imported.

    Args:
        what: who needs it, for errors.
        module: of the package; where it is installed here, the function is called here.
        requirements: what pip is to install elsewhere.
        function: of a module's top level; imports what it needs itself, and nothing of ours, which may not work there.
        payload: JSON values, as what is returned.

    Raises:
        ConfigurationError: no environment could be built, or the function failed in it.
    """
    found = importlib.util.find_spec(module)
    if found is not None and found.origin is not None:  # a folder of that name is no package
        return function(payload)
    return _execute(what, _environment(what, requirements), function, payload)


def _environment(what: str, requirements: Sequence[str]) -> Path:
    """Return the Python of the environment, which is built where it is not there yet."""
    home = Path(os.environ.get("LUMIGATOR_HOME") or Path.home() / ".lumigator").expanduser() / "environments"
    home.mkdir(parents=True, exist_ok=True)
    name = digest([sorted(requirements), sys.version, sys.prefix])
    folder = home / name
    with FileLock(home / f"{name}.lock"):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed while it built
            log.info("building an environment for %s: %s", what, ", ".join(requirements))
            try:
                _build(what, folder, requirements)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return _python(folder)


def _build(what: str, folder: Path, requirements: Sequence[str]) -> None:
    venv.create(folder, symlinks=os.name != "nt")
    python = _python(folder)
    (packages,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
    paths = [path for path in sys.path if Path(path).is_dir() and "site-packages" in path]
    (packages / _PATHS).write_text("\n".join(paths) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-300:]]
        raise ConfigurationError(
            f"no environment could be built for {what} ({', '.join(requirements)}): {told[-1][:300]}",
            "give the machine that computes a package index (PIP_INDEX_URL), or install it into an environment apart, "
            "score there, and bring the numbers along",
        )
    (folder / "ready").touch()


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _execute(what: str, python: Path, function: Function, payload: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        script, given, result = (Path(folder) / name for name in ("call.py", "payload.json", "result.json"))
        script.write_text(_SCRIPT.format(source=inspect.getsource(function), name=function.__name__), encoding="utf-8")
        given.write_text(json.dumps(payload), encoding="utf-8")
        # Without our paths, which would come before the environment's own packages.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python), str(script), str(given), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ConfigurationError(f"{what} failed in its environment: {(lines or ['no message'])[-1][:500]}")
        return json.loads(result.read_text(encoding="utf-8"))
