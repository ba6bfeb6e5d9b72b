"""Keeps tests and notebooks away from the developer's settings, data and cluster, and removes what they leave."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nbclient import NotebookClient
from nbmake import nb_run
from waiting import PATIENCE_S

if TYPE_CHECKING:
    from lumigator_nb.cluster import JobState
    from lumigator_nb.workspace import Workspace

ROOT = Path(__file__).parent
FOLDER = pytest.StashKey[Path]()
SERVER = pytest.StashKey[str | None]()
NOTEBOOKS = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    from lumigator_nb.config import Settings

    # Several processes share the cores: threads that wait for one another would burn the time of the others.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

    # nbmake has no option for it: the kernel of a notebook has 60 s to start, which is short on busy cores.
    nb_run.NotebookClient = partial(NotebookClient, startup_timeout=PATIENCE_S)

    # A test reaches the caller's server only through `database_url`, in a database of its own.
    config.stash[SERVER] = os.environ.get("SQLALCHEMY_DATABASE_URL")
    # HF_HOME stays: it is a cache of models, and filling it takes long.
    settings = {name.upper() for name in Settings.model_fields} - {"HF_HOME"}
    for name in list(os.environ):
        if name in settings or name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") or name.startswith("AWS_"):
            del os.environ[name]
    # A short path, since Unix sockets below it allow 107 characters.
    config.stash[FOLDER] = folder = Path(tempfile.mkdtemp(prefix="lumi-"))
    os.environ["LUMIGATOR_HOME"] = str(folder / "home")
    # What the machine has must not change what a test sees; tests of the discovery turn it on.
    os.environ["LUMIGATOR_DISCOVERY"] = "false"
    config.add_cleanup(lambda: remove(folder))


def remove(folder: Path) -> None:
    try:
        end_head(folder / "home")
    finally:
        shutil.rmtree(folder)


def end_head(home: Path) -> None:
    if home.exists():
        from lumigator_nb.workspace import connect

        with connect(lumigator_home=home) as ws:
            ws.cluster.shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    notebooks = [item for item in items if getattr(item, "nbmake", False)]
    quick = quick_notebooks(notebooks)
    for item in notebooks:
        if item.path.name not in quick:
            item.add_marker(pytest.mark.slow)
    # Real clusters, browsers and servers share two cores here. What fails is tried once more, and the summary names it:
    # a test that is named there again and again has found something.
    for item in items:
        if item.get_closest_marker("integration"):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))


def quick_notebooks(notebooks: list[pytest.Item]) -> set[str]:
    """The notebooks of `make test`: the first steps, the screens and, by the number of commits, one of three others."""
    always, in_turn = (
        {"01_quickstart.ipynb", "05_interface.ipynb"},
        {"04_decide.ipynb", "06_team_setup.ipynb", "07_results_from_elsewhere.ipynb"},
    )
    others = sorted({item.path.name for item in notebooks} & in_turn)
    commits = subprocess.run(["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return always | {others[int(commits or 0) % len(others)]} if others else always


def pytest_runtest_setup(item: pytest.Item) -> None:
    stash = item.config.stash
    if getattr(item, "nbmake", False):
        # A notebook executes on a copy, from which the checkout's .env is out of sight.
        item.filename = shutil.copy(item.path, stash[FOLDER])  # type: ignore[attr-defined]
        stash[NOTEBOOKS] = True
    elif stash.get(NOTEBOOKS, False):
        # Notebooks come first. Their head, which nobody needs any more, would take its share of the cores to the end.
        stash[NOTEBOOKS] = False
        end_head(stash[FOLDER] / "home")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # Two workers must call a test the same, and what is packed in an archive holds the time of packing.
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder: the nearest `.env` would be the checkout's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def database_url(tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    """An empty database: SQLite, or a new one on the server that SQLALCHEMY_DATABASE_URL names."""
    server = pytestconfig.stash[SERVER]
    if server is None:
        yield f"sqlite:///{tmp_path / 'lumigator.db'}"
        return
    import sqlalchemy as sa

    from lumigator_nb.database.engine import Database

    admin = Database(server)
    name = f"lumi_{uuid.uuid4().hex}"
    execute = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with execute.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with execute.connect() as connection:
        # FORCE: a test that fails may leave a connection open.
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the newest schema: migrating takes 0.1 s, copying it next to nothing."""
    from lumigator_nb.database.engine import Database

    path = tmp_path_factory.mktemp("migrated") / "lumigator.db"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.close()
    return path


