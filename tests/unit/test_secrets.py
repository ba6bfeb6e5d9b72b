from __future__ import annotations

import base64
import copy
import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from waiting import PATIENCE_S

import lumigator_nb as lm
from lumigator_nb import config
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Experiment
from lumigator_nb.errors import (
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    SecretError,
    StoreUnavailableError,
)
from lumigator_nb.security import redaction
from lumigator_nb.security.vault import FILE, SealingKey, Vault
from lumigator_nb.services.access.secrets import MOST_BYTES, Secrets, redactor_of
from lumigator_nb.specs import Status
from lumigator_nb.storage import layout
from lumigator_nb.workspace import Workspace
from lumigator_testing import ModelServer

VALUE = "sk-canary-0123456789abcdef"
TEXT, OTHER = "a long text that nobody guesses", "another text, just as long"
NAME = "CANARY_API_KEY"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home without keys, for all of a test's workspaces."""
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(NAME, raising=False)
    return tmp_path / "home"


@pytest.fixture
def database(migrated_url):
    made = Database(migrated_url)
    yield made
    made.close()


@pytest.fixture
def secrets(database) -> Secrets:
    return Secrets(database, config.load())


def again(secrets: Secrets, **settings: str) -> Secrets:
    """The same database as another process would see it."""
    return Secrets(secrets._database, config.load(**settings))


def test_secrets_are_kept_listed_replaced_and_deleted(secrets) -> None:
    assert list(secrets.list().columns) == ["name", "description", "created_at", "updated_at", "overridden"]
    assert secrets.value(NAME) is None
    secrets.set("canary_api_key", VALUE, description="for tests")
    assert again(secrets).value("Canary_Api_Key") == VALUE
    secrets.set(NAME, SecretStr("another value"))
    (row,) = secrets.list().to_dict("records")
    assert (row["name"], row["description"], row["overridden"]) == (NAME, "for tests", False)
    assert row["created_at"] < row["updated_at"]
    assert secrets.value(NAME) == "another value"
    secrets.set("B_TOKEN", VALUE, description="second")
    assert secrets.names() == ["B_TOKEN", NAME]
    secrets.delete("b_token")
    with pytest.raises(NotFoundError, match=f"known: {NAME}"):
        secrets.delete("B_TOKEN")


@pytest.mark.parametrize("name", ["", "sk-0123456789", "A=B", "1A", "ß_KEY", "A" * 256, "A\n", "A B", None])
def test_what_is_no_name_is_refused_without_being_repeated(secrets, name) -> None:
    for act in (lambda: secrets.set(name, VALUE), lambda: secrets.delete(name)):
        with pytest.raises(InvalidInputError, match="the name of a secret") as caught:
            act()
        assert not name or len(name) < 4 or name not in str(caught.value)
        assert VALUE not in str(caught.value)


@pytest.mark.parametrize("name", ["lumigator_secret_key", "LUMIGATOR_OLD_SECRET_KEY", "aws_secret_access_key"])
def test_settings_are_no_secrets(secrets, name) -> None:
    with pytest.raises(InvalidInputError, match="is a setting"):
        secrets.set(name, VALUE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("x" * (MOST_BYTES + 1), "has 65,537 bytes"),
        ("ä" * (MOST_BYTES // 2 + 1), "has 65,538 bytes"),
        (f"{VALUE}\0", "no environment variable can hold"),
        (f"{VALUE}\udc80", "no environment variable can hold"),
        (5, "is not a text"),
        (None, "is not a text"),
    ],
)
def test_values_that_cannot_be_used_are_refused(secrets, value, message) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        secrets.set(NAME, value)
    assert VALUE not in str(caught.value)
    assert secrets.names() == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [(f"{VALUE}\r\n\n", VALUE), (" inside \n and out ", " inside \n and out "), ("x" * MOST_BYTES, "x" * MOST_BYTES)],
)
def test_line_breaks_at_the_end_go_and_all_else_stays(secrets, given, kept) -> None:
    secrets.set(NAME, given)
    assert secrets.value(NAME) == kept


