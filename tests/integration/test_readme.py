from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def execute(page: str, folder: Path) -> None:
    """Execute the Python of a page from top to bottom."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    script = folder / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_of_the_readme_works_from_top_to_bottom(tmp_path) -> None:
    execute("README.md", tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 0


@pytest.mark.parametrize("page", ["metrics", "sharing", "statistics"])
def test_the_python_of_a_page_works(tmp_path, page) -> None:
    execute(f"docs/{page}.md", tmp_path)
