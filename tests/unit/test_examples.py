"""The examples in the docstrings of public verbs are executed, and no public verb lacks one.

Python's own doctest runs them, one test per verb, in a copy of a workspace that is prepared once: the bundled
conversations (`dataset`), and an experiment with three baselines (`experiment`, `workflows`, `comparison`). Workers run
in this process. `ratings` are those of two people, `model` is asked at a server that answers by rule.
"""

from __future__ import annotations

import contextlib
import doctest
import inspect
import io
import shutil
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lumigator_nb as lm
from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.services.access.secrets import Secrets
from lumigator_nb.services.access.tokens import Tokens
from lumigator_nb.services.answer_cache import Cache
from lumigator_nb.services.datasets.datasets import Datasets
from lumigator_nb.services.experiments import Experiments
from lumigator_nb.services.labelling.labels import Labels
from lumigator_nb.services.models import Models
from lumigator_nb.services.workflows.single_jobs import Jobs
from lumigator_nb.services.workflows.workflows import Workflows
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace
from lumigator_testing import ModelServer

CLASSES = (Workspace, Datasets, Experiments, Workflows, Labels, Models, Jobs, Cache, Secrets, Tokens, lm.Comparison)
# What the REST API, screens and other services call; users have a verb that does it for them.
FOR_OTHER_ROOMS = {
    "Datasets": {"keep_generated", "names", "of"},
    "Experiments": {"create_unprompted", "create_unscored", "names", "prepare_for_job"},
    "Workflows": {"counts", "enqueue", "enqueue_alone", "of_experiments", "record_alone", "renew_waiting"}
    | {"submit_waiting"},
    "Jobs": {"settle"},
    "Cache": {"keep_to_limit"},
    "Secrets": {"check_name", "opened", "value"},
    "Tokens": {"find"},
}  # fmt: skip
FUNCTIONS = {
    "connect": lm.connect,
    "compare": lm.compare,
    "gate": lm.gate,
    "estimate": lm.estimate,
    "score": lm.score,
    "metric": lm.metric,
    "Check": lm.Check,
    "Classification": lm.Classification,
    "Judge": lm.Judge,
    "Jury": lm.Jury,
    "metrics.catalogue": lm.metrics.catalogue,
    **{f"ui.{name}": getattr(lm.ui, name) for name in lm.ui.__all__},
    **{
        f"statistics.{name}": getattr(lm.statistics, name)
        for name in lm.statistics.__all__
        if isinstance(getattr(lm.statistics, name), FunctionType)
    },
}


def verbs() -> dict[str, Any]:
    """Every public verb by its name."""
    found: dict[str, Any] = dict(FUNCTIONS)
    for owner in CLASSES:
        hidden = FOR_OTHER_ROOMS.get(owner.__name__, set())
        methods = {name: member for name, member in vars(owner).items() if inspect.isfunction(member)}
        found |= {
            f"{owner.__name__}.{name}": method
            for name, method in methods.items()
            if not name.startswith("_") and name not in hidden
        }
    return found


VERBS = verbs()


class Names(dict):
    """What examples find: made when it is asked for, since a comparison takes a second and most need none."""

    def __init__(self, ws: Workspace, server: ModelServer) -> None:
        super().__init__(lm=lm, np=np, pd=pd, ws=ws)
        self["__name__"] = "__main__"  # functions of examples are those of a notebook
        self.server = server

    def use(self, source: str) -> Names:
        """Make what the source of an example names."""
        for name in ("dataset", "experiment", "workflows", "comparison", "ratings", "model"):
            if name in source or (name != "model" and "comparison" in source):
                self[name] = getattr(self, f"_{name}")()
        return self

    def _dataset(self) -> Any:
        return self["ws"].datasets.get("dialogues")

    def _experiment(self) -> Any:
        return self["ws"].experiments.get("summaries")

    def _workflows(self) -> Any:
        return self["ws"].workflows.of("summaries")

    def _comparison(self) -> lm.Comparison:
        return self["ws"].compare("summaries")

    def _ratings(self) -> pd.DataFrame:
        """Two people rate 30 examples; they like what scores well, and differ a little."""
        scores = self["ws"].workflows
        rows = []
        for workflow in scores.of("summaries"):
            values = scores.scores(workflow)["rougeL"].to_numpy()
            for row in range(30):
                for number, rater in enumerate(("ana", "ben")):
                    rating = int(np.clip(round(1 + 8 * values[row] + (row + number) % 2), 1, 5))
                    rows.append({"row": row, "model": workflow.label, "rater": rater, "rating": rating})
        return pd.DataFrame(rows)

    def _model(self) -> lm.Model:
        return lm.Model("lead-1", provider="openai", base_url=self.server.base_url, label="a server")


def opened(home: Path, cluster: Any) -> Workspace:
    settings = Settings(lumigator_home=home)
    database = Database(settings.database_url)
    database.prepare()
    return Workspace(settings, database, Store(settings.store_spec), cluster)


@pytest.fixture(scope="module")
def quiet_cluster(inline_cluster: Any) -> Any:
    """Workers in this process whose logs do not end up among what an example prints."""

    class Quiet(inline_cluster):
        def _begin(self, job: dict[str, Any]) -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                super()._begin(job)

    return Quiet


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, quiet_cluster: Any) -> Path:
    home = tmp_path_factory.mktemp("examples") / "home"
    home.mkdir()
    with opened(home, quiet_cluster()) as ws:
        dataset = ws.datasets.sample("dialogues")
        ws.experiments.create("summaries", dataset=dataset, metrics=["rouge", "length"])
        ws.workflows.launch("summaries", ["baseline/lead-1", "baseline/lead-3", "baseline/copy"])
        ws.wait("summaries", progress=False, check=True)
    return home


@pytest.fixture(scope="module")
def server() -> Any:
    with ModelServer() as server:
        yield server


@pytest.fixture
def ws(prepared: Path, tmp_path: Path, quiet_cluster: Any, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    home = tmp_path / "home"
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    shutil.copytree(prepared, home)
    monkeypatch.setenv("LUMIGATOR_HOME", str(home))
    with opened(home, quiet_cluster()) as ws:
        yield ws


@pytest.mark.parametrize("name", VERBS)
def test_the_example_of_a_public_verb_works(name: str, ws: Workspace, server: ModelServer) -> None:
    text = inspect.getdoc(VERBS[name]) or ""
    examples = doctest.DocTestParser().get_examples(text)
    assert examples, f"{name} has no example: end its docstring with a section 'Examples:' of lines that begin with >>>"
    names = Names(ws, server).use("".join(example.source for example in examples))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=options, verbose=False)
    messages: list[str] = []
    runner.run(doctest.DocTest(examples, names, name, None, 0, text), out=messages.append, clear_globs=False)
    assert runner.failures == 0, "".join(messages)