def test_a_description_holds_no_secret(secrets) -> None:
    with pytest.raises(InvalidInputError, match="the description holds the value of") as caught:
        secrets.set(NAME, VALUE, description=f"it is {VALUE}")
    assert VALUE not in str(caught.value)
    assert secrets.names() == []


def test_the_environment_wins_over_the_file_and_the_file_over_the_database(database, tmp_path, monkeypatch) -> None:
    file = tmp_path / ".env"
    file.write_text("")
    settings = config.load(file)
    stored = Secrets(database, settings)
    settings.look_in(stored)
    assert settings.variable(NAME) is None
    Secrets(database, config.load()).set(NAME, "from elsewhere")
    assert settings.variable(NAME) == "from elsewhere"
    file.write_text(f"{NAME}=from the file\n")
    assert settings.variable(NAME) == "from the file"
    monkeypatch.setenv(NAME, "from the environment")
    assert settings.variable(NAME) == "from the environment"
    assert settings.having([NAME, "NOTHING"]) == {NAME}
    assert stored.list()["overridden"].tolist() == [True]


def test_a_lost_key_is_named_with_what_to_do(secrets, home) -> None:
    secrets.set(NAME, VALUE)
    secrets.set("B_TOKEN", "something else")
    (lost,) = Vault(home).ids()
    kept = (home / FILE).rename(home / "kept")
    with pytest.raises(SecretError, match=f"{NAME} is sealed by key {lost}, which is not here") as caught:
        again(secrets).value(NAME)
    assert "restore the key file" in caught.value.hint
    # Nobody seals by a second key what a team shares, and none is made.
    with pytest.raises(SecretError, match="is not here"):
        again(secrets).set("C_TOKEN", VALUE)
    with pytest.raises(SecretError, match="is not here"):
        again(secrets).rotate()
    assert not (home / FILE).exists()
    assert again(secrets).opened() == {}
    assert again(secrets).names() == ["B_TOKEN", NAME]
    kept.rename(home / FILE)
    assert again(secrets).value(NAME) == VALUE
    (home / FILE).unlink()
    for name in secrets.names():
        again(secrets).delete(name)
    again(secrets).set(NAME, "anew")
    assert again(secrets).value(NAME) == "anew"


def test_a_wrong_text_is_a_clear_error_never_garbage(secrets) -> None:
    again(secrets, lumigator_secret_key=TEXT).set(NAME, VALUE)
    with pytest.raises(SecretError, match=r"is sealed by key [0-9a-f]{16}, which is not here \(here: [0-9a-f]{16}\)"):
        again(secrets, lumigator_secret_key=OTHER).value(NAME)
    with pytest.raises(SecretError, match="is not here"):
        again(secrets).value(NAME)
    with pytest.raises(ConfigurationError, match="too short"):
        again(secrets, lumigator_secret_key="short").value(NAME)


def test_a_row_copied_onto_another_name_does_not_open(secrets) -> None:
    secrets.set(NAME, VALUE)
    secrets.set("B_TOKEN", "harmless")
    with writing(secrets._database) as work:
        work.secrets.get("B_TOKEN").sealed = work.secrets.get(NAME).sealed
    with pytest.raises(SecretError, match="B_TOKEN does not open"):
        secrets.value("B_TOKEN")
    assert secrets.opened() == {NAME: VALUE}


def rows(secrets: Secrets) -> dict[str, tuple[str, str]]:
    with reading(secrets._database) as work:
        return {row.name: (row.key_id, row.sealed) for row in work.secrets.all()}


def test_rotation_seals_all_anew_by_another_key(secrets, home) -> None:
    assert secrets.rotate() == 0
    for number in range(3):
        secrets.set(f"KEY_{number}", f"value {number}")
    before, updated = rows(secrets), secrets.list()["updated_at"]
    stolen = (home / FILE).read_text()
    assert secrets.rotate() == 3
    after = rows(secrets)
    assert {key for key, _ in after.values()} == {Vault(home).current().id}
    assert not {sealed for _, sealed in before.values()} & {sealed for _, sealed in after.values()}
    pd.testing.assert_series_equal(secrets.list()["updated_at"], updated)
    assert again(secrets).opened() == {f"KEY_{number}": f"value {number}" for number in range(3)}
    (home / FILE).write_text(stolen)
    assert again(secrets).opened() == {}


