"""Waypoints into their tracks: duplicates out, numbered, measured, heads moved.

Part of the ingest transaction, under the bookings' locks. The common case, a waypoint newer than
all others of its track, costs no look-up: it cannot be a duplicate, and its leg starts at the head.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.events import LocationUpdate
from tracking.routes import Gap, Place, lengths_mm, new_legs
from tracking.store import partitions
from tracking.store.rows import Addition, StoredWaypoint, TrackState
from tracking.store.sql import WAYPOINT_COLUMNS, copy_binary, execute_rows, packed_waypoint

Candidate: TypeAlias = tuple[int, TrackState, LocationUpdate]

_POINT: Final = "ST_SetSRID(ST_MakePoint(%s, %s), 4326)"


def add_waypoints(cursor: Cursor, candidates: Iterable[Candidate]) -> set[int]:
    """Gather into `track.added` what is new; the numbers of the candidates that were.

    A candidate is (number, track, update that the track covers). They are taken in the order of
    recorded time: Kafka's partitions shuffle a batch, and what is in order needs no look-up.
    """
    new, doubtful = set(), []
    for number, track, update in sorted(candidates, key=_recorded_at):
        newest = track.newest
        is_newest = newest is None or update.recorded_at > newest.recorded_at
        if is_newest and update.recorded_at is update.reported_at:
            _add(track, update, late=False)
            new.add(number)
        else:
            doubtful.append((number, track, update))
    for number, track, update in _unknown(cursor, doubtful):
        late = track.newest is not None and _place(update).order < track.newest.order
        _add(track, update, late=late)
        new.add(number)
    return new


def _place(update: LocationUpdate) -> Place:
    return Place(
        update.recorded_at,
        update.runner_id,
        update.reported_at,
        update.longitude,
        update.latitude,
    )


def _recorded_at(candidate: Candidate) -> datetime:
    return candidate[2].recorded_at


def _add(track: TrackState, update: LocationUpdate, *, late: bool) -> None:
    place = _place(update)
    track.added.append(Addition(update, place, late))
    if not late:
        track.newest = place


def _unknown(cursor: Cursor, candidates: Collection[Candidate]) -> list[Candidate]:
    """Those that neither the table nor this batch has: same track, runner and reported time."""
    if not candidates:
        return []
    seen = stored_reports(cursor, candidates)
    for track in {track.id: track for _, track, _ in candidates}.values():
        seen |= {(track.id, a.update.runner_id, a.update.reported_at) for a in track.added}
    unknown = []
    for number, track, update in candidates:
        report = (track.id, update.runner_id, update.reported_at)
        if report not in seen:
            seen.add(report)
            unknown.append((number, track, update))
    return unknown


def stored_reports(
    cursor: Cursor, candidates: Iterable[Candidate]
) -> set[tuple[UUID, UUID, object]]:
    """Which (track id, runner id, reported time) of these the table has."""
    as_reported: list[tuple[object, ...]] = []
    corrected: list[tuple[object, ...]] = []
    for _, track, update in candidates:
        row = (track.id, update.recorded_at, update.runner_id, update.reported_at)
        (as_reported if update.recorded_at == update.reported_at else corrected).append(row)
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, recorded_at, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, recorded_at, runner_id, reported_at)",
        as_reported,
    )
    # A correction depends on when the platform got the report, and may differ the second time.
    found += execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, recorded_at, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, runner_id, reported_at)"
        " WHERE w.recorded_at <> w.reported_at",
        corrected,
    )
    return {(track_id, runner_id, reported_at) for track_id, runner_id, reported_at in found}


def write_waypoints(cursor: Cursor, tracks: Collection[TrackState]) -> list[StoredWaypoint]:
    """Number, measure and store what was gathered; move the heads.

    Each track's waypoints come back in the order of seq: batches as they arrived, the newer ones
    of a batch by recorded time, then those that were late.
    """
    grown = [track for track in tracks if track.added]
    if not grown:
        return []
    _measure(cursor, grown)
    stored, rows = [], []
    for track in grown:
        track_bytes = track.id.bytes
        for seq, addition in enumerate(track.added, track.head_seq + 1):
            stored.append(_stored(track, seq, addition))
            rows.append(_packed(track_bytes, seq, addition.update))
    _reopen_watermarks(cursor, grown)
    partitions.ensure(cursor, (waypoint.recorded_at for waypoint in stored))
    copy_binary(cursor, f"waypoints ({WAYPOINT_COLUMNS})", rows)
    for track in grown:
        track.head_seq += len(track.added)
        track.waypoint_count += len(track.added)
        track.last = track.newest
    write_heads(cursor, grown)
    return stored


def _measure(cursor: Cursor, tracks: Sequence[TrackState]) -> None:
    """Add to each track's distance what its new waypoints change."""
    neighbours = _neighbours(cursor, tracks)
    legs, owners = [], []
    for track in tracks:
        track_legs = new_legs(_by_gap(track, neighbours).items())
        legs += track_legs
        owners += [track] * len(track_legs)
    for track, length in zip(owners, lengths_mm(legs), strict=True):
        track.distance_mm += length


def _by_gap(track: TrackState, neighbours: dict[tuple[UUID, Place], Gap]) -> dict[Gap, list[Place]]:
    """The new places in route order, by the gap between stored waypoints that they fall into."""
    gaps: dict[Gap, list[Place]] = {}
    end = Gap(track.last, None)
    for place in sorted(addition.place for addition in track.added):
        gap = neighbours.get((track.id, place), end)
        gaps.setdefault(gap, []).append(place)
    return gaps


