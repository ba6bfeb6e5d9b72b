"""Every past schema with data in it goes to the present one and back, and nothing is lost on the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from processes import context as processes_context

from lumigator_nb.database.engine import Database, head_revision, revisions
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Dataset, Experiment, Workflow
from lumigator_nb.errors import DatabaseUnavailableError, InvalidInputError
from lumigator_nb.specs import Model, Summarization

PAST = sorted(revision for revision, _ in revisions())
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = Model("baseline/lead-1").model_dump(mode="json")
# What a row of each column holds where its type alone does not tell; by table and column.
VALUES: dict[tuple[str, str], Any] = {
    ("dataset", "columns"): {"example": "body"},
    ("dataset", "profile"): {"has_ground_truth": True, "first": ["quote ' and ü 🙂"]},
    ("dataset", "notes"): ["a note"],
    ("experiment", "task"): Summarization("It's “short”").model_dump(mode="json"),
    ("experiment", "metrics"): [{"name": "rouge", "options": {}}],
    ("workflow", "model"): MODEL,
    ("workflow", "status"): "succeeded",
    ("job", "status"): "succeeded",
    ("job", "scores"): {"rougeL": 0.1 + 0.2},
    ("label", "kind"): "preference",
    ("experiment", "purpose"): "comparison",
    ("experiment", "sample"): {"n": 1, "of": 2, "seed": 0},
    ("token", "scope"): "read",
}
STEPS = ("inference", "evaluation")
KEYS = {"secret": "name", "reply": "key"}
N = 3


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    yield made
    made.close()


def reflected(connection: sa.Connection) -> sa.MetaData:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return metadata


def value(column: sa.Column, number: int) -> Any:
    name, table = column.name, column.table.name
    if (table, name) in VALUES:
        return VALUES[table, name]
    for key in column.foreign_keys:
        return f"{key.column.table.name}-{number // 2 if table == 'job' else number}"
    if name == "id":
        return f"{table}-{number}"
    if name == "step":
        return STEPS[number % 2]
    if isinstance(column.type, sa.JSON):
        return {}
    if isinstance(column.type, sa.DateTime):
        return None if column.nullable else BEGIN + timedelta(hours=number)
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, (sa.Integer, sa.Float)):
        return 1 if name == "version" else number
    return f"{table} {name} {number}"


def fill(database: Database) -> None:
    with database.engine.begin() as connection:
        for table in reflected(connection).sorted_tables:
            if table.name != "alembic_version":
                count = 2 * N if table.name == "job" else N
                rows = [{column.name: value(column, number) for column in table.columns} for number in range(count)]
                connection.execute(sa.insert(table), rows)


def content(database: Database, like: dict[str, list[dict[str, Any]]] | None = None) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, or of the tables and columns in `like`."""
    with database.engine.connect() as connection:
        tables = reflected(connection).tables
        names = [name for name in tables if name != "alembic_version"] if like is None else list(like)
        found = {}
        for name in names:
            columns = list(tables[name].columns) if like is None else [tables[name].c[key] for key in like[name][0]]
            key = columns[[column.name for column in columns].index(KEYS.get(name, "id"))]
            rows = connection.execute(sa.select(*columns).order_by(key))
            found[name] = [dict(row._mapping) for row in rows]
    return found


@pytest.mark.parametrize("past", PAST)
def test_data_of_every_past_revision_survive_the_way_to_the_present_and_back(database, past) -> None:
    database.upgrade(past)
    fill(database)
    before = content(database)
    assert all(before.values())
    database.upgrade()
    assert database.drift() == []
    assert content(database, before) == before
    database.downgrade(past)
    assert database.revision() == past
    assert content(database) == before
    database.upgrade()
    assert content(database, before) == before


@pytest.mark.parametrize("past", PAST)
def test_migrated_rows_are_records_like_any_other(database, past) -> None:
    database.upgrade(past)
    fill(database)
    database.upgrade()
    with reading(database) as work:
        dataset = work.datasets.get("dataset name 1")
        assert (dataset.version, dataset.derived, dataset.archived_at) == (1, {}, None)
        (workflow,) = work.workflows.of_experiment("experiment-1")
        assert (workflow.model, workflow.provenance) == (Model("baseline/lead-1"), {})
        assert [job.scores for job in work.jobs.of_workflows([workflow.id])] == [{"rougeL": 0.1 + 0.2}] * 2
        assert work.experiments.get("experiment-1").task == Summarization("It's “short”")
    with writing(database) as work:
        work.workflows.delete(work.workflows.get("workflow-1"))
    assert [row["id"] for row in content(database)["job"]] == ["job-0", "job-1", "job-4", "job-5"]