@pytest.mark.parametrize("moment", ["renew", "commit"])
def test_whoever_is_killed_while_rotating_finds_everything_openable(database, tmp_path, moment, database_url) -> None:
    secrets = Secrets(database, config.load())
    for number in range(3):
        secrets.set(f"KEY_{number}", f"value {number}")
    hook = {
        "renew": "Vault.renew, target = kill, Vault.renew",
        "commit": "secrets.SealingKey.seal = kill",
    }[moment]
    code = f"""
import os
from lumigator_nb import config; from lumigator_nb.security import vault
from lumigator_nb.database.engine import Database
from lumigator_nb.services.access import secrets
from lumigator_nb.security.vault import Vault
def kill(*arguments):
    if {moment == "renew"}: target(*arguments)
    os._exit(9)
{hook}
secrets.Secrets(Database({database_url!r}), config.load()).rotate()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 9
    expected = {f"KEY_{number}": f"value {number}" for number in range(3)}
    assert again(secrets).opened() == expected
    secrets.set("KEY_0", "value 0")
    assert again(secrets).rotate() == 3
    assert again(secrets).opened() == expected
    assert len({key for key, _ in rows(secrets).values()}) == 1


def test_a_rotation_that_fails_changes_nothing(secrets, home) -> None:
    secrets.set(NAME, VALUE)
    secrets.set("Z_TOKEN", "something else")
    with writing(secrets._database) as work:
        work.secrets.get("Z_TOKEN").sealed = "1.AAAA"
    before, ids = rows(secrets), Vault(home).ids()
    with pytest.raises(SecretError, match="Z_TOKEN does not open"):
        secrets.rotate()
    assert (rows(secrets), Vault(home).ids()) == (before, ids)


def test_from_a_key_file_to_a_text_and_on_to_another(secrets, monkeypatch) -> None:
    secrets.set(NAME, VALUE)
    team = again(secrets, lumigator_secret_key=TEXT)
    assert team.value(NAME) == VALUE
    assert team.rotate() == 1
    with pytest.raises(SecretError, match="nothing to do") as caught:
        team.rotate()
    assert TEXT not in str(caught.value)
    monkeypatch.setenv("LUMIGATOR_OLD_SECRET_KEY", TEXT)
    assert again(secrets, lumigator_secret_key=OTHER).rotate() == 1
    monkeypatch.delenv("LUMIGATOR_OLD_SECRET_KEY")
    assert again(secrets, lumigator_secret_key=OTHER).value(NAME) == VALUE
    with pytest.raises(SecretError):
        team.value(NAME)


def test_who_reads_sets_and_rotates_at_once_never_sees_anything_else(secrets) -> None:
    secrets.set(NAME, VALUE)

    def act(number: int) -> str | None:
        mine = again(secrets)
        if number % 4 == 0:
            mine.rotate()
        elif number % 4 == 1:
            mine.set(f"KEY_{number % 3}", f"value {number % 3}")
        return mine.value(NAME)

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(act, range(24))) == {VALUE}
    expected = {f"KEY_{number}": f"value {number}" for number in range(3)}
    assert again(secrets).opened() == {NAME: VALUE, **expected}


# --- Where a value could leak to ---


def frames(error: BaseException | None) -> str:
    """What a traceback that shows variables would show, of all functions below the test's own."""
    found: list[str] = []
    while error is not None:
        trace = error.__traceback__
        while trace:
            if not trace.tb_frame.f_code.co_filename.endswith("test_secrets.py"):
                found += [f"{name}={value!r}" for name, value in trace.tb_frame.f_locals.items()]
            trace = trace.tb_next
        found.append(f"{error!r} {error}")
        error = error.__cause__
    return "\n".join(found)


