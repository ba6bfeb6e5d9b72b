"""Environments that hold other packages than ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S


def installed(folder: Path, *packages: str, python: str = sys.executable) -> Path:
    """Return where the programs of a new environment with these packages lie."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        pytest.skip(f"NOT TESTED: {packages} cannot be installed: {done.stderr[-300:]}")
    return folder / "bin"
