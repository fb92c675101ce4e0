"""After a restore of PostgreSQL: prepare the replay of what Kafka still has. `--help` explains."""

import argparse
import sys
from collections.abc import Sequence

from kafka.errors import KafkaError, TopicAuthorizationFailedError

from tracking.domain.times import time_argument
from tracking.errors import SettingsError
from tracking.settings import DatabaseSettings, KafkaSettings
from tracking.store.engine import create_engine
from tracking.store.maintenance.restore import prepare_replay
from workers.erasures import TOPIC, Erasure, apply_again, kept_erasures
from workers.kafka.clients import explained
from workers.kafka.rewind import rewind
from workers.kafka.whole_topic import NoTopic

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
_ADVICE = (
    "Nothing was done: who was erased since the backup would be back. Run this with the service's"
    " own KAFKA_TOPIC_PREFIX and user; if nobody was ever erased, or that topic is lost, go on with"
    " --without-erasures."
)
# A route of a million waypoints takes some seconds; whole tables are read for a runner.
STATEMENT_S = 600


class _Refused(Exception):
    """What was erased is not known."""


def main() -> int:
    """The exit status, as `--help` tells it."""
    arguments = _parser().parse_args()
    try:
        kafka, database = KafkaSettings.from_environment(), DatabaseSettings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    try:
        with explained():
            erasures = _erasures(kafka, arguments)
            _rewind(kafka, arguments)
    except _Refused as error:
        print(f"{error}. {_ADVICE}", file=sys.stderr)
        return EXIT_REFUSED
    except (KafkaError, OSError) as error:
        print(f"Kafka: {error!r}; is the service stopped?", file=sys.stderr)
        return EXIT_FAILED
    return 0 if arguments.dry_run else _renew(database, erasures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="After PostgreSQL was restored from a backup, with the service stopped: sets"
        " the consumer group back, so that the service reads again what came since the backup, and"
        " gives every track a new epoch, so that apps load their routes anew. Erases again what was"
        " erased since the backup, as Kafka's topic of erasures has it. Doing it twice does no"
        " harm.",
        epilog="Reads the KAFKA_* and DB_* variables that server.py reads. Exit status: 0 done,"
        " 1 Kafka or PostgreSQL failed (run it again), 2 wrong usage or settings, 3 the topic of"
        " erasures is not there, or may not be read.",
    )
    parser.add_argument(
        "--since",
        required=True,
        type=time_argument,
        metavar="TIME",
        help="when the backup was begun, or earlier: 2026-11-24T02:00Z; reading too much again"
        " changes nothing",
    )
    parser.add_argument(
        "--without-erasures",
        action="store_true",
        help="do not read Kafka's topic of erasures: who was erased since the backup is back",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the offsets")
    return parser


def _erasures(settings: KafkaSettings, arguments: argparse.Namespace) -> list[Erasure]:
    if arguments.without_erasures:
        return []
    topic = settings.topic(TOPIC)
    try:
        found = kept_erasures(settings)
    except NoTopic:
        raise _Refused(f"there is no topic {topic}") from None
    except TopicAuthorizationFailedError:
        raise _Refused(f"{topic} may not be read: the ACLs do not let this user") from None
    print(f"{topic}: {len(found)} erasures")
    return found


def _rewind(settings: KafkaSettings, arguments: argparse.Namespace) -> None:
    for each in rewind(settings, arguments.since, dry_run=arguments.dry_run):
        gone = "  WARNING: Kafka has deleted older records (retention)" if each.begins_here else ""
        print(f"{each.topic}/{each.partition}: {each.before} -> {each.after}{gone}")


def _renew(settings: DatabaseSettings, erasures: Sequence[Erasure]) -> int:
    """Before anything is read again: what was erased is not there for a moment."""
    engine = create_engine(settings, name="after restore", statement_timeout_s=STATEMENT_S)
    try:
        for each in erasures:
            apply_again(engine, each)
        print(f"{len(erasures)} erasures are applied again")
        print(f"{prepare_replay(engine)} tracks have a new epoch")
    except Exception as error:  # whatever it is, the operator reads it and tries again
        print(f"PostgreSQL: {str(error).splitlines()[0]}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