def test_no_variable_of_a_failing_call_holds_the_value(secrets, monkeypatch) -> None:
    canary = VALUE
    with pytest.raises(InvalidInputError) as caught:
        secrets.set("no name", canary)
    assert VALUE not in frames(caught.value)
    for broken in ((Database, "session"), (SealingKey, "seal")):
        with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError) as stopped:
            patched.setattr(*broken, lambda *_, **__: 1 / 0)
            secrets.set(NAME, canary)
        assert VALUE not in frames(stopped.value)


def test_statements_that_are_echoed_hold_the_sealed_text_only(database_url, caplog) -> None:
    database = Database(database_url)
    database.upgrade()
    database.engine.echo = "debug"
    secrets = Secrets(database, config.load())
    with caplog.at_level(logging.DEBUG):
        secrets.set(NAME, VALUE)
        secrets.set(NAME, f"{VALUE}!")
        secrets.rotate()
        assert secrets.value(NAME) == f"{VALUE}!"
        (_, sealed) = rows(secrets)[NAME]
    database.close()
    assert "INSERT INTO secret" in caplog.text
    assert sealed in caplog.text
    assert VALUE not in caplog.text


def test_nothing_shows_copies_or_pickles_a_value(secrets) -> None:
    secrets.set(NAME, VALUE)
    settings = secrets._settings
    settings.look_in(secrets)
    with reading(secrets._database) as work:
        row = work.secrets.get(NAME)
    for each in (secrets, settings, row, redactor_of(settings), secrets.list(), vars(secrets), vars(settings)):
        for text in (repr(each), str(each), getattr(each, "_repr_html_", str)()):
            assert VALUE not in text
    assert NAME in secrets._repr_html_()
    assert VALUE not in row.model_dump_json()
    for each in (secrets, settings, [secrets]):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each)
        with pytest.raises(TypeError, match="not pickled"):
            copy.deepcopy(each)


@pytest.fixture(scope="module")
def server():
    with ModelServer(api_key=VALUE) as started:
        yield started


@pytest.fixture
def ws(inline_ws, cluster, monkeypatch) -> Workspace:
    """A workspace whose workers open sealed keys as a node of a cluster does."""
    inline_ws.settings.look_in(Secrets(inline_ws.database, inline_ws.settings))
    cluster.told, cluster.sealed = [], []
    cluster.secret = lambda: "the nodes' token"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the nodes' token")
    begin = cluster._begin

    def as_on_a_node(job: dict[str, Any]) -> None:
        cluster.told.append(repr(job))
        cluster.sealed.append(inline_ws.store.find(layout.sealed_keys(job["arguments"][1])))
        before = dict(os.environ)
        begin(job)
        os.environ.clear()
        os.environ.update(before)

    cluster._begin = as_on_a_node
    return inline_ws


def asked(server: ModelServer, name: str = "lead-1") -> lm.Model:
    return lm.Model(name, provider="openai", base_url=server.base_url, api_key_name=NAME, retry_for=0)


def experiment_on(ws: Workspace, **options: object) -> Experiment:
    frame = pd.DataFrame({"example": ["The cup broke. We sent one."] * 4, "ground_truth": ["A cup broke."] * 4})
    dataset = ws.datasets.find("cases") or ws.datasets.upload(frame, name="cases")
    return ws.experiments.create("e", dataset=dataset, metrics=["rouge"], **options)


def written(ws: Workspace) -> bytes:
    """All that is in the store, in the database's rows, and in its file with the write-ahead log."""
    found = [name.encode() + ws.store.read(name) for name in ws.store.list("")]
    with ws.database.engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            found += [repr(tuple(row)).encode() for row in connection.execute(sa.text(f"SELECT * FROM {table}"))]
    if ws.database.is_sqlite:
        file = Path(ws.database.engine.url.database)
        found += [path.read_bytes() for path in file.parent.glob(f"{file.name}*")]
    return b"\n".join(found)


