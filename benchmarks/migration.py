"""How long a migration takes: ``python benchmarks/migration.py [--jobs 100000] [--url postgresql://…]``.

Fills a database at its first revision with workflows and jobs, brings it to the newest, and back. The reference is to
copy the table of jobs row by row into another one within the same database, in the same run. Without --url a fresh
SQLite file is used; with it the named PostgreSQL server, in a database of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from lumigator_nb.database.engine import Database, head_revision
from lumigator_nb.specs import Model, Summarization

NOW, SECOND = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1)


@contextmanager
def fresh(url: str | None) -> Iterator[Database]:
    if url is None:
        with tempfile.TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{Path(folder) / 'x.db'}")
            yield database
            database.close()
        return
    admin, name = Database(url), f"bench_{uuid.uuid4().hex}"
    execute = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with execute.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    database = Database(sa.make_url(url).set(database=name).render_as_string(hide_password=False))
    yield database
    database.close()
    with execute.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.close()


def fill(database: Database, jobs: int) -> None:
    model, task = Model("baseline/lead-1").model_dump(mode="json"), Summarization().model_dump(mode="json")
    details = {"signature": "rougeL|stemmer:no|version:1", "versions": {"ray": "2.60.0", "torch": "2.13.0"}}
    metadata = sa.MetaData()
    with database.engine.begin() as connection:
        metadata.reflect(connection)
        tables = metadata.tables
        connection.execute(
            sa.insert(tables["dataset"]),
            {"id": "d", "name": "d", "filename": "f", "content_hash": "0", "size_bytes": 1, "n_examples": 1,
             "columns": {}, "profile": {"has_ground_truth": True}, "notes": [], "created_at": NOW},
        )  # fmt: skip
        experiments = [
            {
                "id": f"e{n}",
                "name": f"e{n}",
                "dataset_id": "d",
                "task": task,
                "metrics": [],
                "created_at": NOW + n * SECOND,
            }
            for n in range(max(jobs // 20, 1))
        ]
        connection.execute(sa.insert(tables["experiment"]), experiments)
        workflows = [
            {"id": f"w{n}", "experiment_id": f"e{n // 10}", "label": f"m{n}", "fingerprint": f"m{n}", "model": model,
             "status": "succeeded", "attempt": 1, "stale": False, "created_at": NOW + n * SECOND, "attempted_at": NOW}
            for n in range(jobs // 2)
        ]  # fmt: skip
        connection.execute(sa.insert(tables["workflow"]), workflows)
        rows = [
            {"id": f"j{n}", "workflow_id": f"w{n // 2}", "step": ("inference", "evaluation")[n % 2],
             "status": "succeeded", "n_examples": 1, "n_failed": 0, "scores": {"rougeL": 0.5}, "details": details,
             "created_at": NOW}
            for n in range(2 * (jobs // 2))
        ]  # fmt: skip
        connection.execute(sa.insert(tables["job"]), rows)


def seconds(action: object, *arguments: object) -> float:
    begun = time.perf_counter()
    action(*arguments)  # type: ignore[operator]
    return time.perf_counter() - begun


def copied(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE job_copy AS SELECT * FROM job"))
        connection.execute(sa.text("DROP TABLE job_copy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--url", help="of a PostgreSQL server")
    arguments = parser.parse_args()
    with fresh(arguments.url) as database:
        database.upgrade("0001")
        fill(database, arguments.jobs)
        reference = seconds(copied, database)
        forward = seconds(database.upgrade)
        back = seconds(database.downgrade, "0001")
        print(f"{database.engine.dialect.name}, {arguments.jobs:,} jobs, {arguments.jobs // 2:,} workflows")
        print(
            f"  0001 to {head_revision()}   {forward:6.2f} s   {forward / reference:5.1f} × copying the table of jobs"
        )
        print(f"  and back       {back:6.2f} s   {back / reference:5.1f} ×")
        print(json.dumps({"jobs": arguments.jobs, "forward": forward, "back": back, "reference": reference}))


if __name__ == "__main__":
    main()
