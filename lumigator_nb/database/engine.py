"""The database's engine, sessions and schema revisions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlmodel import Session

from lumigator_nb.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidInputError,
    MissingExtraError,
    did_you_mean,
)
from lumigator_nb.storage.local_files import make_file

BUSY_TIMEOUT_S = 30
# Key of an advisory lock: any number that no other program on the server is likely to use ("lumi" in ASCII).
_MIGRATION_LOCK = 0x6C756D69


class Database:
    """One database and its schema.

    Args:
        url: an SQLAlchemy URL. It may contain a password, which is never shown.

    Attributes:
        engine: SQLAlchemy's engine.
        label: the URL without the password, for messages.

    Raises:
        ConfigurationError: the URL is malformed.
        MissingExtraError: the database's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            if parsed.drivername in ("postgresql", "postgres"):
                # SQLAlchemy would choose psycopg2.
                parsed = parsed.set(drivername="postgresql+psycopg")
            # pool_pre_ping: a server closes idle connections, and may have been restarted.
            self.engine = sa.create_engine(parsed, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ValueError):
            # `from None`, since the message of the cause repeats the URL with its password.
            raise ConfigurationError(
                "SQLALCHEMY_DATABASE_URL is not a database's address",
                "write it like sqlite:///folder/file.db or postgresql://user:password@host:5432/name",
            ) from None
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"a {parsed.drivername} database", "postgres") from error
        if self.is_sqlite:
            _configure_sqlite(self.engine)
        self.label = self.engine.url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Database({self.label!r})"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which the package upgrades automatically."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Open a session. With `write`, commit when the block ends without an error, and roll back otherwise.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        try:
            # Records are public values that outlive their session. They would be emptied by the commit otherwise.
            with Session(self.engine, expire_on_commit=False) as session:
                # SQLite lets a transaction wait for another writer only if it begins as a writer. One that reads first
                # and writes later fails at once.
                session.connection(execution_options={"immediate": write})
                yield session
                if write:
                    session.commit()
        except OperationalError as error:
            raise DatabaseUnavailableError(
                f"the database {self.label} does not answer: {error.orig}", "check SQLALCHEMY_DATABASE_URL"
            ) from error

    def revision(self) -> str | None:
        """Return the schema's revision; None for an empty database."""
        with self.session() as session:
            return MigrationContext.configure(session.connection()).get_current_revision()

    def prepare(self) -> Path | None:
        """Make the schema current: upgrade SQLite after a backup, but only check other databases.

        Returns:
            The path of the backup, if there is one.

        Raises:
            DatabaseUnavailableError: the schema is newer than this version, or is older and not in SQLite.
        """
        head = head_revision()
        if not self.is_sqlite:
            # A team shares such a database. Only its administrator may decide when to upgrade it.
            revision = self.revision()
            self._require_known(revision)
            if revision != head:
                raise DatabaseUnavailableError(
                    f"the schema of {self.label} is at revision {revision or 'none'}, this version needs {head}",
                    "back it up, then: lumigator-nb db upgrade",
                )
            return None
        path = self.engine.url.database
        # Several processes may start at once on a new version. The first one upgrades, and the others find it done.
        with FileLock(f"{path}.lock") if path and path != ":memory:" else nullcontext():
            revision = self.revision()
            if revision == head:
                return None
            self._require_known(revision)
            backup = self.backup() if revision else None
            self.upgrade()
            return backup

    def upgrade(self, target: str = "head") -> None:
        """Upgrade the schema to `target` in one transaction.

        Raises:
            DatabaseUnavailableError: a newer version of the package wrote the schema.
        """
        self._require_known(self.revision())
        self._migrate(command.upgrade, target)

    def downgrade(self, target: str) -> None:
        """Downgrade the schema to `target` in one transaction; "base" removes all tables."""
        self._require_known(self.revision())
        self._migrate(command.downgrade, target)

    def stamp(self, target: str) -> None:
        """Record that the schema is at revision `target`, without changing it."""
        self._migrate(command.stamp, target)

    def drift(self) -> list[str]:
        """Return the differences between the schema and this version's records, one per item."""
        from alembic.autogenerate import compare_metadata
        from sqlmodel import SQLModel

        from lumigator_nb.database import records  # noqa: F401 - fills the metadata

        with self.session() as session:
            differences = compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata)
        return list(map(str, differences))

    def backup(self) -> Path:
        """Copy an SQLite database into its folder, and return the copy's path. Other processes may write meanwhile.

        Raises:
            InvalidInputError: the database is not an SQLite file.
        """
        if not self.is_sqlite or not self.engine.url.database:
            raise InvalidInputError(
                f"{self.label} is not a file that can be copied", "use the server's tool, such as pg_dump"
            )
        source = Path(self.engine.url.database)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        target = source.with_name(f"{source.name}.{self.revision()}.{stamp}.backup")
        # Private from the start: SQLite would create it readable by all.
        make_file(target)
        with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
            old.backup(new)
        # The context managers of sqlite3 commit, but do not close.
        old.close()
        new.close()
        return target

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _migrate(self, action: Any, target: str) -> None:
        if target not in ("head", "base") and target not in dict(revisions()):
            raise InvalidInputError(f"there is no revision {target!r}", did_you_mean(target, dict(revisions())))
        with self.engine.connect() as plain, _foreign_keys_aside(plain):
            connection = plain.execution_options(immediate=True)
            with connection.begin():  # Alembic joins it, and leaves the commit to us
                if not self.is_sqlite:
                    # If two processes migrate at once, the second waits, and finds it done.
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                config = alembic_config()
                config.attributes["connection"] = connection
                action(config, target)
                _refuse_dangling_rows(connection)

    def _require_known(self, revision: str | None) -> None:
        if revision is not None and revision not in dict(revisions()):
            raise DatabaseUnavailableError(
                f"the schema of {self.label} is at revision {revision}, which this version does not know",
                "a newer version wrote it: pip install --upgrade lumigator-nb",
            )


@contextmanager
def _foreign_keys_aside(connection: sa.Connection) -> Iterator[None]:
    """Switch SQLite's foreign keys off. Otherwise, rebuilding a table would delete the rows that refer to it."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    # The pragma has no effect within a transaction, and SQLAlchemy would begin one.
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _refuse_dangling_rows(connection: sa.Connection) -> None:
    """Check the foreign keys in SQLite, which were off during the migration."""
    if connection.dialect.name != "sqlite":
        return
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if rows:
        raise DatabaseUnavailableError(
            f"{len(rows)} rows of table {rows[0][0]} and others refer to rows that do not exist; nothing was migrated",
            "see them with: PRAGMA foreign_key_check",
        )


def alembic_config() -> Config:
    """Return Alembic's settings, with the revisions of the installed package or of the checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_migrations"
    config = Config()
    config.set_main_option("script_location", str(shipped if shipped.is_dir() else package.parent / "migrations"))
    return config


def head_revision() -> str | None:
    """Return the revision that this version needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def revisions() -> list[tuple[str, str]]:
    """Return all revisions as pairs of id and description, newest first."""
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return [(script.revision, (script.doc or "").partition("\n")[0]) for script in scripts]


def _configure_sqlite(engine: sa.Engine) -> None:
    if engine.url.database and engine.url.database != ":memory:":
        file = Path(engine.url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Made here to be private. SQLite gives its other files the same permissions, and reports what is wrong.
        with suppress(OSError):
            make_file(file)

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        # Python's driver would begin a transaction only before the first write. `on_begin` does it at the start.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        # With a write-ahead log, readers and a writer do not wait for each other.
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
