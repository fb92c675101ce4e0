"""tracking.settings: defaults, what belongs together, and every mistake told at once."""

import pytest

from tracking.errors import SettingsError
from tracking.settings import Settings

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
    "EMBED_ORIGINS": "*",
    "LOGIN_URL": "login",
    "WEB": "perhaps",
    "TRACKING_UPDATED": "maybe",
    "TRACKING_UPDATED_INTERVAL": "-5",
    "LOG_FORMAT": "xml",
}


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


def test_the_speed_that_no_runner_exceeds_is_a_whole_number() -> None:
    assert Settings.from_environment(SECRET).max_speed_kmh == 150
    with pytest.raises(SettingsError, match="MAX_SPEED_KMH"):
        Settings.from_environment({**SECRET, "MAX_SPEED_KMH": "5"})
