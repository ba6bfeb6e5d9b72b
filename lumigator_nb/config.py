"""Settings: from arguments, the environment and the nearest `.env`, in that order of precedence.

Nothing is read at import: :func:`load` is called by :func:`lumigator_nb.connect`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.specs import StoreSpec

DEFAULT_HOME = Path("~/.lumigator")


class StoredSecrets(Protocol):
    """Secrets that are kept elsewhere than in variables."""

    def names(self) -> list[str]:
        """Return what there is, without opening it."""

    def value(self, name: str) -> str | None:
        """Return the secret of that name; None where there is none."""

    def opened(self) -> dict[str, str]:
        """Return all that can be opened here, by name."""


class Settings(BaseSettings):
    """Where everything is. Field names in capitals are the names of the environment variables.

    Attributes:
        lumigator_home: folder of the embedded database and store and of the local Ray head's state.
        sqlalchemy_database_url: database; empty means SQLite inside `lumigator_home`.
        lumigator_store: any fsspec URL; empty means `s3://S3_BUCKET`, or a folder inside `lumigator_home`.
        lumigator_store_shared: whether a store that is a folder is mounted on all nodes of a cluster elsewhere, under
            the same path.
        lumigator_cache_gb: how large the kept answers of models may grow, in 10⁹ bytes; empty means without limit.
        s3_bucket, s3_endpoint_url: bucket, and the server's address where it is not AWS.
        s3_path_style: whether the bucket is named in the path of the address, or in the host's name; empty means the
            host's name on AWS, and the path elsewhere.
        aws_access_key_id, aws_secret_access_key, aws_default_region: S3 credentials; empty leaves them to the
            ordinary AWS chain (profile, instance role).
        ray_address: ``http(s)://host:port`` of the Jobs API of a Ray cluster that runs already; empty, and anything
            that is no HTTP address, means that the package starts a head of its own here.
        ray_head_node_host, ray_dashboard_port: the same, as the host of its head and the port of its Jobs API.
        ray_worker_gpus: GPUs that each workflow asks of the cluster; fractions share one.
        lumigator_max_running: workflows that the cluster has at the same time, waiting for a CPU there or at work; the
            others wait in the store, and take turns.
        hf_home: folder of Hugging Face's caches.
        deployment_type: "local", "development", "staging" or "production".
        lumigator_secret_key: seals the secrets in the database, and API keys on their way to a remote cluster, whose
            nodes share it; empty means a key file in `lumigator_home`, or the operating system's keyring.
        lumigator_dashboard_password_file, lumigator_dashboard_token: who may open the served dashboard; empty means
            everybody on this machine, and that it listens nowhere else.
        lumigator_dashboard_oauth_provider, ..._key, ..._secret, ..._users, ..._redirect_uri: log in at a provider
            instead; `users` have commas between them.
        lumigator_max_upload_mb: how large a file may be that is uploaded through the dashboard or the REST API, in
            10⁶ bytes.
        api_cors_allowed_origins: of pages elsewhere that may use the REST API from a browser, with commas between
            them; "*" is all.
        lumigator_rest_trust_remote_code: whether REST callers without the scope "admin" may have code run that comes
            with a model of the hub (`trust_remote_code`).
        lumigator_rest_local_models: whether REST callers without the scope "admin" may name a model by a path of the
            cluster's machines.
        lumigator_rest_hosts: hosts, with or without a port, that `base_url` may name over REST although they belong
            to the server's own network; with commas between them.
        lumigator_rest_keys: secrets that REST callers may have sent elsewhere than to the provider in their name:
            ``NAME=address`` or ``NAME=provider``, with commas between them.
    """

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, env_file_encoding="utf-8", hide_input_in_errors=True
    )

    lumigator_home: Path = DEFAULT_HOME
    sqlalchemy_database_url: SecretStr | None = None
    lumigator_store: str | None = None
    lumigator_store_shared: bool = False
    lumigator_cache_gb: float | None = Field(default=None, gt=0)
    s3_bucket: str | None = None
    s3_endpoint_url: str | None = None
    s3_path_style: bool | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_default_region: str | None = None
    ray_address: str | None = None
    ray_head_node_host: str | None = None
    ray_dashboard_port: int = Field(default=8265, ge=1, le=65535)
    ray_worker_gpus: float = Field(default=0.0, ge=0.0)
    lumigator_max_running: int = Field(default=16, ge=1)
    hf_home: Path | None = None
    deployment_type: Literal["local", "development", "staging", "production"] = "local"
    lumigator_secret_key: SecretStr | None = None
    lumigator_dashboard_password_file: Path | None = None
    lumigator_dashboard_token: SecretStr | None = None
    lumigator_dashboard_oauth_provider: str | None = None
    lumigator_dashboard_oauth_key: str | None = None
    lumigator_dashboard_oauth_secret: SecretStr | None = None
    lumigator_dashboard_oauth_users: str | None = None
    lumigator_dashboard_oauth_redirect_uri: str | None = None
    lumigator_max_upload_mb: int = Field(default=2000, ge=1)
    api_cors_allowed_origins: str | None = None
    lumigator_rest_trust_remote_code: bool = False
    lumigator_rest_local_models: bool = False
    lumigator_rest_hosts: str | None = None
    lumigator_rest_keys: str | None = None

    # Where `.env` was found; it may hold API keys besides the fields above.
    _env_file: Path | None = PrivateAttr(default=None)
    _stored: StoredSecrets | None = PrivateAttr(default=None)

    def variable(self, name: str) -> str | None:
        """Return what goes by a name, such as an API key: in the environment, else in `.env`, else in the database.

        Raises:
            SecretError: the database has it, and it cannot be opened here.
        """
        return self.configured(name) or (self._stored.value(name) if self._stored else None)

    def configured(self, name: str) -> str | None:
        """Return a variable of the environment or else of `.env`; None where neither has it."""
        return os.environ.get(name) or self.env_file_variables.get(name)

    def having(self, names: Iterable[str]) -> set[str]:
        """Return those of the names for which :meth:`variable` has something; no secret is opened."""
        stored = set(self._stored.names()) if self._stored else set()
        return {name for name in names if name in stored or self.configured(name)}

    def look_in(self, stored: StoredSecrets) -> None:
        """Have :meth:`variable` look there last."""
        self._stored = stored

    @property
    def stored_secrets(self) -> dict[str, str]:
        """Value by name of the secrets in the database that can be opened here: for redacting only."""
        return self._stored.opened() if self._stored else {}

    @property
    def node_secret(self) -> str | None:
        """What a remote cluster's nodes share with us; what lies in a keyring of this machine they do not."""
        text = self.lumigator_secret_key and self.lumigator_secret_key.get_secret_value()
        return None if not text or text.strip() == "keyring:" else text

    @property
    def env_file_variables(self) -> dict[str, str]:
        """What `.env` holds that is set, secrets included."""
        from dotenv import dotenv_values

        values = dotenv_values(self._env_file) if self._env_file else {}
        return {name: value for name, value in values.items() if value}

    @property
    def home(self) -> Path:
        """`lumigator_home`, absolute."""
        return self.lumigator_home.expanduser().resolve()

    @property
    def database_url(self) -> str:
        """The database's URL with its password: for the engine only, never for showing."""
        if self.sqlalchemy_database_url:
            return self.sqlalchemy_database_url.get_secret_value()
        return f"sqlite:///{self.home / 'lumigator.db'}"

    @property
    def cache_limit(self) -> int | None:
        """Bytes that kept answers may take; None is no bound."""
        return None if self.lumigator_cache_gb is None else round(self.lumigator_cache_gb * 1e9)

    @property
    def store_spec(self) -> StoreSpec:
        """Where the store is; without credentials."""
        if self.lumigator_store:
            uri = self.lumigator_store
        elif self.s3_bucket:
            uri = f"s3://{self.s3_bucket}"
        else:
            uri = (self.home / "store").as_uri()
        if "://" not in uri:
            uri = Path(uri).expanduser().resolve().as_uri()
        return StoreSpec(uri=uri.rstrip("/"), endpoint_url=self.s3_endpoint_url, path_style=self.s3_path_style)

    @property
    def rest_hosts(self) -> frozenset[str]:
        """Hosts of `lumigator_rest_hosts`, in small letters."""
        return frozenset(each.lower() for each in _listed(self.lumigator_rest_hosts))

    @property
    def rest_keys(self) -> dict[str, set[str]]:
        """Addresses (without a slash at the end) and providers that each secret of `lumigator_rest_keys` may go to.

        Raises:
            ConfigurationError: an entry is not ``NAME=address`` or ``NAME=provider``.
        """
        found: dict[str, set[str]] = {}
        for each in _listed(self.lumigator_rest_keys):
            name, _, target = (part.strip() for part in each.partition("="))
            if not name or not target:
                raise ConfigurationError(
                    f"setting LUMIGATOR_REST_KEYS: {each!r} is not NAME=address",
                    "write NAME=https://host/v1 or NAME=provider, with commas between them",
                )
            found.setdefault(name.upper(), set()).add(target.rstrip("/"))
        return found

    @property
    def store_credentials(self) -> dict[str, Any]:
        """Arguments for s3fs, as far as they are set; what is not is left to the ordinary AWS chain."""
        found: dict[str, Any] = {}
        if self.aws_default_region:
            found["client_kwargs"] = {"region_name": self.aws_default_region}
        if self.aws_access_key_id and self.aws_secret_access_key:
            found |= {"key": self.aws_access_key_id, "secret": self.aws_secret_access_key.get_secret_value()}
            if self._session_token:
                found["token"] = self._session_token
        return found

    @property
    def _session_token(self) -> str | None:
        """AWS_SESSION_TOKEN of the place that has the access key: another key's would spoil this one."""
        places = (os.environ, self.env_file_variables)
        mine = (place for place in places if place.get("AWS_ACCESS_KEY_ID") == self.aws_access_key_id)
        return next((place.get("AWS_SESSION_TOKEN") or None for place in mine), None)

    @property
    def node_environment(self) -> dict[str, str]:
        """Variables that a local head's processes need to reach the store and the model cache."""
        values = {
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key and self.aws_secret_access_key.get_secret_value(),
            "AWS_SESSION_TOKEN": self.aws_access_key_id and self._session_token,
            "AWS_DEFAULT_REGION": self.aws_default_region,
            "HF_HOME": self.hf_home and str(self.hf_home.expanduser().resolve()),
        }
        return {name: value for name, value in values.items() if value}


