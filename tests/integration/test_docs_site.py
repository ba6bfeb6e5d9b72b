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


@pytest.fixture
def site(tmp_path: Path) -> Path:
    pytest.importorskip("zensical", reason="`make docs` installs what builds the site")
    for name in ("docs", "notebooks", "benchmarks", "lumigator_nb"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml"):
        shutil.copy(file, tmp_path)
    done = subprocess.run([sys.executable, "docs/build.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path / "build" / "site"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_has_examples_and_search_and_loads_nothing_from_elsewhere(address, chromium) -> None:
    page = chromium.new_context(viewport={"width": 1366, "height": 900}).new_page()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    for name in ("index", "five-minutes", "statistics", "notebooks/04_decide", "api/workspace"):
        page.goto(f"{address}/{name}.html", wait_until="networkidle")
    compare = page.locator("[id='lumigator_nb.workspace.Workspace.compare'] + .doc-contents, .doc-contents")
    assert "ws.compare(experiment" in compare.first.inner_text()
    page.keyboard.press("Control+k")
    page.keyboard.type("passport")
    page.get_by_text("The passport").first.wait_for()
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
    page.context.close()


def test_a_broken_anchor_ends_the_build(site: Path) -> None:
    root = site.parents[1]
    with (root / "docs" / "data.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](storage.md#no-such-heading)\n")
    done = subprocess.run([sys.executable, "docs/build.py"], cwd=root, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no-such-heading" in done.stdout + done.stderr
