"""The documentation: links that lead somewhere, pages that are found, a site that loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

import lumigator_nb as lm

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")])
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    """The prose of a page, or of a notebook's Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    return FENCED.sub("", text)


@cache
def anchors(page: Path) -> set[str]:
    """What can stand behind the # of a link: the headings, in small letters with hyphens."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert len(navigation) == len(set(navigation))
    assert set(navigation) == {place for place in build().pages().values() if place.endswith(".md")}


def test_every_public_name_is_in_the_api_reference() -> None:
    reference = "\n".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    names = {each for each in lm.__all__ if not each.startswith("__")} - {"Task", "Status", "LumigatorError"}
    homes = {"errors": "errors", "metrics": "metrics.registry.catalogue", "ui": "widgets", "statistics": "statistics"}
    assert [
        name for name in names if not re.search(rf"::: lumigator_nb\.[\w.]*{homes.get(name, name)}\b", reference)
    ] == []


def build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path) -> None:
    pytest.importorskip("zensical", reason="make docs installs what builds the site")
    for name in ("docs", "notebooks", "benchmarks", "lumigator_nb"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml"):
        shutil.copy(file, tmp_path)
    done = subprocess.run([sys.executable, "docs/build.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    assert 'id="lumigator_nb.workspace.Workspace.compare"' in (site / "api" / "workspace.html").read_text()
    loads = re.compile(r"""(?:<(?:script|img|link|iframe)[^>]*(?:src|href)=|url\()["']?(https?:[^"')>\s]+)""")
    for page in (*site.rglob("*.html"), *site.rglob("*.css")):
        assert loads.findall(page.read_text()) == [], page
