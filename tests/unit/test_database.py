from __future__ import annotations

import shutil
import sqlite3

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from processes import context as processes_context
from sqlmodel import SQLModel

from lumigator_nb.database import engine
from lumigator_nb.database.engine import Database, head_revision, revisions
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow
from lumigator_nb.errors import ConfigurationError, ConflictError, DatabaseUnavailableError, NotFoundError
from lumigator_nb.specs import MetricSpec, Model, Status, Step, Task


@pytest.fixture
def database(migrated_url):
    made = Database(migrated_url)
    yield made
    made.close()


LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "later", "{head}", None, None


def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    op.drop_table("later")
"""


def dataset(name: str = "tickets") -> Dataset:
    return Dataset(
        name=name,
        filename="tickets.csv",
        content_hash="0" * 64,
        size_bytes=1,
        n_examples=1,
        columns={"example": "body"},
        profile={"has_ground_truth": False},
    )


def workflow(experiment: Experiment, model: Model) -> Workflow:
    return Workflow(experiment_id=experiment.id, label=model.label, fingerprint=model.fingerprint, model=model)


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), SQLModel.metadata)


def tables(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_up_down_and_up_again_agrees_with_the_records(database_url) -> None:
    database = Database(database_url)
    database.upgrade()
    assert differences(database) == []
    database.downgrade("base")
    assert tables(database) == set()
    database.upgrade()
    assert differences(database) == []
    assert database.revision() == head_revision() == revisions()[0][0]
    database.close()


def test_a_column_that_a_migration_forgot_would_be_noticed(database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE job DROP COLUMN error"))
    assert differences(database)


def test_records_come_back_as_they_went_in(database) -> None:
    model = Model("hf/x/y", temperature=0.5, options={"batch_size": 2})
    metrics = (MetricSpec(name="rouge", options={"stemmer": True}), MetricSpec(name="bleu"))
    with writing(database) as work:
        data = work.datasets.add(dataset())
        experiment = work.experiments.add(
            Experiment(name="e", dataset_id=data.id, task=Task(prompt='it\'s "quoted" $(x)\n🙂'), metrics=metrics)
        )
        flow = work.workflows.add(workflow(experiment, model))
        work.jobs.add(Job(workflow_id=flow.id, step=Step.INFERENCE, scores={"rougeL": 0.5}))
    with reading(database) as work:
        again = work.experiments.get("e")
        assert (again.metrics, again.task) == (metrics, experiment.task)
        found = work.workflows.get(flow.id)
        assert (found.model, found.status) == (model, Status.CREATED)
        assert found.created_at == flow.created_at
        assert found.created_at.tzinfo is not None
        assert work.jobs.of_workflows([flow.id])[0].scores == {"rougeL": 0.5}


def test_a_failing_action_leaves_no_row(database) -> None:
    with pytest.raises(RuntimeError), writing(database) as work:
        work.datasets.add(dataset())
        raise RuntimeError
    with reading(database) as work:
        assert work.datasets.count() == 0


def test_names_are_taken_once(database) -> None:
    with writing(database) as work:
        work.datasets.add(dataset())
    with pytest.raises(ConflictError, match="a dataset named 'tickets' exists already"), writing(database) as work:
        work.datasets.add(dataset())


def test_rows_are_found_by_name_id_and_beginning_of_id(database) -> None:
    with writing(database) as work:
        record = work.datasets.add(dataset())
    with reading(database) as work:
        for key in ("tickets", record.id, record.id[:8]):
            assert work.datasets.get(key).id == record.id
        with pytest.raises(NotFoundError, match="no dataset 'ticket'") as caught:
            work.datasets.get("ticket")
    assert "tickets" in caught.value.hint


def test_deleting_a_workflow_deletes_its_jobs(database) -> None:
    with writing(database) as work:
        data = work.datasets.add(dataset())
        experiment = work.experiments.add(Experiment(name="e", dataset_id=data.id, task=Task(), metrics=()))
        flow = work.workflows.add(workflow(experiment, Model("baseline/copy")))
        work.jobs.add(Job(workflow_id=flow.id, step=Step.INFERENCE))
    with writing(database) as work:
        work.workflows.delete(work.workflows.get(flow.id))
    with reading(database) as work:
        assert work.jobs.count() == 0


def test_a_row_in_use_cannot_vanish(database) -> None:
    with writing(database) as work:
        data = work.datasets.add(dataset())
        work.experiments.add(Experiment(name="e", dataset_id=data.id, task=Task(), metrics=()))
    with pytest.raises(sa.exc.IntegrityError), writing(database) as work:
        work.datasets.delete(work.datasets.get(data.id))


def _add_datasets(url: str, start: int) -> None:
    database = Database(url)
    for number in range(start, start + 20):
        with writing(database) as work:
            count = work.datasets.count()
            work.datasets.add(dataset(f"d{number}-{count}"))


def test_several_processes_write_at_once(database, database_url) -> None:
    context = processes_context()
    processes = [context.Process(target=_add_datasets, args=(database_url, 20 * index)) for index in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    with reading(database) as work:
        assert work.datasets.count() == 80


def test_a_database_of_a_newer_version_is_refused_untouched(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.upgrade()
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnavailableError, match="revision 9999, which this version does not know") as caught:
        database.prepare()
    assert "upgrade lumigator-nb" in caught.value.hint
    assert database.revision() == "9999"
    database.close()


def test_an_older_sqlite_database_is_copied_and_then_upgraded(tmp_path, monkeypatch) -> None:
    """A revision is added behind the last one, as a later version of the package would bring it."""
    database = Database(f"sqlite:///{tmp_path / 'new' / 'x.db'}")
    assert database.prepare() is None
    with writing(database) as work:
        work.datasets.add(dataset())
    head = head_revision()
    scripts = tmp_path / "migrations"
    shutil.copytree(engine.alembic_config().get_main_option("script_location"), scripts)
    (scripts / "versions" / "later.py").write_text(LATER.format(head=head))
    config = engine.alembic_config()
    config.set_main_option("script_location", str(scripts))
    monkeypatch.setattr(engine, "alembic_config", lambda: config)
    copy = database.prepare()
    assert database.revision() == "later"
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT name FROM dataset").fetchall() == [("tickets",)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (head,)
    connection.close()
    with reading(database) as work:
        assert work.datasets.get("tickets")
    database.close()


def test_sqlite_waits_for_writers_and_keeps_its_promises(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "nosuch://u:hunter2@host/db", "postgresql://u:hunter2@host:port/db"])
def test_a_malformed_url_is_explained_without_its_password(url) -> None:
    with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URL") as caught:
        Database(url)
    assert "hunter2" not in repr(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_does_not_answer_is_explained_without_its_password() -> None:
    database = Database("postgresql://u:hunter2@127.0.0.1:1/db")
    assert "hunter2" not in repr(database)
    with pytest.raises(DatabaseUnavailableError, match="does not answer") as caught:
        database.prepare()
    assert "hunter2" not in str(caught.value)
