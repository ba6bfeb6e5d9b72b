"""Settings from arguments, the environment and the nearest `.env`, in that order of precedence.

Nothing is read at import; :func:`lumigator_nb.connect` calls :func:`load`.
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
    """Secrets that are stored elsewhere than in environment variables: in the database."""

    def names(self) -> list[str]:
        """Return the names of all secrets, without decrypting any."""

    def value(self, name: str) -> str | None:
        """Return the secret with that name, or None."""

    def opened(self) -> dict[str, str]:
        """Return all secrets that can be decrypted here, by name."""


class Settings(BaseSettings):
    """All settings. Their names in capitals are the names of the environment variables.

    Attributes:
        lumigator_home: folder of the embedded database and store, and of the local Ray head's state.
        sqlalchemy_database_url: database; empty for SQLite inside `lumigator_home`.
        lumigator_store: any fsspec URL; empty for `s3://S3_BUCKET`, or a folder inside `lumigator_home`.
        lumigator_store_shared: whether a store that is a folder is mounted under the same path on all nodes of a remote
            cluster.
        lumigator_cache_gb: maximum size of the answer cache in 10⁹ bytes; empty for no limit.
        s3_bucket, s3_endpoint_url: bucket, and the server's address if it is not AWS.
        s3_path_style: whether addresses have the bucket in their path, instead of in the host's name; empty for the
            host's name on AWS, and the path elsewhere.
        aws_access_key_id, aws_secret_access_key, aws_default_region: S3 credentials; empty for the ordinary AWS chain
            (profile, instance role).
        ray_address: ``http(s)://host:port`` of the Jobs API of a running Ray cluster. If empty or not an HTTP address,
            the package starts a local Ray head.
        ray_head_node_host, ray_dashboard_port: the same, as host of the Ray head and port of its Jobs API.
        ray_worker_gpus: GPUs that each workflow requests from the cluster; fractions share one.
        lumigator_max_running: maximum number of workflows on the cluster at the same time, running or waiting for a
            CPU. The others wait in the store, and take turns.
        hf_home: folder of Hugging Face's caches.
        lumigator_discovery: whether lists of models include those that this machine has already: at model servers, in
            the hub's cache, and in `lumigator_gguf_folder`. Only for a local Ray head.
        lumigator_model_servers: ports of this machine at which model servers may listen: ``PROVIDER=PORT``, separated
            by commas; "none" asks no port.
        lumigator_gguf_folder: folder with GGUF files, which may be in subfolders.
        deployment_type: "local", "development", "staging" or "production".
        lumigator_secret_key: encrypts the secrets in the database, and API keys on their way to a remote cluster, whose
            nodes need the same value. Empty for a key file in `lumigator_home`; "keyring:" for the operating system's
            keyring.
        lumigator_dashboard_password_file, lumigator_dashboard_token: logins of the served dashboard. If both are empty,
            it listens on this machine only, and every user of it may open it.
        lumigator_dashboard_oauth_provider, ..._key, ..._secret, ..._users, ..._redirect_uri: login at an OAuth provider
            instead; `users` are separated by commas.
        lumigator_max_upload_mb: maximum size of a file uploaded through the dashboard or the REST API, in 10⁶ bytes.
        api_cors_allowed_origins: origins of other web pages that may call the REST API from a browser, separated by
            commas; "*" for all.
        lumigator_rest_trust_remote_code: whether REST callers without the scope "admin" may run code that comes with a
            model of the hub (`trust_remote_code`).
        lumigator_rest_local_models: whether REST callers without the scope "admin" may name a model by a path on the
            cluster's machines.
        lumigator_rest_hosts: hosts, with or without a port, that `base_url` may name over REST although they belong
            to the server's own network; separated by commas.
        lumigator_rest_keys: secrets that REST callers may send elsewhere than to the provider in their name:
            ``NAME=address`` or ``NAME=provider``, separated by commas.
    """

    model_config = SettingsConfigDict(
        # A `.env` holds API keys and settings of other programs too; a value in an error might be a secret.
        extra="ignore",
        env_ignore_empty=True,
        env_file_encoding="utf-8",
        hide_input_in_errors=True,
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
    lumigator_discovery: bool = True
    lumigator_model_servers: str = "ollama=11434,lmstudio=1234,llamacpp=8080,vllm=8000"
    lumigator_gguf_folder: Path | None = None
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

    # The path of `.env`, which may hold API keys besides the fields above.
    _env_file: Path | None = PrivateAttr(default=None)
    _stored: StoredSecrets | None = PrivateAttr(default=None)

    def variable(self, name: str) -> str | None:
        """Return a variable such as an API key: from the environment, else from `.env`, else from the database.

        Raises:
            SecretError: the database has it, but it cannot be decrypted here.
        """
        return self.configured(name) or (self._stored.value(name) if self._stored else None)

    def configured(self, name: str) -> str | None:
        """Return a variable from the environment, else from `.env`; None if neither has it."""
        return os.environ.get(name) or self.env_file_variables.get(name)

    def having(self, names: Iterable[str]) -> set[str]:
        """Return those of the names for which :meth:`variable` has a value; no secret is decrypted."""
        stored = set(self._stored.names()) if self._stored else set()
        return {name for name in names if name in stored or self.configured(name)}

    def look_in(self, stored: StoredSecrets) -> None:
        """Let :meth:`variable` look up secrets in `stored`, after the environment and `.env`."""
        self._stored = stored

    @property
    def stored_secrets(self) -> dict[str, str]:
        """Value by name of the secrets in the database that can be decrypted here; for redaction only."""
        return self._stored.opened() if self._stored else {}

    @property
    def node_secret(self) -> str | None:
        """`lumigator_secret_key`, or None if it names this machine's keyring, which remote nodes cannot share."""
        text = self.lumigator_secret_key and self.lumigator_secret_key.get_secret_value()
        return None if not text or text.strip() == "keyring:" else text

    @property
    def env_file_variables(self) -> dict[str, str]:
        """The variables in `.env` that have a value, including secrets."""
        from dotenv import dotenv_values

        values = dotenv_values(self._env_file) if self._env_file else {}
        return {name: value for name, value in values.items() if value}

    @property
    def home(self) -> Path:
        """`lumigator_home`, absolute."""
        return self.lumigator_home.expanduser().resolve()

    @property
    def database_url(self) -> str:
        """The database's URL with its password: for the engine only, never to display."""
        if self.sqlalchemy_database_url:
            return self.sqlalchemy_database_url.get_secret_value()
        return f"sqlite:///{self.home / 'lumigator.db'}"

    @property
    def cache_limit(self) -> int | None:
        """Maximum size of the answer cache in bytes; None for no limit."""
        return None if self.lumigator_cache_gb is None else round(self.lumigator_cache_gb * 1e9)

    @property
    def store_spec(self) -> StoreSpec:
        """The place of the store, without credentials."""
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
        """Hosts of `lumigator_rest_hosts`, in lower case."""
        return frozenset(host.lower() for host in _listed(self.lumigator_rest_hosts))

    @property
    def rest_keys(self) -> dict[str, set[str]]:
        """Addresses (without a final slash) and providers that each secret of `lumigator_rest_keys` may be sent to.

        Raises:
            ConfigurationError: an entry is not ``NAME=address`` or ``NAME=provider``.
        """
        targets: dict[str, set[str]] = {}
        for entry in _listed(self.lumigator_rest_keys):
            name, _, target = (part.strip() for part in entry.partition("="))
            if not name or not target:
                raise ConfigurationError(
                    f"setting LUMIGATOR_REST_KEYS: {entry!r} is not NAME=address",
                    "write NAME=https://host/v1 or NAME=provider, separated by commas",
                )
            targets.setdefault(name.upper(), set()).add(target.rstrip("/"))
        return targets

    @property
    def store_credentials(self) -> dict[str, Any]:
        """Arguments for s3fs, as far as they are set; the ordinary AWS chain supplies the others."""
        arguments: dict[str, Any] = {}
        if self.aws_default_region:
            arguments["client_kwargs"] = {"region_name": self.aws_default_region}
        if self.aws_access_key_id and self.aws_secret_access_key:
            arguments |= {"key": self.aws_access_key_id, "secret": self.aws_secret_access_key.get_secret_value()}
            if self._session_token:
                arguments["token"] = self._session_token
        return arguments

    @property
    def _session_token(self) -> str | None:
        """AWS_SESSION_TOKEN from the source of the access key, the environment or `.env`.

        A key with the session token of another key is refused by AWS.
        """
        sources = (os.environ, self.env_file_variables)
        matching = (source for source in sources if source.get("AWS_ACCESS_KEY_ID") == self.aws_access_key_id)
        return next((source.get("AWS_SESSION_TOKEN") or None for source in matching), None)

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
            it are relative to its folder.
        overrides: fields of :class:`Settings` that take precedence over environment and file.

    Raises:
        ConfigurationError: a value is malformed, or an override is unknown. Values are not shown, as they may be
            secret.
    """
    unknown = overrides.keys() - Settings.model_fields.keys()
    # Settings ignore unknown names for the sake of `.env`, but an unknown argument is a typing error.
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
    # Relative to the file, so that a notebook in a subfolder finds the same home.
    base = file.parent if file else Path.cwd()
    home = settings.lumigator_home.expanduser()
    places: dict[str, Any] = {"lumigator_home": base / home}
    if settings.lumigator_gguf_folder is not None:
        places["lumigator_gguf_folder"] = base / settings.lumigator_gguf_folder.expanduser()
    settings = settings.model_copy(update=places)
    settings._env_file = file
    return settings


def _listed(text: str | None) -> list[str]:
    """Return the entries of a setting, which are separated by commas."""
    return [entry.strip() for entry in (text or "").split(",") if entry.strip()]


def find_env_file() -> Path | None:
    """Return the nearest `.env` at or above the current folder, or None."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / ".env").is_file():
            return folder / ".env"
    return None
