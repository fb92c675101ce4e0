"""workers.connection_check: `server.py --check` tries every connection."""

from tests.programs import run_program


def test_check_tries_the_connections(database: dict[str, str]) -> None:
    good = run_program("server.py", "--check", environ=database)
    assert (good.returncode, "PostGIS" in good.stdout) == (0, True)
    assert "retention: routes are kept for ever (RETENTION_DAYS=0)" in good.stdout
    away = {**database, "DB_PORT": "1", "KAFKA_BROKERS": "127.0.0.1:1"}
    bad = run_program("server.py", "--check", environ=away)
    assert bad.returncode == 1
    assert bad.stderr.count("\n") == 2
    assert database["DB_PASSWORD"] not in bad.stderr


def test_processes_of_other_roles_try_the_relay_with_its_own_client(
    database: dict[str, str],
) -> None:
    good = run_program("server.py", "--role", "live", "--check", environ=database)
    assert good.returncode == 0
    assert "relay: ok, not there yet" in good.stdout
    away = {**database, "KAFKA_BROKERS": "127.0.0.1:1"}
    bad = run_program("server.py", "--role", "ingest", "--check", environ=away)
    assert bad.returncode == 1
    assert "relay: librdkafka: " in bad.stderr
