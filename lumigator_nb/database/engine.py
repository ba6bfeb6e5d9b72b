"""The database: engine, sessions and schema revisions."""

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
# Any number that no other program on the server is likely to lock.
_MIGRATION_LOCK = 0x6C756D69


class Database:
    """One database and its schema.

    Args:
        url: as SQLAlchemy takes it, password included; it is never shown.

    Raises:
        ConfigurationError: the URL is malformed.
        MissingExtraError: the engine's driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.engine = _create_engine(url)
        self.label = self.engine.url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Database({self.label!r})"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which the package upgrades by itself."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def session(self, *, write: bool = False) -> Iterator[Session]:
        """Open a session; with `write`, commit when the block ends well and roll back otherwise.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                # A reader that turns into a writer half-way cannot wait for another one; a writer from the start can.
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
        """Make the schema current: SQLite is upgraded (a copy is kept), other engines are only checked.

        Returns:
            The copy of the database as it was, where one was made.

        Raises:
            DatabaseUnavailableError: the schema of another engine is older than the code, or that of any is newer.
        """
        if not self.is_sqlite:
            self._require_head()
            return None
        with self._sqlite_lock():
            revision = self.revision()
            if revision == head_revision():
                return None
            self._require_known(revision)
            backup = self.backup() if revision else None
            self.upgrade()
            return backup

    def upgrade(self, target: str = "head") -> None:
        """Bring the schema forward to `target`, all of it or nothing.

        Raises:
            DatabaseUnavailableError: a newer version of the package wrote it.
        """
        self._require_known(self.revision())
        self._migrate(command.upgrade, target)

    def downgrade(self, target: str) -> None:
        """Take the schema back to `target` ("base" empties the database), all of the way or not at all."""
        self._require_known(self.revision())
        self._migrate(command.downgrade, target)

    def stamp(self, target: str) -> None:
        """Note that the schema is at revision `target`, without changing it."""
        self._migrate(command.stamp, target)

    def drift(self) -> list[str]:
        """Return how the schema differs from what this version's records expect, one difference per line."""
        from alembic.autogenerate import compare_metadata
        from sqlmodel import SQLModel

        from lumigator_nb.database import records  # noqa: F401 - fills the metadata

        with self.session() as session:
            found = compare_metadata(MigrationContext.configure(session.connection()), SQLModel.metadata)
        return [str(each) for each in found]

    def backup(self) -> Path:
        """Copy an SQLite database beside itself and return the copy's path; safe while others write.

        Raises:
            InvalidInputError: the database is no SQLite file.
        """
        if not self.is_sqlite or not self.engine.url.database:
            raise InvalidInputError(
                f"{self.label} is not a file that could be copied", "use the server's own tool, such as pg_dump"
            )
        source = Path(self.engine.url.database)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        target = source.with_name(f"{source.name}.{self.revision()}.{stamp}.backup")
        make_file(target)
        with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
            old.backup(new)
        old.close()
        new.close()
        return target

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def _migrate(self, action: Any, target: str) -> None:
        if target not in ("head", "base") and target not in dict(revisions()):
            raise InvalidInputError(f"there is no revision {target!r}", did_you_mean(target, dict(revisions())))
        with self.engine.connect() as plain, _foreign_keys_aside(plain):
            connection = plain.execution_options(immediate=True)
            with connection.begin():  # Alembic joins it, and leaves the commit to us
                if not self.is_sqlite:
                    # Of two who migrate at once the second finds it done.
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                config = alembic_config()
                config.attributes["connection"] = connection
                action(config, target)
                _refuse_dangling_rows(connection)

    def _require_head(self) -> None:
        revision = self.revision()
        self._require_known(revision)
        if revision != head_revision():
            raise DatabaseUnavailableError(
                f"the schema of {self.label} is at revision {revision or 'none'}, this version needs {head_revision()}",
                "back it up, then: lumigator-nb db upgrade",
            )

    def _require_known(self, revision: str | None) -> None:
        if revision is not None and revision not in dict(revisions()):
            raise DatabaseUnavailableError(
                f"the schema of {self.label} is at revision {revision}, which this version does not know",
                "a newer version wrote it: pip install --upgrade lumigator-nb",
            )

    def _sqlite_lock(self) -> Any:
        path = self.engine.url.database
        return FileLock(f"{path}.lock") if path and path != ":memory:" else nullcontext()


@contextmanager
def _foreign_keys_aside(connection: sa.Connection) -> Iterator[None]:
    """Let SQLite drop and rebuild a table without the rows that refer to it going too."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    # Within a transaction the pragma does nothing, so it must not go through SQLAlchemy, which would begin one.
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _refuse_dangling_rows(connection: sa.Connection) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DatabaseUnavailableError(
            f"{len(broken)} rows of table {broken[0][0]} and others refer to rows that are gone; nothing was migrated",
            "see them with: PRAGMA foreign_key_check",
        )


def alembic_config() -> Config:
    """Alembic's settings, with the revisions of the checkout or, in an installed package, those shipped with it."""
    package = Path(__file__).parents[1]
    shipped = package / "_migrations"
    config = Config()
    config.set_main_option("script_location", str(shipped if shipped.is_dir() else package.parent / "migrations"))
    return config


def head_revision() -> str | None:
    """The revision that this version of the code needs."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def revisions() -> list[tuple[str, str]]:
    """All revisions with what they changed, newest first."""
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return [(script.revision, (script.doc or "").partition("\n")[0]) for script in scripts]


def _create_engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ValueError):
        # The message of the cause repeats the URL, and with it the password.
        raise ConfigurationError(
            "SQLALCHEMY_DATABASE_URL is not a database's address",
            "write it like sqlite:///folder/file.db or postgresql://user:password@host:5432/name",
        ) from None
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"a {parsed.drivername} database", "postgres") from error
    if engine.dialect.name == "sqlite":
        _configure_sqlite(engine)
    return engine


def _configure_sqlite(engine: sa.Engine) -> None:
    if engine.url.database and engine.url.database != ":memory:":
        file = Path(engine.url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # SQLite says what is wrong; it gives its other files the permissions of this one
            make_file(file)

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions on its own, and too late
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
