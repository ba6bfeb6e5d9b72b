"""Builds the documentation site into build/site: ``make docs``.

The pages are written to be read in the repository, too: they link to each other, to notebooks and to files beside docs/
as these lie there. This collects them in one folder, turns notebooks into pages, corrects the links, and has Zensical
build the site. A broken link, an unknown anchor or a name that the API reference does not find ends it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "docs"
# Files beside docs/ that are pages of the site.
BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/results.md": "benchmark-results.md",
}
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(\))")


def pages() -> dict[str, str]:
    """The files of the repository that belong to the site, and where each lies in it."""
    found = {f"docs/{path}": str(path) for path in files_below(ROOT / "docs") if path.suffix in (".md", ".png", ".css")}
    notebooks = {f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    return found | notebooks | BESIDE


def files_below(folder: Path) -> list[PurePosixPath]:
    return [PurePosixPath(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def page_of(notebook: str) -> str:
    """Return a notebook as Markdown; notebooks are committed without outputs, so there is nothing else in it."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(notebook)["cells"]]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells) + "\n"


def linked(text: str, source: str, places: dict[str, str]) -> str:
    """Return a page whose links lead to where files lie in the site."""

    def corrected(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(source).parent / match[2])
        if target not in places:
            raise SystemExit(f"{source}: {match[2]} is no page of the site")
        place = os.path.relpath(places[target], PurePosixPath(places[source]).parent)
        return f"{match[1]}{place}{match[3] or ''}{match[4]}"

    # Every other part lies between fences, where brackets are code.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else CODE.sub(unescaped, LINK.sub(corrected, part)) for part in parts)


def unescaped(code: re.Match[str]) -> str:
    """GitHub asks for a backslash before a | in code within a table; Python-Markdown shows it."""
    return code[0].replace(r"\|", "|")


def collect() -> None:
    shutil.rmtree(SOURCE, ignore_errors=True)
    places = pages()
    for source, place in places.items():
        target = SOURCE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix != ".md":
            shutil.copy(ROOT / source, target)
            continue
        text = (ROOT / source).read_text(encoding="utf-8")
        target.write_text(
            linked(page_of(text) if source.endswith(".ipynb") else text, source, places), encoding="utf-8"
        )


def main() -> int:
    collect()
    zensical = Path(sys.executable).with_name("zensical")
    return subprocess.run([zensical, "build", "--clean", "--strict", "-f", ROOT / "mkdocs.yml"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