def test_a_stored_key_reaches_the_worker_and_nothing_that_lasts(ws, cluster, server, tmp_path, caplog, capfd) -> None:
    experiment = experiment_on(ws)
    with pytest.raises(ConfigurationError, match=f"{NAME} is not set"):
        ws.workflows.launch(experiment, [asked(server)])
    Secrets(ws.database, config.load()).set(NAME, VALUE)
    with caplog.at_level(logging.DEBUG):
        workflows = ws.wait(ws.workflows.launch(experiment, [asked(server)]), progress=False)
    (workflow,) = workflows
    assert workflow.status is Status.SUCCEEDED, workflow.error
    (sealed,) = cluster.sealed
    assert redaction.unseal(sealed) == {NAME: VALUE}
    assert not ws.store.exists(layout.sealed_keys(workflow.id))
    comparison = ws.compare(experiment)
    report = comparison.export(tmp_path / "report.html").read_text()
    shown = [repr(each) for each in (ws, ws.settings, workflow, workflow.model, experiment, comparison, *cluster.told)]
    shown += [each._repr_html_() for each in (ws, workflow, experiment, comparison)]
    shown += [str(ws.workflows.logs(workflow)), report, caplog.text, *capfd.readouterr()]
    shown.append(pickle.dumps(ws.models.list(provider="openai")).decode("latin-1"))
    assert VALUE not in "\n".join(shown)
    for spelling in (VALUE, base64.b64encode(VALUE.encode()).decode()[:-4], VALUE.encode().hex()):
        assert spelling.encode() not in written(ws) + sealed
    assert NAME not in os.environ


def test_a_provider_that_repeats_the_key_is_silenced(ws, server) -> None:
    wrong = "sk-wrong-0123456789abcdef"
    Secrets(ws.database, ws.settings).set(NAME, wrong)
    (workflow,) = ws.wait(ws.workflows.launch(experiment_on(ws), [asked(server)]), progress=False)
    assert workflow.status is Status.FAILED
    assert f"[{NAME} removed]" in f"{workflow.error} {ws.workflows.logs(workflow)}"
    assert wrong.encode() not in written(ws)
    assert wrong not in f"{workflow.error} {ws.workflows.logs(workflow)}"


def test_what_is_asked_here_finds_the_stored_key_and_its_traceback_does_not_show_it(ws, server) -> None:
    Secrets(ws.database, ws.settings).set(NAME, VALUE)
    submitter = ws.workflows.submitter
    with pytest.raises(ZeroDivisionError) as caught, submitter.keys_in_environment(asked(server)):
        assert os.environ[NAME] == VALUE
        _ = 1 / 0
    assert NAME not in os.environ
    assert VALUE not in frames(caught.value)
    assert submitter.redact(f"it is {VALUE}") == f"it is [{NAME} removed]"


def test_a_store_that_fails_while_keys_are_handed_over_shows_none(ws, server, monkeypatch) -> None:
    Secrets(ws.database, ws.settings).set(NAME, VALUE)
    write = ws.store.write

    def failing(name: str, content: bytes) -> None:
        if name.endswith("keys.sealed"):
            raise StoreUnavailableError("full")
        write(name, content)

    monkeypatch.setattr(ws.store, "write", failing)
    with pytest.raises(StoreUnavailableError) as caught:
        ws.workflows.launch(experiment_on(ws), [asked(server)])
    assert VALUE not in frames(caught.value)


def test_a_lost_key_stops_only_what_needs_it(ws, server, home) -> None:
    Secrets(ws.database, ws.settings).set(NAME, VALUE)
    (home / FILE).unlink()
    experiment = experiment_on(ws)
    assert len(ws.models.list()) > 0
    with pytest.raises(SecretError, match="which is not here"):
        ws.workflows.launch(experiment, [asked(server)])
    (workflow,) = ws.wait(ws.workflows.launch(experiment, ["baseline/copy"]), progress=False)
    assert workflow.status is Status.SUCCEEDED


@pytest.mark.parametrize("where", ["task", "description"])
def test_a_stored_secret_in_a_text_that_lasts_is_refused(ws, where) -> None:
    secrets = Secrets(ws.database, ws.settings)
    secrets.set(NAME, VALUE)
    with pytest.raises(InvalidInputError, match=f"the value of {NAME}") as caught:
        if where == "task":
            experiment_on(ws, task=lm.Summarization(f"Use {VALUE}."))
        secrets.set("B_TOKEN", "something", description=f"not {VALUE}")
    assert VALUE not in str(caught.value)


