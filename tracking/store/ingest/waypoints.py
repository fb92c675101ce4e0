"""Which of a batch's waypoints are new, and where in their routes they fall.

Part of the ingest transaction, under the bookings' locks. The common case, a waypoint newer than
all others of its track, costs no look-up: it cannot be a duplicate, and its leg starts at the head.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import LocationUpdate
from tracking.domain.routes import Gap
from tracking.store.ingest import duplicates, neighbours
from tracking.store.ingest.track_state import Addition, Candidate, TrackState, vertex_of


def add_waypoints(cursor: Cursor, candidates: Iterable[Candidate]) -> set[int]:
    """Gather into `track.added` what is new; the numbers of the candidates that were.

    A candidate is (number, track, update that the track covers). They are taken in the order of
    recorded time: Kafka's partitions shuffle a batch, and what is in order needs no look-up.
    """
    new, doubtful = set(), []
    for number, track, update in sorted(candidates, key=_recorded_at):
        newest, ahead = track.newest, track.ahead_until
        is_newest = newest is None or update.recorded_at > newest.recorded_at
        if (
            is_newest
            and update.recorded_at is update.reported_at
            and (ahead is None or update.reported_at > ahead)
        ):
            _add(track, update, track.end, is_newest=True)
            new.add(number)
        else:
            doubtful.append((number, track, update))
    for (number, track, update), gap in _unknown(cursor, doubtful):
        is_newest = track.newest is None or vertex_of(update) > track.newest
        _add(track, update, gap, is_newest=is_newest)
        new.add(number)
    return new


def _recorded_at(candidate: Candidate) -> datetime:
    return candidate[2].recorded_at


def _add(track: TrackState, update: LocationUpdate, gap: Gap, *, is_newest: bool) -> None:
    vertex, shown_until = vertex_of(update), track.shown_until
    late = not is_newest or (shown_until is not None and update.recorded_at < shown_until)
    track.added.append(Addition(update, vertex, gap, late))
    if is_newest:
        track.newest = vertex


def _unknown(cursor: Cursor, candidates: Sequence[Candidate]) -> list[tuple[Candidate, Gap]]:
    """Those that neither the table nor this batch has, each with the gap that it falls into."""
    if not candidates:
        return []
    seen = set(duplicates.stored_corrected(cursor, [c for c in candidates if _may_be_corrected(c)]))
    for track in {track.id: track for _, track, _ in candidates}.values():
        seen |= {duplicates.report(track, a.update) for a in track.added}
    unknown = []
    for candidate in duplicates.not_stored(cursor, candidates):
        key = duplicates.report(candidate[1], candidate[2])
        if key not in seen:
            seen.add(key)
            unknown.append(candidate)
    return list(zip(unknown, neighbours.gaps(cursor, unknown), strict=True))


def _may_be_corrected(candidate: Candidate) -> bool:
    """May the report be stored at another time than its phone said?"""
    _, track, update = candidate
    is_ahead = track.ahead_until is not None and update.reported_at <= track.ahead_until
    return is_ahead or duplicates.is_corrected(update)
