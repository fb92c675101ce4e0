"""After a restore of PostgreSQL: ready the service for the replay. `--help` explains."""

import argparse
import sys
from datetime import datetime

from kafka.errors import KafkaError

from tracking.errors import SettingsError
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine
from tracking.store.maintenance.restore import prepare_replay
from workers.kafka.clients import explained
from workers.kafka.rewind import rewind

EXIT_FAILED = 1
EXIT_USAGE = 2


def main() -> int:
    """The exit status: 0 done, 1 Kafka or PostgreSQL failed, 2 wrong usage or settings."""
    arguments = _parser().parse_args()
    try:
        kafka, database = KafkaSettings.from_environment(), DatabaseSettings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    if arguments.since.tzinfo is None:
        print("--since needs a zone: 2026-11-24T00:00+00:00", file=sys.stderr)
        return EXIT_USAGE
    try:
        with explained():
            _rewind(kafka, arguments)
    except (KafkaError, OSError) as error:
        print(f"Kafka: {error!r}; is the service stopped?", file=sys.stderr)
        return EXIT_FAILED
    return 0 if arguments.dry_run else _renew(database)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="With the service stopped: set the consumer group back to before the backup,"
        " and give every track a new epoch. Doing it twice does no harm.",
        epilog="Reads the KAFKA_* and DB_* variables that server.py reads.",
    )
    parser.add_argument(
        "--since",
        required=True,
        type=datetime.fromisoformat,
        metavar="TIME",
        help="when the backup was begun, or an hour before, ISO 8601; what is there is read twice",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return parser


def _rewind(settings: KafkaSettings, arguments: argparse.Namespace) -> None:
    for each in rewind(settings, arguments.since, dry_run=arguments.dry_run):
        gone = "  WARNING: Kafka kept nothing older, see its retention" if each.begins_here else ""
        print(f"{each.topic}/{each.partition}: {each.before} -> {each.after}{gone}")


def _renew(settings: DatabaseSettings) -> int:
    engine = create_engine(settings, name="after restore")
    try:
        print(f"{prepare_replay(engine)} tracks have a new epoch")
    except Exception as error:  # whatever it is, the operator reads it and tries again
        print(f"PostgreSQL: {str(error).splitlines()[0]}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
