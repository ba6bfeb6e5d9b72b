"""The project's own files agree with each other, and importing stays light."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lumigator_nb
from lumigator_nb import config
from lumigator_nb.cluster import versions
from lumigator_nb.specs import MetricSpec, Model, StoreSpec, Summarization, WorkflowSpec
from lumigator_nb.storage import layout, results
from lumigator_nb.storage.store import Store

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# COMET and vLLM clash with the rest; their own extras say so.
APART = {"comet", "vllm", "all"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(*extras: str) -> set[str]:
    listed = PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]
    listed += [requirement for extra in extras for requirement in EXTRAS[extra]]
    return {requirement for requirement in listed if Requirement(requirement).name != "lumigator-nb"}


def project_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_the_conda_environment_has_the_requirements_of_pyproject() -> None:
    *conda, pip = yaml.safe_load(read("environment.yml"))["dependencies"]
    assert f"python{PYPROJECT['project']['requires-python']}" in conda
    options, listed = pip["pip"][:2], pip["pip"][2:]
    assert options == ["--constraint constraints.txt", "--editable ."]
    assert len(listed) == len(set(listed))
    extras = (
        "hf",
        "api",
        "anthropic",
        "mistral",
        "llamacpp",
        "dashboard",
        "rest",
        "mcp",
        "lab",
        "s3",
        "postgres",
        "excel",
        "languages",
        "sql",
        "datasets",
        "keyring",
        "mlflow",
    )
    assert set(listed) == requirements(*extras)


def test_constraints_pin_every_requirement_within_its_bound() -> None:
    pins = {}
    for line in read("constraints.txt").splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    needed = requirements(*(EXTRAS.keys() - APART)) | set(PYPROJECT["dependency-groups"]["docs"])
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_clusters_are_held_to_the_versions_of_pyproject() -> None:
    (ray,) = (each for each in map(Requirement, PYPROJECT["project"]["dependencies"]) if each.name == "ray")
    assert str(ray.specifier) == f">={'.'.join(map(str, versions.LEAST_RAY))}"
    assert PYPROJECT["project"]["requires-python"] == f">={'.'.join(map(str, versions.LEAST_PYTHON))}"


def test_the_env_template_has_every_setting_at_its_default(tmp_path, monkeypatch) -> None:
    for name in config.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    template = read(".env.template")
    named = re.findall(r"^# ([A-Z][A-Z0-9_]+)=", template, re.MULTILINE)
    assert sorted(named) == sorted(name.upper() for name in config.Settings.model_fields)
    defaults = config.load().model_dump()
    assert config.load(ROOT / ".env.template").model_dump() == defaults
    uncommented = tmp_path / "uncommented"
    uncommented.write_text(re.sub(r"^# ([A-Z][A-Z0-9_]+=)", r"\1", template, flags=re.MULTILINE), encoding="utf-8")
    assert config.load(uncommented).model_dump() == defaults


def test_the_env_template_explains_every_setting() -> None:
    blocks = read(".env.template").split("\n\n")
    for name in config.Settings.model_fields:
        (block,) = (block for block in blocks if re.search(rf"^# {name.upper()}=", block, re.MULTILINE))
        explanation, assignment = block.strip().rsplit("\n", 1)
        assert assignment.startswith(f"# {name.upper()}=")
        assert len(explanation) > 40, name


def test_the_env_template_shows_other_defaults_than_none() -> None:
    shown = dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", read(".env.template"), re.MULTILINE))
    for name, field in config.Settings.model_fields.items():
        assert shown[name.upper()] == ("" if field.default is None else str(field.default))


def test_make_help_lists_every_target_and_pages_name_only_those() -> None:
    makefile = read("Makefile")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    shown = subprocess.check_output(["make", "--no-print-directory", "help"], cwd=ROOT, text=True)
    assert set(re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)) == targets
    for page in ("README.md", "CONTRIBUTING.md", "docs/install.md", "docs/five-minutes.md"):
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", read(page), re.MULTILINE)) <= targets, page


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_no_file_names_a_machine_or_a_registry() -> None:
    forbidden = re.compile(r"/(?:work|opt|root)/|index[-_]url|find[-_]links|(?:pypi|pythonhosted|npmjs)\.(?:org|com)")
    found = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in forbidden.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("lumigator_nb", "torch ray panel pandas sqlmodel matplotlib ipywidgets numpy pydantic"),
        (
            "lumigator_nb.engine.worker",
            "sqlmodel sqlalchemy fastapi ipywidgets panel typer ray torch matplotlib pandas",
        ),
        ("lumigator_nb.cli", "torch ray panel pandas matplotlib ipywidgets"),
    ],
)
def test_importing_loads_nothing_unwanted(module, unwanted) -> None:
    code = f"import sys, {module}; print(*sorted(set({unwanted.split()!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == []


def imported(module: str, tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the package that one imports, for types too; not the rooms that it lies in."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found & known if name != module and not module.startswith(f"{name}.")}


def test_no_module_imports_one_that_imports_it() -> None:
    paths = {path: path.relative_to(ROOT).with_suffix("") for path in (ROOT / "lumigator_nb").rglob("*.py")}
    names = {path: ".".join(parts.parts).removesuffix(".__init__") for path, parts in paths.items()}
    known = set(names.values())
    graph = {name: imported(name, ast.parse(path.read_bytes()), known) for path, name in names.items()}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_a_worker_with_a_baseline_never_loads_pandas(tmp_path) -> None:
    store = Store(StoreSpec(uri=tmp_path.as_uri()))
    with store.writing(layout.examples("d")) as file:
        pq.write_table(pa.table({"example": ["One. Two."], "ground_truth": ["One."]}), file)
    spec = WorkflowSpec(
        workflow_id="w",
        dataset=layout.examples("d"),
        n_examples=1,
        task=Summarization(),
        model=Model("baseline/lead-1"),
        metrics=(MetricSpec(name="rouge"), MetricSpec(name="length")),
    )
    results.write_spec(store, spec)
    code = (
        "import sys; from lumigator_nb.engine import worker; print(worker.main(sys.argv[1:]), 'pandas' in sys.modules);"
        "import pyarrow; print(len(pyarrow.table({'a': [1, None]}).to_pandas()))"
    )
    done = subprocess.check_output([sys.executable, "-c", code, store.spec.uri, "w"], text=True, env=os.environ)
    assert done.splitlines()[-2:] == ["0 False", "2"]


@pytest.mark.parametrize("name", lumigator_nb.__all__)
def test_every_public_name_is_there(name) -> None:
    assert getattr(lumigator_nb, name) is not None
    assert name in dir(lumigator_nb)


def test_no_function_of_a_package_hides_one_of_its_modules() -> None:
    """Whichever is imported last would win: `from package import name` then depends on who came first."""
    hidden = []
    for init in (*ROOT.glob("lumigator_nb/**/__init__.py"), *ROOT.glob("lumigator_testing/**/__init__.py")):
        modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
        made = [
            node.name for node in ast.parse(init.read_text()).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
        hidden += [f"{init.parent.name}.{name}" for name in made if name in modules]
    assert hidden == []
