"""`make docs`: the site is built without a warning, its search works, and it loads nothing from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the site is made of, and the site in its folder build."""
    pytest.importorskip("zensical", reason="`make docs` installs what builds the site")
    root = tmp_path_factory.mktemp("docs")
    for name in ("docs", "notebooks", "benchmarks", "lumigator_nb"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml"):
        shutil.copy(file, root)
    done = built(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def built(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "docs/build.py"], cwd=root, capture_output=True, text=True)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=root / "build" / "site")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_has_examples_and_search_and_loads_nothing_from_elsewhere(address, chromium) -> None:
    page = chromium.new_context(viewport={"width": 1366, "height": 900}).new_page()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    for name in ("index", "five-minutes", "statistics", "notebooks/04_decide", "api/workspace"):
        page.goto(f"{address}/{name}.html", wait_until="networkidle")
    page.locator(".doc-contents", has_text="ws.compare(experiment").first.wait_for()  # an example of a docstring
    page.keyboard.press("Control+k")
    page.keyboard.type("reliability")
    page.get_by_text("Judge reports").first.wait_for()
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
    page.context.close()


def test_a_broken_anchor_ends_the_build(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    with (copy / "docs" / "data.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](storage.md#no-such-heading)\n")
    done = built(copy)
    assert done.returncode != 0
    assert "anchor does not exist" in done.stderr
