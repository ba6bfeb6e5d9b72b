"""The documentation: links lead somewhere, and every page and every public name is found."""

from __future__ import annotations

import importlib.util
import json
import re
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
