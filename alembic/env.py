"""Runs the migrations against the database that the server's own settings name."""

import sys

from alembic import command, context
from sqlalchemy import Connection

from tracking.errors import SettingsError
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine, is_newer_schema
from tracking.store.models import Base


def include_name(name: str | None, kind: str, _: object) -> bool:
    """Leave out the partitions, and PostGIS's own tables."""
    return kind != "table" or name in Base.metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, include_name=include_name
    )
    with context.begin_transaction():
        context.run_migrations()


def is_upgrade() -> bool:
    """On the command line."""
    asked = getattr(context.config.cmd_opts, "cmd", None)  # the function and its arguments
    return asked is not None and asked[0] is command.upgrade


def main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    try:
        settings = DatabaseSettings.from_environment()
    except SettingsError as error:
        sys.exit(str(error))
    # No time limit for a statement: an index on a large table takes what it takes.
    engine = create_engine(settings, name="alembic", statement_timeout_s=0)
    with engine.connect() as connection:
        # After a rollback, a release that corrects the old line has to go in, too.
        is_done = is_upgrade() and is_newer_schema(connection)
    if is_done:
        print("The schema is newer, and this code runs on it: nothing to migrate")
    else:
        with engine.connect() as connection:
            run(connection)
    engine.dispose()


main()
