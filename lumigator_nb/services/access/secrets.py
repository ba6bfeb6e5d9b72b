"""Secrets such as API keys, encrypted in the database."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, NoReturn

from pydantic import SecretStr

from lumigator_nb.config import Settings
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading, writing
from lumigator_nb.database.records import Secret
from lumigator_nb.errors import ConfigurationError, ConflictError, InvalidInputError, NotFoundError, SecretError
from lumigator_nb.security import redaction
from lumigator_nb.security.vault import FILE, SealingKey, Vault

if TYPE_CHECKING:
    import pandas as pd

# Workers get secrets as environment variables. Linux allows 128 KiB for one; half of it leaves room everywhere.
MOST_BYTES = 64 * 1024
OLD_KEY = "LUMIGATOR_OLD_SECRET_KEY"
_COLUMNS = ("name", "description", "created_at", "updated_at", "overridden")


class Secrets:
    """The secrets of a workspace. Only their names are shown; the package itself uses the values.

    An API key is looked up in the environment, then in `.env`, then here. :mod:`lumigator_nb.security.vault` says how
    values are encrypted.

    Args:
        settings: define the sealing key, and which names the environment overrides.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        old = settings.configured(OLD_KEY)
        self._vault = Vault(settings.home, settings.lumigator_secret_key, SecretStr(old) if old else None)

    def set(self, name: str, value: str | SecretStr, *, description: str | None = None) -> None:
        """Store or replace a secret. Everyone with this database and the sealing key can use it at once.

        Args:
            name: of the environment variable, in upper or lower case.
            value: at most 64 KiB. Line breaks at its end are removed, since pasted keys often have them.
            description: in words; None keeps the present one.

        Raises:
            InvalidInputError: :meth:`check_name` refuses the name; the value is empty, too long, or holds a zero byte;
                the description holds a secret.
            SecretError: the stored secrets need a sealing key that is not here, or the key cannot be used.
            ConfigurationError: LUMIGATOR_SECRET_KEY is too short, or there is no keyring.

        Examples:
            >>> ws.secrets.set("TEAM_API_KEY", "sk-not-a-real-key-0123456789", description="the gateway")
            >>> ws.secrets.names()
            ['TEAM_API_KEY']
        """
        # From here on no local variable holds the plain value: a traceback may show local variables.
        value = value if isinstance(value, SecretStr) else SecretStr(value)
        name = self.check_name(name)
        value = _checked_value(name, value)
        redact = redaction.redactor(
            redaction.secrets_in(self._settings.env_file_variables), self.opened(), {name: value.get_secret_value()}
        )
        redaction.refuse_secrets([("description", description)], redact)
        try:
            self._put(name, value, description)
        except ConflictError:  # another process added it meanwhile; now it is replaced
            self._put(name, value, description)

    def check_name(self, name: str) -> str:
        """Return a secret's name in capitals.

        Raises:
            InvalidInputError: it is not a name (then it is not repeated, as it may be the secret itself), or it is the
                name of a setting, or of a variable that changes what programs do, such as PATH.
        """
        plain = redaction.plain_name(name)
        if plain.lower() in Settings.model_fields or plain.startswith("LUMIGATOR_"):
            raise InvalidInputError(
                f"{plain} is a setting, which is needed before the database can be read", "put it into .env"
            )
        redaction.refuse_process_name(plain)
        return plain

    def delete(self, name: str) -> None:
        """Remove a secret; no sealing key is needed.

        Raises:
            NotFoundError: there is no secret of that name.
            InvalidInputError: it is not a name.

        Examples:
            >>> ws.secrets.set("TEAM_API_KEY", "sk-not-a-real-key-0123456789", description="the gateway")
            >>> ws.secrets.delete("TEAM_API_KEY")
            >>> ws.secrets.names()
            []
        """
        plain = redaction.plain_name(name)
        with writing(self._database) as work:
            secret = work.secrets.find(plain)
            if secret is None:
                names = ", ".join(row.name for row in work.secrets.all())
                raise NotFoundError("secret", plain, f"known: {names}" if names else "there is no secret yet")
            work.secrets.delete(secret)

    def list(self) -> pd.DataFrame:
        """Return one row per secret, by name.

        Returns:
            Columns `name`, `description`, `created_at`, `updated_at` (UTC) and `overridden`: whether the environment
            or `.env` has that name too, and wins. No values.

        Examples:
            >>> ws.secrets.set("TEAM_API_KEY", "sk-not-a-real-key-0123456789", description="the gateway")
            >>> ws.secrets.list()[["name", "description"]]
                       name  description
            0  TEAM_API_KEY  the gateway
        """
        import pandas as pd

        with reading(self._database) as work:
            rows = [
                (
                    row.name,
                    row.description or "",
                    row.created_at,
                    row.updated_at,
                    bool(self._settings.configured(row.name)),
                )
                for row in work.secrets.all()
            ]
        return pd.DataFrame(rows, columns=_COLUMNS)

    def names(self) -> builtins.list[str]:
        """Return the names, in alphabetical order.

        Examples:
            >>> ws.secrets.set("TEAM_API_KEY", "sk-not-a-real-key-0123456789", description="the gateway")
            >>> ws.secrets.names()
            ['TEAM_API_KEY']
        """
        with reading(self._database) as work:
            return [row.name for row in work.secrets.all()]

    def rotate(self) -> int:
        """Encrypt all secrets again with a new key, in one transaction; return how many.

        Earlier keys are kept beside the new one, so that everything can be opened after a crash at any moment, copies
        of the database included. A key that is a text (LUMIGATOR_SECRET_KEY) is changed by the user: put the new text
        there and the old one into LUMIGATOR_OLD_SECRET_KEY, and rotate. The same replaces a key file by a text.

        Raises:
            SecretError: a secret cannot be opened, or all use the present text already; nothing was changed.
            ConfigurationError: as of :meth:`set`.

        Examples:
            >>> ws.secrets.set("TEAM_API_KEY", "sk-not-a-real-key-0123456789", description="the gateway")
            >>> ws.secrets.rotate()
            1
        """
        with reading(self._database) as work:
            rows = work.secrets.all()
        for row in rows:
            self._opened(row)
        if rows and not self._vault.makes_keys and {row.key_id for row in rows} == {self._vault.current().id}:
            raise SecretError(
                "there is nothing to do: all secrets are sealed by LUMIGATOR_SECRET_KEY as it is",
                f"put another text there, the present one into {OLD_KEY}, and rotate again",
            )
        key = self._vault.renew()
        with writing(self._database) as work:
            # find() locks each row: a secret that another process sets meanwhile is not overwritten.
            locked_rows = [locked for row in work.secrets.all() if (locked := work.secrets.find(row.name))]
            for row in locked_rows:
                row.sealed, row.key_id = key.seal(row.name, self._opened(row)), key.id
        return len(locked_rows)

    def value(self, name: str) -> str | None:
        """Return the value of a secret, for the package's own use; None if there is no such secret.

        Raises:
            SecretError: it cannot be opened here; the message says which key it needs.
            ConfigurationError: as of :meth:`set`.
        """
        row = self._find(name)
        while row is not None:
            try:
                return self._opened(row).get_secret_value()
            except SecretError:
                # Read it again: another process may have rotated the key meanwhile.
                before, row = row.sealed, self._find(name)
                if row is not None and row.sealed == before:
                    raise
        return None

    def opened(self) -> dict[str, str]:
        """Return the values of all secrets that can be opened here, by name; they are redacted in texts."""
        with reading(self._database) as work:
            rows = work.secrets.all()
        values = {}
        for row in rows:
            try:
                values[row.name] = self._opened(row).get_secret_value()
            except (SecretError, ConfigurationError):
                continue  # a value that cannot be opened here cannot leak from here
        return values

    def _find(self, name: str) -> Secret | None:
        with reading(self._database) as work:
            return work.secrets.find(name.upper())

    def _opened(self, row: Secret) -> SecretStr:
        return self._key_of(row).open(row.name, row.sealed)

    def _put(self, name: str, value: SecretStr, description: str | None) -> None:
        with writing(self._database) as work:
            for row in work.secrets.all():
                # Refuses a second key: otherwise each member of a team would seal the database with another one.
                self._key_of(row)
            key = self._vault.current()
            fresh = Secret(name=name, sealed=key.seal(name, value), key_id=key.id, description=description)
            old = work.secrets.find(name)
            if old is None:
                work.secrets.add(fresh)
                return
            old.sealed, old.key_id, old.updated_at = fresh.sealed, fresh.key_id, fresh.updated_at
            old.description = old.description if description is None else description

    def _key_of(self, row: Secret) -> SealingKey:
        key = self._vault.find(row.key_id)
        if key is None:
            here = ", ".join(self._vault.ids()) or "none"
            raise SecretError(
                f"the secret {row.name} is sealed by key {row.key_id}, which is not here (here: {here})",
                f"restore the key file {self._settings.home / FILE}, or give LUMIGATOR_SECRET_KEY (or {OLD_KEY}) its "
                f"text; if it is lost: lumigator-nb secrets delete {row.name}, and set it again",
            )
        return key

    def __repr__(self) -> str:
        return f"Secrets({self._database.label!r})"

    def _repr_html_(self) -> str:
        return str(self.list().to_html(index=False))

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled: call connect() in the process that needs them")


def redactor_of(settings: Settings) -> redaction.Redactor:
    """Return a redactor of all secrets of the environment, `.env`, the settings and the database."""
    own = {name.upper(): value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    variables = {**settings.env_file_variables, **own}
    return redaction.redactor(redaction.secrets_in(variables), settings.stored_secrets)


def _checked_value(name: str, value: SecretStr) -> SecretStr:
    if not isinstance(value.get_secret_value(), str):
        raise InvalidInputError(f"the value of {name} is not a text")
    value = SecretStr(value.get_secret_value().rstrip("\r\n"))
    if not value.get_secret_value().strip():
        raise InvalidInputError(f"the value of {name} is empty", f"to remove it: ws.secrets.delete({name!r})")
    try:
        size = len(value.get_secret_value().encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        size = -1
    if size > MOST_BYTES:
        raise InvalidInputError(f"the value of {name} has {size:,} bytes, and may have {MOST_BYTES:,}", "is it a file?")
    if size < 0 or "\0" in value.get_secret_value():
        raise InvalidInputError(
            f"the value of {name} has characters that no environment variable can hold", "is it a file?"
        )
    return value
