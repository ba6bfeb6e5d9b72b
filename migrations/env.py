"""Alembic's entry: migrates over the connection that the package hands in, or the one that `.env` names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection
from sqlmodel import SQLModel

from lumigator_nb import config as settings
from lumigator_nb.database import records  # noqa: F401 - fills the metadata
from lumigator_nb.database.engine import Database


def migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    # SQLite cannot alter a table in place; Alembic then copies it ("batch").
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=sqlite)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("migrations run over a connection; --sql is not supported")
given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with Database(settings.load().database_url).engine.begin() as connection:
        migrate(connection)
