"""Erase a booking, all bookings of an owner, or a runner from all of his. `--help` explains."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import sqlalchemy as sa

from tracking.errors import DatabaseUnavailable, NotFound, SettingsError, TripActive
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine, is_transient
from tracking.store.erasing import runners
from tracking.store.erasing.bookings import (
    bookings_of_owner,
    erase_booking,
    forget_owner,
    forget_statistics,
)

EXIT_FAILED = 1
EXIT_USAGE = 2
# A transaction that waits for another one's lock gives up after two seconds.
TRIES: Final = 5
PROGRESS_S: Final = 2.0
# A route of a million waypoints takes some seconds; whole tables are read for a runner.
STATEMENT_S: Final = 600
R = TypeVar("R")

EXAMPLES: Final = """
examples:
  python erase.py --booking 6f0c1d8e-8f5e-4a43-9a3f-0d4b8a1f2c11 --dry-run
  python erase.py --owner 0d4b8a1f-2c11-4a43-9a3f-6f0c1d8e8f5e
  python erase.py --runner 9a3f6f0c-1d8e-4f5e-8a43-0d4b8a1f2c11

--booking and --owner leave nothing of a trip but its booking id and when it was erased. --runner
leaves the trips to their owners, without him and his waypoints. Each booking is one transaction;
the service may run meanwhile. Trips that are under way stay, and are named: run it again when
they are over. Reads the DB_* variables that server.py reads. Exit status: 0 all erased, 1
PostgreSQL failed, a trip is under way, or nothing is known of it (run it again), 2 wrong usage or
settings, 130 interrupted.
What of it is in Kafka and in backups, and for how long: docs/erasure.md.
"""


class Eraser:
    """One after the other; what failed or had to stay is in `left`."""

    def __init__(self, engine: sa.Engine, *, dry_run: bool) -> None:
        self._engine, self._dry_run = engine, dry_run
        self.rows: Counter[str] = Counter()
        self.done = self.left = 0
        self._said_at = time.monotonic()

    def booking(self, booking_id: UUID) -> None:
        try:
            erased = _tried(lambda: erase_booking(self._engine, booking_id, dry_run=self._dry_run))
        except (TripActive, NotFound) as error:
            self._stays(booking_id, error)
            return
        if erased.erased_at is not None and not erased.rows:
            print(f"{booking_id}: erased before, at {erased.erased_at.isoformat()}")
        self.rows.update(erased.rows)
        self._one_done()

    def owner(self, owner_id: UUID) -> None:
        bookings = bookings_of_owner(self._engine, owner_id)
        for booking_id in bookings:
            self.booking(booking_id)
        if not bookings:
            print(f"no booking of owner {owner_id} is left", file=sys.stderr)
        if not self._dry_run and not self.left:
            forget_owner(self._engine, owner_id)

    def runner(self, runner_id: UUID) -> None:
        before = datetime.now(UTC)
        bookings = runners.bookings_of_runner(self._engine, runner_id, before)
        for each in bookings:
            if each.is_active:
                self._stays(each.booking_id, TripActive("the trip is under way"))
        if self.left:
            print("nothing was erased: he is a runner of trips under way", file=sys.stderr)
            return
        if not self._dry_run:
            runners.begin(self._engine, runner_id, before)
            bookings = runners.bookings_of_runner(self._engine, runner_id, before)
        for each in bookings:
            self._runner_of(runner_id, each.booking_id)
        if not self._dry_run:
            parked = _tried(lambda: runners.forget_parked(self._engine, runner_id, before))
            self.rows["parked_updates"] += parked

    def _runner_of(self, runner_id: UUID, booking_id: UUID) -> None:
        if not self._dry_run:
            self.rows["waypoints"] += _tried(
                lambda: runners.erase_from_booking(self._engine, runner_id, booking_id)
            )
        self._one_done()

    def _stays(self, booking_id: UUID, error: Exception) -> None:
        self.left += 1
        print(f"{booking_id}: {error}", file=sys.stderr)

    def _one_done(self) -> None:
        self.done += 1
        if time.monotonic() - self._said_at >= PROGRESS_S:
            self._said_at = time.monotonic()
            print(f"{self.done:,} bookings done", file=sys.stderr)

    def forget_statistics(self) -> None:
        if self.done and not self._dry_run:
            _tried(lambda: forget_statistics(self._engine))

    def say(self) -> None:
        verb = "would be erased" if self._dry_run else "erased"
        rows = ", ".join(f"{number:,} {table}" for table, number in self.rows.items() if number)
        print(f"{self.done:,} bookings {verb}{': ' + rows if rows else ''}")


def _tried(erase: Callable[[], R]) -> R:
    """Ingest may have the lock: again, some times."""
    for tries_left in reversed(range(TRIES)):
        try:
            return erase()
        except DatabaseUnavailable:
            if not tries_left:
                raise
        except sa.exc.DBAPIError as error:
            if not tries_left or not is_transient(error):
                raise
        time.sleep(0.5)
    raise AssertionError("the last try returns or raises")


def main() -> int:
    """The exit status."""
    arguments = _parser().parse_args()
    try:
        settings = DatabaseSettings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    engine = create_engine(settings, name="erase", statement_timeout_s=STATEMENT_S)
    eraser = Eraser(engine, dry_run=arguments.dry_run)
    try:
        if arguments.booking is not None:
            eraser.booking(arguments.booking)
        elif arguments.owner is not None:
            eraser.owner(arguments.owner)
        else:
            eraser.runner(arguments.runner)
        eraser.forget_statistics()
    except Exception as error:  # whatever it is, the operator reads it and tries again
        reason = str(error).splitlines()[0]
        print(f"PostgreSQL: {reason}; run it again, it goes on where it was", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; run it again, it goes on where it was", file=sys.stderr)
        return 130
    finally:
        engine.dispose()
    eraser.say()
    return EXIT_FAILED if eraser.left else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Erases where somebody was, and who it was, for good.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--booking", type=_uuid, metavar="UUID", help="one booking and its trip")
    who.add_argument("--owner", type=_uuid, metavar="UUID", help="all bookings of an owner")
    who.add_argument("--runner", type=_uuid, metavar="UUID", help="a runner, in all bookings")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be erased")
    return parser


def _uuid(text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if not found.int or str(found) != text.lower():
        raise argparse.ArgumentTypeError(f"{text} is no UUID like {UUID(int=1 << 127)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
