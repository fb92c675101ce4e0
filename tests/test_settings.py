"""tracking.settings: defaults, files, and every mistake told at once."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.keys import private_pem, public_pem
from tracking.errors import SettingsError
from tracking.settings import Settings, explain

SECRET = {"JWT_SECRET": "x" * 32}


def test_the_defaults_are_the_platforms() -> None:
    settings = Settings.from_environment(SECRET)
    assert (settings.db_host, settings.db_port, settings.db_user) == ("localhost", 5432, "postgres")
    assert (settings.db_name, settings.service_port) == ("tracking_db", 8005)
    assert settings.kafka_brokers == ("localhost:9092",)
    assert settings.topic("booking.events") == "kilat-pet-runner.booking.events"


def test_an_empty_prefix_means_bare_topic_names() -> None:
    settings = Settings.from_environment({**SECRET, "KAFKA_TOPIC_PREFIX": ""})
    assert settings.topic("runner.events") == "runner.events"


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("y" * 40 + "\n")
    assert Settings.from_environment({"JWT_SECRET_FILE": str(path)}).jwt_secret == "y" * 40
    missing = {**SECRET, "DB_PASSWORD_FILE": str(tmp_path / "nowhere")}
    with pytest.raises(SettingsError, match="DB_PASSWORD_FILE: No such file"):
        Settings.from_environment(missing)


WRONG = {
    "DB_PORT": "99999",
    "DB_SSL_MODE": "perhaps",
    "SERVICE_PORT": "-1",
    "KAFKA_BROKERS": "localhost",
    "KAFKA_TOPIC_PREFIX": "a b",
    "JWT_SECRET": "secret-but-short",
    "JWT_JWKS_URL": "http://plain.example/jwks",
    "JWT_PUBLIC_KEY": "not a key",
    "ALLOWED_ORIGINS": "https://a.example/path",
    "TRACKING_UPDATED": "maybe",
    "TRACKING_UPDATED_INTERVAL": "-5",
    "LOG_FORMAT": "xml",
}


EC_KEY = ec.generate_private_key(ec.SECP384R1())
USELESS = {
    "cut": {"JWT_PUBLIC_KEY": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----"},
    "private": {"JWT_PUBLIC_KEY": private_pem(EC_KEY)},
    "another curve": {"JWT_PUBLIC_KEY": public_pem(EC_KEY.public_key())},
    "another kind": {
        "JWT_PUBLIC_KEY": public_pem(ed25519.Ed25519PrivateKey.generate().public_key())
    },
    "public as secret": {"JWT_SECRET": public_pem(EC_KEY.public_key())},
    "JWK as secret": {"JWT_SECRET": '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}'},
}


@pytest.mark.parametrize("environ", USELESS.values(), ids=list(USELESS))
@pytest.mark.parametrize("from_file", [False, True])
def test_a_key_that_verifies_nothing_is_told_at_the_start_and_not_shown(
    environ: dict[str, str], tmp_path: Path, from_file: bool
) -> None:
    ((name, key),) = environ.items()
    if from_file:
        path = tmp_path / "key"
        path.write_text(key)
        environ = {f"{name}_FILE": str(path)}
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environ)
    size = len(key.strip() if from_file else key)
    assert str(caught.value).startswith(f"{name}: found {size} bytes, expected ")
    assert key.splitlines()[-1] not in str(caught.value)


def test_every_mistake_is_told_at_once_without_secrets() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(WRONG)
    lines = str(caught.value).splitlines()
    assert {line.split(":")[0] for line in lines} == set(WRONG)
    assert len(lines) == len(WRONG)
    assert all("expected" in line for line in lines)
    assert "secret-but-short" not in str(caught.value)


@pytest.mark.parametrize("extra", [{}, {**SECRET, "JWT_JWKS_URL": "https://keys.example/jwks"}])
def test_exactly_one_kind_of_key_is_needed(extra: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="exactly one"):
        Settings.from_environment(extra)


def test_the_log_shows_no_secret() -> None:
    masked = Settings.from_environment({**SECRET, "DB_PASSWORD": "hunter2"}).masked()
    assert masked["db_password"] == masked["jwt_secret"] == "***"
    assert "hunter2" not in str(masked)


def test_help_names_every_variable_with_its_default() -> None:
    text = explain()
    assert "SERVICE_PORT" in text
    assert "[8005]" in text
    assert "[on]" in text
