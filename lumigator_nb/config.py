"""Settings: from arguments, the environment and the nearest `.env`, in that order of precedence.

Nothing is read at import: :func:`load` is called by :func:`lumigator_nb.connect`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.specs import StoreSpec


class Settings(BaseSettings):
    """Where everything is. Field names in capitals are the names of the environment variables.

    Attributes:
        lumigator_home: folder of the embedded database and store and of the local Ray head's state.
        sqlalchemy_database_url: database; empty means SQLite inside `lumigator_home`.
        lumigator_store: any fsspec URL; empty means `s3://S3_BUCKET`, or a folder inside `lumigator_home`.
        lumigator_cache_gb: how large the kept answers of models may grow, in 10⁹ bytes; empty means without limit.
        s3_bucket, s3_endpoint_url: bucket, and the server's address where it is not AWS.
        s3_path_style: address the bucket in the path, as many servers besides AWS ask for, and not in the host's name.
        aws_access_key_id, aws_secret_access_key, aws_default_region: S3 credentials; empty leaves them to the
            ordinary AWS chain (profile, instance role).
        ray_head_node_host: host of a Ray head that runs already; empty means that the package starts its own here.
        ray_dashboard_port: port of that head's Jobs API.
        ray_worker_gpus: GPUs that each workflow asks of the cluster; fractions share one.
        hf_home: folder of Hugging Face's caches.
        deployment_type: "local", "development", "staging" or "production".
        lumigator_secret_key: seals the secrets in the database, and API keys on their way to a remote cluster, whose
            nodes share it; empty means a key file in `lumigator_home`, or the operating system's keyring.
    """

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, env_file_encoding="utf-8", hide_input_in_errors=True
    )

    lumigator_home: Path = Path("~/.lumigator")
    sqlalchemy_database_url: SecretStr | None = None
    lumigator_store: str | None = None
    lumigator_cache_gb: float | None = Field(default=None, gt=0)
    s3_bucket: str | None = None
    s3_endpoint_url: str | None = None
    s3_path_style: bool = False
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_default_region: str | None = None
    ray_head_node_host: str | None = None
    ray_dashboard_port: int = Field(default=8265, ge=1, le=65535)
    ray_worker_gpus: float = Field(default=0.0, ge=0.0)
    hf_home: Path | None = None
    deployment_type: Literal["local", "development", "staging", "production"] = "local"
    lumigator_secret_key: SecretStr | None = None

    # Where `.env` was found; it may hold API keys besides the fields above.
    _env_file: Path | None = PrivateAttr(default=None)

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment or else of `.env`, such as an API key; None where neither has it."""
        return os.environ.get(name) or self.env_file_variables.get(name)

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
        return StoreSpec(uri=uri.rstrip("/"), endpoint_url=self.s3_endpoint_url)

    @property
    def store_credentials(self) -> dict[str, Any]:
        """Arguments for s3fs where `.env` holds the credentials; empty leaves it to the ordinary AWS chain."""
        if not (self.aws_access_key_id and self.aws_secret_access_key):
            return {}
        client = {"region_name": self.aws_default_region} if self.aws_default_region else {}
        return {
            "key": self.aws_access_key_id,
            "secret": self.aws_secret_access_key.get_secret_value(),
            "client_kwargs": client,
        }

    @property
    def node_environment(self) -> dict[str, str]:
        """Variables that a local head's processes need to reach the store and the model cache."""
        values = {
            "AWS_ACCESS_KEY_ID": self.aws_access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.aws_secret_access_key and self.aws_secret_access_key.get_secret_value(),
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


def find_env_file() -> Path | None:
    """Return the nearest `.env` at or above the current folder, or None."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / ".env").is_file():
            return folder / ".env"
    return None