def _neighbours(cursor: Cursor, tracks: Iterable[TrackState]) -> dict[tuple[UUID, Place], Gap]:
    """The stored waypoints around each new one that is older than its track's head."""
    late = [
        (track.id, addition.place)
        for track in tracks
        if track.last is not None
        for addition in track.added
        if addition.late and addition.place.order < track.last.order
    ]
    found = execute_rows(
        cursor,
        """
        SELECT v.number, b.recorded_at, b.runner_id, b.reported_at, ST_X(b.position),
               ST_Y(b.position), a.recorded_at, a.runner_id, a.reported_at, ST_X(a.position),
               ST_Y(a.position)
        FROM (VALUES %s) v (number, track_id, recorded_at, runner_id, reported_at)
        LEFT JOIN LATERAL (
            SELECT * FROM waypoints w
            WHERE w.track_id = v.track_id AND w.in_route AND w.recorded_at <= v.recorded_at
              AND (w.recorded_at, w.runner_id, w.reported_at)
                < (v.recorded_at, v.runner_id, v.reported_at)
            ORDER BY w.recorded_at DESC, w.runner_id DESC, w.reported_at DESC LIMIT 1
        ) b ON true
        LEFT JOIN LATERAL (
            SELECT * FROM waypoints w
            WHERE w.track_id = v.track_id AND w.in_route AND w.recorded_at >= v.recorded_at
              AND (w.recorded_at, w.runner_id, w.reported_at)
                > (v.recorded_at, v.runner_id, v.reported_at)
            ORDER BY w.recorded_at, w.runner_id, w.reported_at LIMIT 1
        ) a ON true
        """,
        [(i, track_id, *place[:3]) for i, (track_id, place) in enumerate(late)],
    )
    return {late[number]: Gap(_found(row[:5]), _found(row[5:])) for number, *row in found}


def _found(row: Sequence[object]) -> Place | None:
    return None if row[0] is None else Place(*row)  # type: ignore[arg-type]


def _stored(track: TrackState, seq: int, addition: Addition) -> StoredWaypoint:
    update = addition.update
    return StoredWaypoint(
        track.booking_id,
        track.id,
        seq,
        update.runner_id,
        update.longitude,
        update.latitude,
        update.speed_kmh,
        update.heading_degrees,
        update.recorded_at,
        update.received_at,
        addition.late,
    )


def _packed(track_id: bytes, seq: int, update: LocationUpdate) -> bytes:
    return packed_waypoint(
        track_id,
        seq,
        update.runner_id,
        (update.recorded_at, update.reported_at, update.received_at),
        (update.longitude, update.latitude),
        (update.speed_kmh, update.heading_degrees),
    )


def _reopen_watermarks(cursor: Cursor, tracks: Iterable[TrackState]) -> None:
    """An ended track that was all out loses its watermark; late waypoints bring it back."""
    execute_rows(
        cursor,
        "INSERT INTO published_watermarks VALUES %s ON CONFLICT DO NOTHING",
        [(t.id, t.head_seq) for t in tracks if t.status != "active" or t.head_seq == 0],
    )


def write_heads(cursor: Cursor, tracks: Iterable[TrackState]) -> None:
    execute_rows(
        cursor,
        """
        UPDATE tracks SET head_seq = v.head_seq, waypoint_count = v.waypoint_count,
            distance_mm = v.distance_mm, last_recorded_at = v.recorded_at,
            last_runner_id = v.runner_id, last_reported_at = v.reported_at,
            last_position = ST_SetSRID(ST_MakePoint(v.x, v.y), 4326),
            version = version + 1, settled = false, updated_at = now()
        FROM (VALUES %s) v (booking_id, head_seq, waypoint_count, distance_mm, recorded_at,
            runner_id, reported_at, x, y)
        WHERE tracks.booking_id = v.booking_id
        """,
        [
            (t.booking_id, t.head_seq, t.waypoint_count, t.distance_mm, *(t.last or (None,) * 5))
            for t in tracks
        ],
        "(%s, %s, %s, %s, %s::timestamptz, %s::uuid, %s::timestamptz, %s::float8, %s::float8)",
    )


def reroute(cursor: Cursor, tracks: Sequence[TrackState]) -> None:
    """After assignments changed: decide anew which stored waypoints belong to the route.

    One that came before its trip's end was known keeps its row and leaves the route.
    """
    if not tracks:
        return
    cursor.execute(
        """
        UPDATE waypoints w SET in_route = NOT w.in_route
        FROM tracks t
        WHERE t.id = ANY(%s) AND w.track_id = t.id AND w.in_route <> EXISTS (
            SELECT FROM assignments a
            WHERE a.booking_id = t.booking_id AND a.runner_id = w.runner_id
              AND a.started_at - interval '1 minute' <= w.recorded_at
              AND (a.ended_at IS NULL OR a.ended_at + interval '1 minute' >= w.recorded_at))
        RETURNING t.id
        """,
        ([track.id for track in tracks],),
    )
    changed = {track_id for (track_id,) in cursor}
    remeasured = [track for track in tracks if track.id in changed]
    for track in remeasured:
        _remeasure(cursor, track)
    write_heads(cursor, remeasured)


def _remeasure(cursor: Cursor, track: TrackState) -> None:
    """Distance, count and last position from all waypoints of the route."""
    cursor.execute(
        "SELECT recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)"
        " FROM waypoints WHERE track_id = %s AND in_route"
        " ORDER BY recorded_at, runner_id, reported_at",
        (track.id,),
    )
    places = [Place(*row) for row in cursor]
    track.distance_mm = sum(lengths_mm(new_legs([(Gap(None, None), places)])))
    track.waypoint_count = len(places)
    track.last = track.newest = places[-1] if places else None