@pytest.fixture
def migrated_url(database_url: str, migrated_file: Path) -> str:
    """A database with the newest schema and no rows."""
    from lumigator_nb.database.engine import Database

    if database_url.startswith("sqlite:"):
        shutil.copy(migrated_file, database_url.removeprefix("sqlite:///"))
    else:
        database = Database(database_url)
        database.upgrade()
        database.close()
    return database_url


class InlineCluster:
    """Does at once what a Ray head does in the background."""

    shares_files = True
    head = "ours"

    def __init__(self) -> None:
        self.states: dict[str, JobState] = {}
        self.reachable = True
        self.execute = True

    def check(self, pickled: Iterable[str] = ()) -> None:
        pass

    def submit(
        self,
        submission_id: str,
        arguments: list[str],
        *,
        keep: Callable[[dict[str, Any]], None] | None = None,
        metadata: dict[str, str] | None = None,
        **_: object,
    ) -> None:
        self._require_reachable()
        job = {"submission_id": submission_id, "arguments": arguments, "metadata": metadata or {}}
        (keep or self._begin)({**job, "runtime_env": {"py_modules": ["gcs://package.zip"]}})

    def _begin(self, job: dict[str, Any]) -> None:
        from lumigator_nb.cluster import JobState
        from lumigator_nb.engine import worker
        from lumigator_nb.specs import Status

        self._require_reachable()
        name, metadata = job["submission_id"], job["metadata"]
        if name in self.states:
            return
        self.states[name] = JobState(Status.PENDING, metadata=metadata)
        if self.execute and "experiment" in metadata:
            code = worker.main(job["arguments"])
            self.states[name] = JobState(Status.FAILED if code else Status.SUCCEEDED, metadata=metadata)

    def post(self, jobs: Sequence[dict[str, Any]]) -> None:
        for job in jobs:
            self._begin(job)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def start(self) -> None:
        pass

    address = "http://127.0.0.1:1"

    def package(self) -> str:
        return "gcs://package.zip"

    def has_package(self, uri: str) -> bool:
        return uri == "gcs://package.zip"

    def jobs(self) -> dict[str, JobState]:
        self._require_reachable()
        return dict(self.states)

    def statuses(self, ids: list[str]) -> dict[str, JobState | None]:
        self._require_reachable()
        return {key: self.states.get(key) for key in ids}

    def stop(self, submission_id: str, *, wait: bool = True) -> None:
        from lumigator_nb.cluster import JobState
        from lumigator_nb.specs import Status

        self.states[submission_id] = JobState(Status.STOPPED)

    def logs(self, submission_id: str) -> str:
        return "from the cluster"

    def info(self) -> None:
        return None

    def secret(self) -> None:
        return None

    def _require_reachable(self) -> None:
        from lumigator_nb.errors import ClusterUnavailableError

        if not self.reachable:
            raise ClusterUnavailableError("the cluster does not answer")


@pytest.fixture(scope="session")
def inline_cluster() -> type[InlineCluster]:
    """The class, for those who make a workspace of their own; "conftest" names another file in other folders."""
    return InlineCluster


@pytest.fixture
def cluster() -> InlineCluster:
    return InlineCluster()


@pytest.fixture
def inline_ws(tmp_path: Path, migrated_url: str, cluster: InlineCluster) -> Iterator[Workspace]:
    """A workspace whose workers are called in this process, with a store in memory."""
    from lumigator_nb.config import Settings
    from lumigator_nb.database.engine import Database
    from lumigator_nb.specs import StoreSpec
    from lumigator_nb.storage.store import Store
    from lumigator_nb.workspace import Workspace

    database = Database(migrated_url)
    store = Store(StoreSpec(uri=f"memory://{tmp_path.name}"))
    yield Workspace(Settings(lumigator_max_running=10_000), database, store, cluster)
    store.delete("")
    database.close()
