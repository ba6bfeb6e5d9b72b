from __future__ import annotations

from pathlib import Path

import pytest

from lumigator_nb import config
from lumigator_nb.errors import ConfigurationError


def env_file(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_live_in_the_home_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LUMIGATOR_HOME", str(tmp_path / "home"))
    settings = config.load()
    assert settings.database_url == f"sqlite:///{tmp_path / 'home' / 'lumigator.db'}"
    assert settings.store_spec.uri == (tmp_path / "home" / "store").as_uri()
    assert settings.store_credentials == {}


def test_the_nearest_env_file_is_read_and_its_paths_are_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LUMIGATOR_HOME", raising=False)
    env_file(tmp_path, "LUMIGATOR_HOME=data\n")
    below = tmp_path / "notebooks"
    below.mkdir()
    monkeypatch.chdir(below)
    assert config.load().home == tmp_path / "data"


def test_the_environment_wins_over_the_file_and_arguments_over_both(tmp_path, monkeypatch) -> None:
    file = env_file(tmp_path, "RAY_DASHBOARD_PORT=1000\nS3_BUCKET=from-file\n")
    monkeypatch.setenv("RAY_DASHBOARD_PORT", "2000")
    assert config.load(file).ray_dashboard_port == 2000
    assert config.load(file, ray_dashboard_port=3000).ray_dashboard_port == 3000
    assert config.load(file).store_spec.uri == "s3://from-file"


@pytest.mark.parametrize(
    ("text", "name"),
    [("RAY_DASHBOARD_PORT=many\n", "RAY_DASHBOARD_PORT"), ("DEPLOYMENT_TYPE=hunter2\n", "DEPLOYMENT_TYPE")],
)
def test_a_malformed_value_names_the_setting_and_keeps_the_value_to_itself(tmp_path, text, name) -> None:
    with pytest.raises(ConfigurationError, match=f"setting {name}") as caught:
        config.load(env_file(tmp_path, text))
    assert "hunter2" not in str(caught.value)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="unknown setting 'bucket'"):
        config.load(bucket="x")


def test_secrets_stay_out_of_sight(tmp_path) -> None:
    text = (
        "SQLALCHEMY_DATABASE_URL=postgresql://u:hunter2@h/d\nAWS_ACCESS_KEY_ID=id\n"
        "AWS_SECRET_ACCESS_KEY=hunter2\nLUMIGATOR_SECRET_KEY=hunter2\n"
    )
    settings = config.load(env_file(tmp_path, text))
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.store_credentials["secret"] == "hunter2"
    assert settings.node_environment["AWS_SECRET_ACCESS_KEY"] == "hunter2"
