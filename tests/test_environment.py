"""tracking.environment: variables, files, what is shown and what is not."""

from pathlib import Path

import pytest

from tracking.errors import SettingsError
from tracking.settings import Settings

SECRET = {"JWT_SECRET": "x" * 32}


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("y" * 40 + "\n")
    assert Settings.from_environment({"JWT_SECRET_FILE": str(path)}).jwt_secret == "y" * 40
    missing = {**SECRET, "DB_PASSWORD_FILE": str(tmp_path / "nowhere")}
    with pytest.raises(SettingsError, match="DB_PASSWORD_FILE: No such file"):
        Settings.from_environment(missing)


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    keys = {"JWT_JWKS_URL": "https://id.example/keys", "JWT_SECRET_FILE": str(tmp_path / "secret")}
    assert Settings.from_environment(keys).jwt_secret == ""


def test_the_log_shows_no_secret() -> None:
    masked = Settings.from_environment({**SECRET, "DB_PASSWORD": "hunter2"}).masked()
    assert masked["db_password"] == masked["jwt_secret"] == "***"
    assert "hunter2" not in str(masked)


def test_help_names_every_variable_with_its_default() -> None:
    text = Settings.explain()
    assert "SERVICE_PORT" in text
    assert "[8005]" in text
    assert "[on]" in text