def test_no_name_description_prompt_or_address_that_lasts_holds_a_secret(ws, tmp_path) -> None:
    experiment = experiment_on(ws)
    Secrets(ws.database, ws.settings).set(NAME, VALUE)
    frame, text = pd.DataFrame({"example": ["One."] * 4, "ground_truth": ["1"] * 4}), f"about {VALUE}"
    (tmp_path / f"{VALUE}.csv").write_text("example\nOne.\n")
    labels = pd.DataFrame({"row": [0], "model": ["m"], "rating": [1], "rater": ["ada"], "comment": [text]})

    def recorded(name: str):
        return ws.workflows.record(experiment, name=name, predictions=pd.DataFrame({"prediction": ["x"] * 4}))

    recorded("m")
    openai = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1"}
    places = {
        "dataset": lambda: ws.datasets.upload(frame, name=text),
        "file": lambda: ws.datasets.upload(tmp_path / f"{VALUE}.csv"),
        "part": lambda: ws.datasets.draw("cases", 2, name=text),
        "experiment": lambda: ws.experiments.create(text, dataset="cases", metrics=["rouge"]),
        "description": lambda: ws.experiments.create("f", dataset="cases", metrics=["rouge"], description=text),
        "model": lambda: ws.workflows.launch(experiment, [lm.Model(text, **openai)]),
        "label": lambda: ws.workflows.launch(experiment, [lm.Model("baseline/copy", label=text)]),
        "prompt": lambda: ws.workflows.launch(experiment, [lm.Model("m", prompt=text, **openai)]),
        "base_url": lambda: ws.workflows.launch(experiment, [lm.Model("openai/m", base_url=f"http://h/{VALUE}/v1")]),
        "option": lambda: ws.workflows.launch(experiment, [lm.Model("m", extra={"user": text}, **openai)]),
        "race": lambda: ws.select(experiment, [lm.Model("m", prompt=text, **openai), "baseline/copy"], progress=False),
        "workflow": lambda: ws.workflows.enqueue(experiment, ["baseline/copy"], description=text),
        "predictions": lambda: recorded(text),
        "job": lambda: ws.jobs.infer("cases", "baseline/copy", name=text),
        "annotated": lambda: ws.jobs.annotate("cases", "baseline/copy", description=text),
        "token": lambda: ws.tokens.create(text),
        "comment": lambda: ws.labels.add(experiment, labels),
        "package": lambda: ws.load(tmp_path / "none.lumi.zip", name=text),
    }
    for place, store in places.items():
        with pytest.raises(InvalidInputError, match=f"holds the value of {NAME}") as caught:
            store()
        assert VALUE not in str(caught.value), place
    assert VALUE.encode() not in written(ws)


@pytest.mark.parametrize("name", [
    "LD_PRELOAD", "path", "PYTHONPATH", "PYTHONSTARTUP", "HTTPS_PROXY", "HOME", "BASH_ENV", "DYLD_INSERT_LIBRARIES",
    "RAY_AUTH_TOKEN", "OPENAI_BASE_URL", "SSL_CERT_FILE", "GIT_SSH_COMMAND", "NODE_OPTIONS", "HF_ENDPOINT",
])  # fmt: skip
def test_what_changes_how_programs_work_is_no_secret(secrets, name) -> None:
    with pytest.raises(InvalidInputError, match="changes what programs do"):
        secrets.set(name, VALUE)
    assert secrets.names() == []


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "HF_TOKEN", "GITHUB_TOKEN", "TEAM_SECRET", "AWS_BEARER_TOKEN_BEDROCK"]
)
def test_keys_keep_their_names(secrets, name) -> None:
    assert secrets.check_name(name.lower()) == name


def test_a_remote_cluster_shares_no_keyring() -> None:
    assert config.load(lumigator_secret_key="keyring:").node_secret is None
    assert config.load(lumigator_secret_key=TEXT).node_secret == TEXT
    assert config.load().node_secret is None
