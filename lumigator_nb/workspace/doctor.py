"""The doctor: check settings, database, store, cluster and models, and say how to fix what is wrong."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from lumigator_nb import config
from lumigator_nb.cluster import Cluster, connect_cluster, versions
from lumigator_nb.cluster.address import jobs_api
from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database, head_revision
from lumigator_nb.display.text import count, joined, listed
from lumigator_nb.errors import LumigatorError
from lumigator_nb.models import discovery, title_of
from lumigator_nb.services.access.secrets import Secrets
from lumigator_nb.services.upkeep.inspection import Inspection, Report, inspect
from lumigator_nb.storage.store import Store
from lumigator_nb.workspace import Workspace


@dataclass(frozen=True)
class Finding:
    """The result of one check; `hint` says how to fix a problem."""

    part: str
    state: Literal["ok", "note", "wrong"]
    message: str
    hint: str | None = None


def examine() -> list[Finding]:
    """Check settings, secrets, database, store, cluster and models. Changes and starts nothing."""
    try:
        settings = config.load()
    except LumigatorError as error:
        return [Finding("settings", "wrong", error.message, error.hint)]
    file = config.find_env_file()
    findings = [Finding("settings", "ok", f"read from {file} and the environment" if file else "no .env: defaults")]
    checks: dict[str, Callable[[], Finding]] = {
        "database": lambda: _database(Database(settings.database_url)),
        "secrets": lambda: _secrets(settings),
        "store": lambda: _store(Store(settings.store_spec, settings.store_credentials)),
        "cluster": lambda: _cluster(connect_cluster(settings)),
    }
    return [*findings, *_findings(checks), *_models(settings), *_models_here(settings)]


def connections(ws: Workspace) -> list[Finding]:
    """Check the database, store and cluster of an open workspace. Starts nothing."""
    return _findings(
        {
            "database": lambda: _database(ws.database),
            "store": lambda: _store(ws.store),
            "cluster": lambda: _cluster(ws.cluster),
        }
    )


def _findings(checks: Mapping[str, Callable[[], Finding]]) -> list[Finding]:
    """Run each check; an error becomes a finding, so that one broken part does not hide the others."""
    findings = []
    for part, check in checks.items():
        try:
            findings.append(check())
        except LumigatorError as error:
            findings.append(Finding(part, "wrong", error.message, error.hint))
    return findings


def examine_deeply(report: Report) -> Inspection:
    """Read all data and results and check them against the database; see :func:`inspection.inspect`.

    Args:
        report: called with the progress: stage, number done, total.

    Raises:
        DatabaseUnavailableError: the database does not answer, or its schema is of another version.
    """
    settings = config.load()
    database = Database(settings.database_url)
    try:
        database.prepare()
        store = Store(settings.store_spec, settings.store_credentials)
        return inspect(database, store, report, secrets=Secrets(database, settings))
    finally:
        database.close()


def _database(database: Database) -> Finding:
    revision = database.revision()
    if revision == head_revision():
        return Finding("database", "ok", f"{database.label} at revision {revision}")
    if database.is_sqlite:
        message = f"{database.label} is {'empty' if revision is None else f'at revision {revision}'}"
        return Finding("database", "note", message, "the next connect upgrades it")
    database.prepare()  # raises with a hint: only SQLite is upgraded without being asked
    return Finding("database", "ok", database.label)


def _secrets(settings: Settings) -> Finding:
    database = Database(settings.database_url)
    try:
        # A database of another revision may lack the table.
        if database.revision() != head_revision():
            return Finding("secrets", "ok", "none are stored")
        secrets = Secrets(database, settings)
        names = [name for name in secrets.names() if secrets.value(name)]
    finally:
        database.close()
    return Finding("secrets", "ok", f"can be decrypted: {', '.join(names)}" if names else "none are stored")


def _store(store: Store) -> Finding:
    store.check()
    return Finding("store", "ok", f"{store.spec.uri} can be written and read")


def _cluster(cluster: Cluster) -> Finding:
    info = cluster.info()
    if info is None:
        return Finding("cluster", "note", "no local Ray head", "it starts with the first launch, or: lumigator-nb up")
    message = f"{info}; Ray {info.ray_version}, Python {info.python_version}"
    if info.is_local:
        return Finding("cluster", "ok", message)
    if wrong := versions.misfit(info.ray_version, info.python_version):
        return Finding("cluster", "wrong", f"{message}: {wrong[0]}", wrong[1])
    here = platform.python_version()
    if versions.minor(info.python_version) != versions.minor(here):
        # Functions travel by cloudpickle, whose bytecode another minor version of Python cannot read.
        hint = "use the same minor version on both sides, or put such functions into an installed package"
        return Finding("cluster", "note", f"{message}; metrics that are functions need Python {here} there", hint)
    return Finding("cluster", "ok", message)


def _models(settings: Settings) -> Iterator[Finding]:
    # find_spec() instead of imports: torch alone takes seconds to import.
    yield Finding("models", "ok", "baseline models need nothing")
    missing = [package for package in ("torch", "transformers", "accelerate") if find_spec(package) is None]
    if missing:
        hint = "pip install 'lumigator-nb[hf]'"
        yield Finding("models", "note", f"Hugging Face models need {', '.join(missing)}", hint)
    else:
        yield Finding("models", "ok", "Hugging Face models can be loaded")
    if find_spec("any_llm") is None:
        yield Finding("models", "note", "models behind APIs need any-llm", "pip install 'lumigator-nb[api]'")
        return
    names = sorted(name for name in {**settings.env_file_variables, **os.environ} if name.endswith("_API_KEY"))
    keys = f"keys: {', '.join(names)}" if names else "no API key is set"
    yield Finding("models", "ok", f"models behind APIs can be used; {keys}", None if names else "put keys into .env")


def _models_here(settings: Settings) -> Iterator[Finding]:
    """Say which models this machine has already, and what answers in place of a model server."""
    try:
        is_elsewhere = jobs_api(settings) is not None
        if not settings.lumigator_discovery or is_elsewhere:
            why = "the cluster is elsewhere" if is_elsewhere else "LUMIGATOR_DISCOVERY is off"
            yield Finding("models", "ok", f"servers and weights of this machine are not looked for: {why}")
            return
        found = discovery.look(settings)
    except LumigatorError as error:
        yield Finding("models", "wrong", error.message, error.hint)
        return
    silent = []
    for check in found.servers:
        title, port = title_of(check.server.provider), check.server.port
        if check.models:
            message = f"{title} at port {port}: {listed([model.name for model in check.models])}"
            yield Finding("models", "ok", message)
        elif check.problem:
            hint = "if it is another program, name the right ports in LUMIGATOR_MODEL_SERVERS"
            yield Finding("models", "note", f"port {port}, the usual one of {title}: it {check.problem}", hint)
        else:
            silent.append(f"{port} ({title})")
    if silent:
        yield Finding("models", "ok", f"no server at {'port' if len(silent) == 1 else 'ports'} {joined(silent)}")
    if found.cached:
        names = listed([model.name for model in found.cached])
        yield Finding("models", "ok", f"in the hub's cache {found.hub_cache}: {names}")
    if found.folder is not None and not found.folder.is_dir():
        message = f"LUMIGATOR_GGUF_FOLDER names {found.folder}, which is no folder"
        yield Finding("models", "wrong", message, "correct the setting, or remove it")
    elif found.folder is not None:
        yield Finding("models", "ok", f"in {found.folder}: {count(len(found.files), 'GGUF file')} with a model")
