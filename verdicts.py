"""Judge the waypoints of ended trips again, or say what would change. `--help` explains."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from tracking.domain.events import FIRST_TIME
from tracking.domain.times import time_argument
from tracking.domain.verdicts import Rule, Verdict
from tracking.errors import SettingsError
from tracking.route_settings import RouteSettings
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.maintenance.judging import (
    EndedTrack,
    RouteVerdicts,
    ended_tracks,
    judge_track,
)
from tracking.store.maintenance.metadata import update_metadata
from tracking.wire.summarized import settled_fields

EXIT_FAILED = 1
EXIT_USAGE = 2
# Some 2 MB; each page sorts the ended trips anew.
PAGE = 10_000


@dataclass(frozen=True, kw_only=True)
class JudgingSettings(DatabaseSettings, RouteSettings):
    """All that this tool needs."""


def main() -> int:
    """The exit status: 0 done, 1 PostgreSQL failed, 2 wrong usage or settings."""
    arguments = _parser().parse_args()
    try:
        settings = JudgingSettings.from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    rule = Rule(max_speed_kmh=arguments.max_speed_kmh or settings.max_speed_kmh)
    engine = create_engine(settings, name="verdicts")
    try:
        _judge_all(engine, rule, arguments.since, dry_run=arguments.dry_run)
    except Exception as error:  # whatever it is, the operator reads it and tries again
        print(f"PostgreSQL: {str(error).splitlines()[0]}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        engine.dispose()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Judges the waypoints of ended trips by the present rule, and prints a line for"
        " each trip whose verdicts change. The service may run meanwhile; doing it twice does no"
        " harm.",
        epilog="Reads the DB_* variables and MAX_SPEED_KMH, as server.py does. Exit status: 0 done,"
        " 1 PostgreSQL failed (run it again), 2 wrong usage or settings.",
    )
    parser.add_argument(
        "--max-speed-kmh", type=_speed, metavar="KMH", help="in place of MAX_SPEED_KMH"
    )
    parser.add_argument(
        "--since",
        type=time_argument,
        default=FIRST_TIME,
        metavar="TIME",
        help="only trips that ended then or later: 2026-11-24T02:00Z [all]",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    return parser


def _speed(text: str) -> float:
    if not text.isdigit() or not 10 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 10 to 1000")
    return float(text)


def _judge_all(engine: sa.Engine, rule: Rule, since: datetime, *, dry_run: bool) -> None:
    trips = changed = flagged = cleared = skipped = 0
    for track in _all_ended(engine, since):
        trips += 1
        judged = _judge(engine, track, rule, dry_run=dry_run)
        if judged is None:
            skipped += 1
        elif judged.changed:
            changed += 1
            bad = sum(verdict is not Verdict.OK for verdict in judged.changed.values())
            flagged += bad
            cleared += len(judged.changed) - bad
            print(_line(track, judged, bad))
    would = " would change" if dry_run else " changed"
    print(f"{trips} trips judged at {rule.max_speed_kmh:g} km/h, {changed}{would}:"
          f" {flagged} waypoints flagged, {cleared} cleared")  # fmt: skip
    if skipped:
        print(f"{skipped} trips changed or went meanwhile: the service judges what is left")


def _judge(
    engine: sa.Engine, track: EndedTrack, rule: Rule, *, dry_run: bool
) -> RouteVerdicts | None:
    """None for one that changed, or was erased, meanwhile."""
    if not dry_run:
        return update_metadata(engine, track.id, rule, describe=settled_fields)
    try:
        return judge_track(engine, track.id, rule, dry_run=True)
    except LookupError:
        return None


def _all_ended(engine: sa.Engine, since: datetime) -> Iterator[EndedTrack]:
    page = ended_tracks(engine, since, None, PAGE)
    while page:
        yield from page
        page = ended_tracks(engine, since, page[-1], PAGE)


def _line(track: EndedTrack, judged: RouteVerdicts, bad: int) -> str:
    name = track.booking_number or str(track.booking_id)
    note = " (implausible: none is flagged)" if judged.implausible else ""
    return f"{name}: {bad} flagged, {len(judged.changed) - bad} cleared{note}"


if __name__ == "__main__":
    sys.exit(main())
