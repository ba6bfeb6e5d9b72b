"""Stands in for Ray's `setup_worker.py`: sets a worker's variables, and becomes the worker.

Ray's own imports all of Ray for it, 0.6 s of computing before each job, and the worker imports Ray once more. What is
more than variables is left to it.
"""

import argparse
import json
import os
import re
import runpy
import sys


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    given, rest = parser.parse_known_args()
    context = json.loads(given.serialized_runtime_env_context or "{}")
    variables, python = context.pop("env_vars", None), context.pop("py_executable", None)
    if given.language != "PYTHON" or any(context.values()) or python not in (None, sys.executable):
        runpy.run_module("ray._private.workers.setup_worker", run_name="__main__")
        return
    for name, value in (variables or {}).items():
        # As Ray does: ${X} is the variable X, and nothing where there is none.
        os.environ[name] = re.sub(r"\$\{[A-Z0-9_]+\}", "", os.path.expandvars(value))
    os.execv(sys.executable, [sys.executable, *rest])  # noqa: S606


if __name__ == "__main__":
    main()
