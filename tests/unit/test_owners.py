"""Facts live with their owners: what a metric or provider is stands in its class, and its name nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lumigator_nb import models
from lumigator_nb.metrics import registry

PACKAGE = Path(__file__).parents[2] / "lumigator_nb"
ROOMS = ("metrics/", "models/providers/")
# Names that are ordinary words of code as well, such as the type of a column, a way to export, or an axis.
WORDS = {"azure", "check", "classification", "github", "judge", "json", "length", "llama", "meta", "together"}
# Where a name may stand outside its room, and why.
ALLOWED = {
    "dashboards/pages/launch.py": "models that empty fields show as an example",
    "eval_logs/inspect_ai.py": "what Inspect calls its overall scores",
    "models/discovery.py": "the kinds of model servers, and of weights in the cache of the hub",
    "models/prices.py": "the names that genai-prices has for providers",
    "rest/wire/documents.py": "Lumigator's names for a metric's values",
    "rest/wire/examples.py": "requests and answers that the documentation of the REST API shows",
    "rest/wire/schemas.py": "defaults, examples and words of Lumigator's wire format",
    "rest/wire/translation.py": "Lumigator's requests: settings of Hugging Face models, G-Eval, OpenAI's protocol",
    "services/comparison/judge_reports.py": "families of models, some of which are called as their makers",
    "specs.py": "Model.from_function, and specifications that have a title where their metric is not installed",
    "widgets/launch.py": "models that empty fields show as an example",
    "workspace/quickstart.py": "the models of the quickstart",
}
# Columns of tables, not providers.
COLUMNS = {
    "baseline": {
        *(
            f"services/comparison/{name}.py"
            for name in ("decision_charts", "decisions", "gate_report", "recommendation", "report")
        ),
        "workspace/gate_files.py",  # the key of the model that a candidate is compared with
    },
}


def names() -> set[str]:
    scores = {info.name for cls in registry._METRICS.values() for info in getattr(cls, "infos", ())}
    return (set(registry._METRICS) | scores | set(models.base.provider_names())) - WORDS


def literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """All texts of a module but its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def named(path: Path, known: set[str]) -> list[tuple[int, str]]:
    """The lines of a module where a metric, score or provider is named, or a model of a provider."""
    found = []
    for node in literals(ast.parse(path.read_text(encoding="utf-8"))):
        first, slash, _ = node.value.partition("/")
        if node.value in known or (slash and first in known and " " not in node.value):
            found.append((node.lineno, node.value))
    return found


def modules() -> list[Path]:
    return [
        path for path in sorted(PACKAGE.rglob("*.py")) if not path.relative_to(PACKAGE).as_posix().startswith(ROOMS)
    ]


def test_metrics_and_providers_are_named_in_their_rooms_alone():
    known, strays = names(), []
    for path in modules():
        where = path.relative_to(PACKAGE).as_posix()
        if where not in ALLOWED:
            found = [(line, name) for line, name in named(path, known) if where not in COLUMNS.get(name, ())]
            strays += [f"{where}:{line}: {name!r}" for line, name in found]
    assert not strays, "make it an attribute of the metric's or the provider's class:\n" + "\n".join(strays)


@pytest.mark.parametrize("where", sorted(ALLOWED))
def test_no_place_is_allowed_that_names_nothing(where):
    assert named(PACKAGE / where, names())
