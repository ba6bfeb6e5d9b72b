from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def execute(folder: Path, *pages: str) -> None:
    """Execute the Python of pages from top to bottom, each after the other."""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    script = folder / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_of_the_readme_works_from_top_to_bottom(tmp_path) -> None:
    execute(tmp_path, "README.md")
    assert (tmp_path / "report.html").stat().st_size > 0


def test_the_python_of_the_guides_works_one_after_the_other(tmp_path, monkeypatch) -> None:
    """They read as one course: later ones use the tickets, the experiment and the comparison of the first."""
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))  # the README has tickets, too
    guides = ("five-minutes", "data", "tasks", "models", "costs", "deciding", "labelling")
    try:
        execute(tmp_path, *(f"docs/{guide}.md" for guide in guides))
    finally:
        subprocess.run([Path(sys.executable).with_name("lumigator-nb"), "down"], check=True)


@pytest.mark.parametrize("page", ["elsewhere", "own-metrics", "sharing", "statistics"])
def test_the_python_of_a_page_works(tmp_path, page) -> None:
    execute(tmp_path, f"docs/{page}.md")
