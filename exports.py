"""Export the routes of all trips of some time into a folder. `--help` explains."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import structs

from tracking.domain.exports import MOST_GAP_S, MOST_SIMPLIFY_M, ExportOptions, file_name
from tracking.domain.segments import gap_of
from tracking.domain.times import time_argument
from tracking.errors import DatabaseUnavailable, RouteChanged, SettingsError
from tracking.settings import DatabaseSettings
from tracking.store.engine import create_engine
from tracking.store.read import points
from tracking.store.read.exported import export_start, trips_between
from tracking.store.read.points import PointsPage
from tracking.store.read.routes import Place, RouteSlice
from tracking.store.read.simplified import Simplification, kept
from tracking.store.read.tracks import find_track
from tracking.wire.exports import FORMATS
from tracking.wire.exports.export import Export, exported
from tracking.wire.exports.folder import Folder, Written
from tracking.wire.exports.format import Format

EXIT_FAILED = 1
EXIT_USAGE = 2
# A route that changes while it is read is read again; one that changes each time is under way.
TRIES: Final = 3
PROGRESS_S: Final = 2.0
OUTPUT: Final = Path("exports")
EXAMPLES: Final = """
examples:
  python exports.py --since 2026-11-01T00:00Z --format gpx
  python exports.py --since 2026-11-01T00:00Z --until 2026-12-01T00:00Z --format gpx --output nov
  python exports.py --since 2026-11-24T00:00+07:00 --until 2026-11-25T00:00+07:00 --format csv \\
      --flagged include --output /var/tmp/day

Reads the DB_* variables that server.py reads. Files appear whole (they are renamed when they are
finished); exports.jsonl in the folder lists them, and a second run leaves out what has not changed
since. Exit status: 0 all exported, 1 PostgreSQL failed or a trip could not be exported (run it
again), 2 wrong usage or settings, 130 interrupted.
"""


class Progress:
    """On standard error, every other second."""

    def __init__(self, trips: int) -> None:
        self._trips, self._begun, self._said_at = trips, time.monotonic(), time.monotonic()
        self.done = self.unchanged = self.failed = self.waypoints = 0

    def say(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._said_at >= PROGRESS_S:
            self._said_at = now
            print(
                f"{self.done + self.unchanged + self.failed:,} of {self._trips:,} trips,"
                f" {self.unchanged:,} of them unchanged, {self.failed:,} failed;"
                f" {self.waypoints:,} waypoints in {now - self._begun:.0f} s",
                file=sys.stderr,
            )


class Exporter:
    """All trips one after the other; each page is read while the one before it is written."""

    def __init__(self, engine: sa.Engine, ending: str, options: ExportOptions) -> None:
        self._engine, self._ending, self._options = engine, ending, options
        self._ahead = ThreadPoolExecutor(1, "pages")
        self.progress = Progress(0)

    def run(self, bookings: list[UUID], folder: Folder) -> None:
        self.progress = Progress(len(bookings))
        for booking_id in bookings:
            for attempt in range(1, TRIES + 1):
                try:
                    self._export(booking_id, folder)
                    break
                except RouteChanged as error:
                    if attempt == TRIES:
                        self.progress.failed += 1
                        print(f"{booking_id}: {error}", file=sys.stderr)
            self.progress.say()
        self.progress.say(at_once=True)

    def _export(self, booking_id: UUID, folder: Folder) -> None:
        track = find_track(self._engine, booking_id)
        if track is None:
            raise RouteChanged("the trip is no longer there")
        options = self._options
        part = RouteSlice(track.id, 0, track.head_seq)
        start = export_start(self._engine, track, part)
        # Two bookings may have one number.
        file = f"{booking_id}_{file_name(start.booking_number, booking_id, self._ending)}"
        written = Written(
            file, booking_id, track.epoch, track.version, start.judged_at, options, start.count, 0
        )
        if folder.has(written):
            self.progress.unchanged += 1
            return
        gap_s = gap_of(start.median_s) if options.gap_s is None else options.gap_s
        document = FORMATS[self._ending]()
        export = Export(
            document, exported(track, start.booking_number), start.count,
            gap_s=gap_s, with_flagged=options.with_flagged,
        )  # fmt: skip
        size = folder.write(file, self._pieces(export, document, part, gap_s))
        folder.remember(structs.replace(written, bytes=size))
        self.progress.done += 1

    def _pieces(
        self, export: Export, document: Format, part: RouteSlice, gap_s: float
    ) -> Iterator[bytes]:
        yield export.head()
        read = self._ahead.submit(self._read, document, part, gap_s, None)
        while True:
            page = read.result()
            if page.next_place is not None:
                read = self._ahead.submit(self._read, document, part, gap_s, page.next_place)
            yield from export.page(page.points, page.kept)
            self.progress.waypoints += page.points.count
            self.progress.say()
            if page.next_place is None:
                break
        yield from export.tail()

    def _read(
        self, document: Format, part: RouteSlice, gap_s: float, place: Place | None
    ) -> PointsPage:
        options = self._options
        page = points.page(self._engine, part, document.columns, place)
        if not options.simplify_m:
            return page
        simplification = Simplification(options.simplify_m, gap_s, options.with_flagged)
        seqs = kept(self._engine, part, place, page.points.count, simplification)
        return page._replace(kept=seqs)


def main() -> int:
    """The exit status."""
    parser = _parser()
    arguments = parser.parse_args()
    since: datetime = arguments.since
    until: datetime = arguments.until or datetime.now(UTC)
    if since >= until:
        parser.error("--since is not before --until, or lies in the future")
    try:
        settings = DatabaseSettings.from_environment()
        folder = Folder(arguments.output)
    except (SettingsError, OSError, msgspec.MsgspecError) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    engine = create_engine(settings, name="exports", autocommit=True)
    options = ExportOptions(
        simplify_m=arguments.simplify_m,
        gap_s=arguments.gap_s,
        with_flagged=arguments.flagged == "include",
    )
    exporter = Exporter(engine, arguments.format, options)
    try:
        exporter.run([*trips_between(engine, since, until)], folder)
    except (DatabaseUnavailable, OSError) as error:
        print(f"{error}; run it again, it goes on where it was", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted; run it again, it goes on where it was", file=sys.stderr)
        return 130
    finally:
        engine.dispose()
    return EXIT_FAILED if exporter.progress.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Writes the routes of all trips that began in some time, a file for each.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--since", required=True, type=time_argument, metavar="TIME", help="of the trips' start")
    add("--until", type=time_argument, metavar="TIME", help="... and before this; now")
    add("--format", required=True, choices=[*FORMATS])
    add("--output", type=Path, default=OUTPUT, metavar="DIR",
        help=f"made if it is not there; ./{OUTPUT}")  # fmt: skip
    add("--simplify-m", type=_number(0, MOST_SIMPLIFY_M), default=0.0, metavar="METRES",
        help="leave out waypoints that are no further from the line")  # fmt: skip
    add("--gap-s", type=_number(1, MOST_GAP_S), metavar="SECONDS",
        help="begin a segment after so long a silence")  # fmt: skip
    add("--flagged", choices=["include"], help="waypoints that cannot be true, too")
    return parser


def _number(least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not least <= float(text) <= most:
            raise ValueError
        return float(text)

    number.__name__ = f"number from {least:g} to {most:g}"  # as argparse names it
    return number


if __name__ == "__main__":
    sys.exit(main())