def test_versions_of_a_dataset_become_names_of_their_own_where_there_were_none(database) -> None:
    database.upgrade()
    with writing(database) as work:
        for name, version in (("t", 1), ("t", 2), ("t", 3), ("t@1", 1), ("u", 1)):
            work.datasets.add(
                Dataset(
                    id=f"{name}-{version}", name=name, version=version, filename="f", content_hash="0", size_bytes=1,
                    n_examples=1, columns={}, profile={"has_ground_truth": False},
                )
            )  # fmt: skip
    database.downgrade("0003")
    names = {row["id"]: row["name"] for row in content(database)["dataset"]}
    assert names == {"t-3": "t", "t-2": "t@2", "t-1": "t@1_", "t@1-1": "t@1", "u-1": "u"}
    database.upgrade()
    assert database.drift() == []


def test_a_migration_that_fails_changes_nothing(database, monkeypatch) -> None:
    database.upgrade("0003")
    fill(database)
    before = content(database)
    monkeypatch.setattr("lumigator_nb.database.engine._refuse_dangling_rows", lambda connection: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        database.upgrade()
    assert database.revision() == "0003"
    assert content(database) == before
    monkeypatch.undo()
    database.upgrade()
    assert content(database, before) == before


def test_rows_without_their_parents_stop_a_migration_before_it_changes_anything(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.upgrade("0003")
    fill(database)
    with database.engine.connect() as connection:
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("DELETE FROM dataset")
        connection.commit()
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(DatabaseUnavailableError, match="3 rows of table experiment .* nothing was migrated"):
        database.upgrade()
    assert database.revision() == "0003"
    database.close()


@pytest.mark.parametrize("verb", ["upgrade", "downgrade", "stamp"])
def test_an_unknown_revision_is_refused_with_those_there_are(database, verb) -> None:
    database.upgrade()
    with pytest.raises(InvalidInputError, match="no revision '003'") as caught:
        getattr(database, verb)("003")
    assert "0003" in caught.value.hint
    assert database.revision() == head_revision()


@pytest.mark.parametrize("verb", ["upgrade", "downgrade"])
def test_a_newer_database_is_left_alone(database, verb) -> None:
    database.upgrade()
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailableError, match="revision 9999, which this version does not know") as caught:
        getattr(database, verb)("0001")
    assert "upgrade lumigator-nb" in caught.value.hint
    assert database.revision() == "9999"


def test_a_stamp_notes_a_revision_and_changes_no_table(database) -> None:
    database.upgrade("0002")
    database.stamp("head")
    assert database.revision() == head_revision()
    assert "label" not in sa.inspect(database.engine).get_table_names()
    assert any("label" in line for line in database.drift())


def _upgrade(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.close()


def test_several_who_migrate_at_once_do_it_once(database, database_url) -> None:
    database.upgrade("0001")
    fill(database)
    before = content(database)
    context = processes_context()
    processes = [context.Process(target=_upgrade, args=(database_url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert content(database, before) == before


def test_lists_and_filters_have_an_index(database) -> None:
    database.upgrade()
    inspector = sa.inspect(database.engine)

    def indexed(record: type) -> set[str]:
        table = record.__tablename__
        keys = [inspector.get_pk_constraint(table)["constrained_columns"]]
        keys += [each["column_names"] for each in inspector.get_indexes(table)]
        return {key[0] for key in keys + [each["column_names"] for each in inspector.get_unique_constraints(table)]}

    assert {"id", "name", "content_hash", "created_at"} <= indexed(Dataset)
    assert {"id", "name", "dataset_id", "created_at"} <= indexed(Experiment)
    assert {"id", "experiment_id", "status", "created_at"} <= indexed(Workflow)


def test_jobs_that_never_began_end_with_their_workflow(database) -> None:
    """Earlier versions left them as they were created, and programs wait for their end."""
    database.upgrade("0006")
    fill(database)
    with database.engine.begin() as connection:
        for number, status in enumerate(("failed", "stopped", "running")):
            for table, key in (("workflow", "id"), ("job", "workflow_id")):
                connection.execute(
                    sa.text(f"UPDATE {table} SET status = :status, error = 'boom' WHERE {key} = :key"),
                    {"status": status, "key": f"workflow-{number}"},
                )
        connection.execute(sa.text("UPDATE job SET status = 'created', error = NULL WHERE step = 'evaluation'"))
    database.upgrade()
    jobs = content(database)["job"]
    assert [(each["status"], each["error"]) for each in jobs] == [
        ("failed", "boom"), ("failed", "the inference failed: boom"),
        ("stopped", "boom"), ("stopped", "the inference was stopped: boom"),
        ("running", "boom"), ("created", None),
    ]  # fmt: skip