def load(env_file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        env_file: the file to read; default the nearest `.env` at or above the current folder. Relative paths in
            it are relative to its own folder.
        overrides: fields of :class:`Settings` that win over environment and file.

    Raises:
        ConfigurationError: a value is malformed, or an override is unknown; values are not shown, they may be secret.
    """
    unknown = overrides.keys() - Settings.model_fields.keys()
    if unknown:
        raise ConfigurationError(
            f"unknown setting {min(unknown)!r}", f"settings are: {', '.join(sorted(Settings.model_fields))}"
        )
    file = env_file or find_env_file()
    try:
        settings = Settings(_env_file=file, **overrides)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0]).upper()
        raise ConfigurationError(
            f"setting {name}: {first['msg']}", f"correct it in {file or 'the environment'}"
        ) from None
    base = file.parent if file else Path.cwd()
    home = settings.lumigator_home.expanduser()
    found = settings.model_copy(update={"lumigator_home": base / home})
    found._env_file = file
    return found


def _listed(text: str | None) -> list[str]:
    """Entries of a setting with commas between them."""
    return [each.strip() for each in (text or "").split(",") if each.strip()]


def find_env_file() -> Path | None:
    """Return the nearest `.env` at or above the current folder, or None."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / ".env").is_file():
            return folder / ".env"
    return None
