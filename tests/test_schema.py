"""alembic: up, down, up again, and no drift between models and database."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from tests.programs import run_program
from tests.running import CHECKOUT, Trip
from tests.test_store_ingest import accepted, delivered, update
from tracking.domain.events import Event
from tracking.errors import SchemaOutdated
from tracking.store.engine import check_schema, expected_revision
from tracking.store.ingest.batch import store_batch


def migrate(engine: sa.Engine, action: str, *arguments: str) -> None:
    with engine.begin() as connection:
        config = Config(CHECKOUT / "alembic.ini")
        config.attributes["connection"] = connection
        getattr(command, action)(config, *arguments)


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names()) - {"spatial_ref_sys", "alembic_version"}


def test_down_and_up_again_and_no_drift(own_engine: sa.Engine) -> None:
    full = tables(own_engine)
    assert {"tracks", "waypoints", "route_metadata", "outbox"} <= full
    migrate(own_engine, "downgrade", "base")
    assert tables(own_engine) == set()
    with own_engine.connect() as connection, pytest.raises(SchemaOutdated, match="alembic upgrade"):
        check_schema(connection, expected_revision())
    migrate(own_engine, "upgrade", "head")
    assert tables(own_engine) == full
    migrate(own_engine, "check")
    with own_engine.connect() as connection:
        check_schema(connection, expected_revision())


def test_code_goes_on_while_the_next_release_is_deployed(own_engine: sa.Engine) -> None:
    """On a schema that is newer, as long as its migrations say so."""
    with own_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        check_schema(connection, expected_revision())
        connection.execute(sa.text("DELETE FROM code_revisions"))
        with pytest.raises(SchemaOutdated, match="install a newer release"):
            check_schema(connection, expected_revision())


def test_a_correction_of_the_old_release_goes_in_after_a_rollback(
    own_engine: sa.Engine, environ: dict[str, str]
) -> None:
    """Its `alembic upgrade head` meets a revision that it doesn't know."""
    name = str(own_engine.url.database)
    upgrade = ("-m", "alembic", "upgrade", "head")
    with own_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    done = run_program(*upgrade, environ={**environ, "DB_NAME": name})
    assert (done.returncode, "nothing to migrate" in done.stdout) == (0, True), done.stderr
    with own_engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM code_revisions"))
    done = run_program(*upgrade, environ={**environ, "DB_NAME": name})
    assert done.returncode != 0
    assert "Can't locate revision identified by '9999'" in done.stdout


def test_an_older_schema_is_never_enough(own_engine: sa.Engine) -> None:
    migrate(own_engine, "downgrade", "-1")
    with own_engine.connect() as connection, pytest.raises(SchemaOutdated, match="alembic upgrade"):
        check_schema(connection, expected_revision())


def test_each_migration_says_that_its_own_code_runs(own_engine: sa.Engine) -> None:
    """Or a rollback from the next one would find no way back."""
    with own_engine.connect() as connection:
        known = set(connection.scalars(sa.text("SELECT revision FROM code_revisions")))
    assert expected_revision() in known


def test_a_trip_completed_before_corrections_were_known_is_corrected(own_engine: sa.Engine) -> None:
    trip = Trip()
    ending: list[Event] = [accepted(trip), update(trip, 0), delivered(trip, 60)]
    store_batch(own_engine, ending)
    completed, announced = outbox_types(own_engine), announcement(own_engine)
    migrate(own_engine, "downgrade", "0001")
    migrate(own_engine, "upgrade", "head")
    assert announcement(own_engine) == announced
    store_batch(own_engine, [*ending, update(trip, 30)])
    assert outbox_types(own_engine) == [*completed, "tracking.corrected"]


def outbox_types(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT type FROM outbox ORDER BY id")))


def announcement(engine: sa.Engine) -> list[object]:
    columns = "announced_id, announced_distance_mm, announced_completed_at"
    with engine.connect() as connection:
        return list(connection.execute(sa.text(f"SELECT {columns} FROM tracks")).one())


def test_drift_is_noticed(own_engine: sa.Engine) -> None:
    with own_engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE tracks DROP COLUMN end_reason"))
    with pytest.raises(CommandError, match="New upgrade operations"):
        migrate(own_engine, "check")


def test_alembic_tells_wrong_settings_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PORT", "many")
    with pytest.raises(SystemExit, match="DB_PORT: found 'many'"):
        command.current(Config(CHECKOUT / "alembic.ini"))
