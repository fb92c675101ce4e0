"""Waypoints into their tracks: duplicates out, numbered, measured, heads moved.

Part of the ingest transaction, under the bookings' locks. The common case, a waypoint newer than
all others of its track, costs no look-up: it cannot be a duplicate, and its leg starts at the head.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import FIRST_TIME, LocationUpdate
from tracking.domain.routes import Gap, Place, growth_mm, lengths_mm
from tracking.domain.waypoints import StoredWaypoint
from tracking.store import partitions
from tracking.store.ingest.track_state import Addition, TrackState
from tracking.store.outbox import watermarks
from tracking.store.sql import (
    TIME_OF,
    WAYPOINT_COLUMNS,
    copy_binary,
    execute_rows,
    microseconds,
    number_array,
    packed_waypoint,
    time_array,
    uuid_array,
)

Candidate: TypeAlias = tuple[int, TrackState, LocationUpdate]
Report: TypeAlias = tuple[UUID, UUID, datetime]

# Some 60 kB: large enough that handing it over costs nothing, small enough that both work at once.
PIECE_ROWS: Final = 500


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
            _add(track, update, track.end, is_newest=True)
            new.add(number)
        else:
            doubtful.append((number, track, update))
    for (number, track, update), gap in _unknown(cursor, doubtful):
        is_newest = track.newest is None or _place(update).order > track.newest.order
        _add(track, update, gap, is_newest=is_newest)
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


def _add(track: TrackState, update: LocationUpdate, gap: Gap, *, is_newest: bool) -> None:
    place, shown_until = _place(update), track.shown_until
    late = not is_newest or (shown_until is not None and update.recorded_at < shown_until)
    track.added.append(Addition(update, place, gap, late))
    if is_newest:
        track.newest = place


def _unknown(cursor: Cursor, candidates: Sequence[Candidate]) -> list[tuple[Candidate, Gap]]:
    """Those that neither the table nor this batch has, each with the gap that it falls into.

    The same waypoint has the same track, runner and reported time.
    """
    if not candidates:
        return []
    corrected = [c for c in candidates if c[2].recorded_at != c[2].reported_at]
    seen = _stored_corrected(cursor, corrected)
    for track in {track.id: track for _, track, _ in candidates}.values():
        seen |= {(track.id, a.update.runner_id, a.update.reported_at) for a in track.added}
    unknown = []
    for candidate in _not_stored(cursor, candidates):
        _, track, update = candidate
        report = (track.id, update.runner_id, update.reported_at)
        if report not in seen:
            seen.add(report)
            unknown.append(candidate)
    return list(zip(unknown, _gaps(cursor, unknown), strict=True))


def _not_stored(cursor: Cursor, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those whose very row is in the table: what a replay finds, and nothing else.

    A row of its own for each index probe: a join of many would read the whole table.
    """
    old = [
        index
        for index, (_, track, update) in enumerate(candidates)
        if track.last is not None and update.recorded_at <= track.last.recorded_at
    ]
    if not old:
        return list(candidates)
    updates = [candidates[index][2] for index in old]
    cursor.execute(
        f"""
        SELECT u.number FROM unnest(%s::int[], %s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[])
            AS u (number, track_id, recorded, runner_id, reported)
        CROSS JOIN LATERAL (
            SELECT FROM waypoints w
            WHERE w.track_id = u.track_id AND w.recorded_at = {TIME_OF} u.recorded
              AND w.runner_id = u.runner_id AND w.reported_at = {TIME_OF} u.reported
            LIMIT 1
        ) w
        """,
        (
            number_array(old),
            uuid_array(candidates[index][1].id for index in old),
            time_array(update.recorded_at for update in updates),
            uuid_array(update.runner_id for update in updates),
            time_array(update.reported_at for update in updates),
        ),
    )
    stored = {index for (index,) in cursor}
    return [candidate for index, candidate in enumerate(candidates) if index not in stored]


def _gaps(cursor: Cursor, candidates: Sequence[Candidate]) -> list[Gap]:
    """Where each new waypoint falls between stored ones."""
    gaps = [track.end for _, track, _ in candidates]
    inside = [
        (index, track.id, update)
        for index, (_, track, update) in enumerate(candidates)
        if track.last is not None and _place(update).order <= track.last.order
    ]
    if inside:
        indexes, track_ids, updates = zip(*inside, strict=True)
        cursor.execute(
            _NEIGHBOURS,
            (
                number_array(indexes),
                uuid_array(track_ids),
                time_array(u.recorded_at for u in updates),
                uuid_array(u.runner_id for u in updates),
                time_array(u.reported_at for u in updates),
                time_array(candidates[index][1].begins_at for index in indexes),
                time_array(candidates[index][1].ends_at for index in indexes),
            ),
        )
        for index, *row in cursor:
            gaps[index] = Gap(_found(row[:5]), _found(row[5:]))
    return gaps


# Without the trip's span each look-up would go through every month's partition.
_NEIGHBOURS: Final = f"""
    WITH v AS (
        SELECT number, track_id, {TIME_OF} recorded AS recorded_at, runner_id,
               {TIME_OF} reported AS reported_at, {TIME_OF} begins AS begins_at,
               {TIME_OF} ends AS ends_at
        FROM unnest(%s::int[], %s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[], %s::bigint[],
                    %s::bigint[])
            AS u (number, track_id, recorded, runner_id, reported, begins, ends)
    )
    SELECT v.number, b.recorded_at, b.runner_id, b.reported_at, ST_X(b.position),
           ST_Y(b.position), a.recorded_at, a.runner_id, a.reported_at, ST_X(a.position),
           ST_Y(a.position)
    FROM v
    LEFT JOIN LATERAL (
        SELECT * FROM waypoints w
        WHERE w.track_id = v.track_id AND w.in_route
          AND w.recorded_at BETWEEN v.begins_at AND v.recorded_at
          AND (w.recorded_at, w.runner_id, w.reported_at)
            < (v.recorded_at, v.runner_id, v.reported_at)
        ORDER BY w.recorded_at DESC, w.runner_id DESC, w.reported_at DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT * FROM waypoints w
        WHERE w.track_id = v.track_id AND w.in_route
          AND w.recorded_at BETWEEN v.recorded_at AND v.ends_at
          AND (w.recorded_at, w.runner_id, w.reported_at)
            > (v.recorded_at, v.runner_id, v.reported_at)
        ORDER BY w.recorded_at, w.runner_id, w.reported_at LIMIT 1
    ) a ON true
"""


def _stored_corrected(cursor: Cursor, candidates: Collection[Candidate]) -> set[Report]:
    """A correction depends on when the platform got the report, and may differ the second time."""
    rows = [(t.id, u.runner_id, u.reported_at) for _, t, u in candidates]
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, runner_id, reported_at)"
        " WHERE w.recorded_at <> w.reported_at",
        rows,
    )
    return {(track_id, runner_id, reported_at) for track_id, runner_id, reported_at in found}


def stored_reports(cursor: Cursor, candidates: Collection[Candidate]) -> set[Report]:
    """Which of these the table has, on the route or not."""
    rows = [(t.id, u.recorded_at, u.runner_id, u.reported_at) for _, t, u in candidates]
    found = execute_rows(
        cursor,
        "SELECT w.track_id, w.runner_id, w.reported_at"
        " FROM (VALUES %s) v (track_id, recorded_at, runner_id, reported_at)"
        " JOIN waypoints w USING (track_id, recorded_at, runner_id, reported_at)",
        rows,
    )
    reports = {(track_id, runner_id, reported_at) for track_id, runner_id, reported_at in found}
    return reports | _stored_corrected(cursor, candidates)


def write_waypoints(cursor: Cursor, tracks: Collection[TrackState]) -> list[StoredWaypoint]:
    """Number, measure and store what was gathered; move the heads.

    Each track's waypoints come back in the order of seq: batches as they arrived, the newer ones
    of a batch by recorded time, then those that were late.
    """
    grown = [track for track in tracks if track.added]
    if not grown:
        return []
    watermarks.mark_grown(cursor, grown)
    partitions.ensure(cursor, [a.place.recorded_at for track in grown for a in track.added])
    stored: list[StoredWaypoint] = []
    copy_binary(cursor, f"waypoints ({WAYPOINT_COLUMNS})", _rows(grown, stored))
    write_heads(cursor, grown)
    return stored


def _rows(tracks: Sequence[TrackState], stored: list[StoredWaypoint]) -> Iterator[bytes]:
    """Number, measure and pack piece by piece, while the database stores the piece before."""
    piece: list[TrackState] = []
    for last, track in enumerate(tracks, 1):
        piece.append(track)
        if last == len(tracks) or sum(len(t.added) for t in piece) >= PIECE_ROWS:
            _measure(piece)
            yield b"".join([row for track in piece for row in _numbered(track, stored)])
            piece.clear()


def _numbered(track: TrackState, stored: list[StoredWaypoint]) -> list[bytes]:
    rows, track_bytes = [], track.id.bytes
    for seq, addition in enumerate(track.added, track.head_seq + 1):
        stored.append(_stored(track, seq, addition))
        rows.append(_packed(track_bytes, seq, addition.update))
    track.head_seq += len(rows)
    track.waypoint_count += len(rows)
    track.last = track.newest
    return rows


def _measure(tracks: Sequence[TrackState]) -> None:
    """Add to each track's distance what its new waypoints change."""
    additions = [(track, *run) for track in tracks for run in _by_gap(track)]
    growths = growth_mm([(gap, places) for _, gap, places in additions])
    for (track, _, _), growth in zip(additions, growths, strict=True):
        track.distance_mm += growth


def _by_gap(track: TrackState) -> list[tuple[Gap, list[Place]]]:
    """The new places in route order, by the gap between stored waypoints that they fall into."""
    if not any(addition.late for addition in track.added):
        return [(track.end, [addition.place for addition in track.added])]
    ordered = sorted(track.added, key=_place_of)
    # Neighbours in the order share a gap: compared, not hashed, which costs more than the leg.
    return [(gap, [a.place for a in run]) for gap, run in groupby(ordered, key=_gap_of)]


def _place_of(addition: Addition) -> Place:
    return addition.place


def _gap_of(addition: Addition) -> Gap:
    return addition.gap


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
    recorded = reported = microseconds(update.recorded_at)
    if update.reported_at is not update.recorded_at:
        reported = microseconds(update.reported_at)
    return packed_waypoint(
        track_id,
        seq,
        update.runner_id.int.to_bytes(16),  # what .bytes does, without its call
        recorded,
        reported,
        microseconds(update.received_at),
        update.longitude,
        update.latitude,
        update.speed_kmh,
        update.heading_degrees,
    )


def write_heads(cursor: Cursor, tracks: Sequence[TrackState]) -> None:
    """One statement for all of them."""
    if not tracks:
        return
    lasts = [track.last for track in tracks]
    for track in tracks:
        track.version += 1
    cursor.execute(
        _HEADS,
        (
            uuid_array(track.booking_id for track in tracks),
            number_array(track.version for track in tracks),
            number_array(track.head_seq for track in tracks),
            number_array(track.waypoint_count for track in tracks),
            number_array(track.distance_mm for track in tracks),
            time_array(last and last.recorded_at for last in lasts),
            uuid_array(last and last.runner_id for last in lasts),
            time_array(last and last.reported_at for last in lasts),
            number_array(last and last.longitude for last in lasts),
            number_array(last and last.latitude for last in lasts),
        ),
    )


_HEADS: Final = f"""
    UPDATE tracks SET head_seq = v.head_seq, waypoint_count = v.waypoint_count,
        distance_mm = v.distance_mm, last_recorded_at = {TIME_OF} v.recorded,
        last_runner_id = v.runner_id, last_reported_at = {TIME_OF} v.reported,
        last_position = ST_SetSRID(ST_MakePoint(v.x, v.y), 4326),
        version = v.version, settled = false, updated_at = now()
    FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                %s::uuid[], %s::bigint[], %s::float8[], %s::float8[])
        AS v (booking_id, version, head_seq, waypoint_count, distance_mm, recorded, runner_id,
              reported, x, y)
    WHERE tracks.booking_id = v.booking_id
"""


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
    if track.last is not None:
        track.shown_until = max(track.shown_until or FIRST_TIME, track.last.recorded_at)
    (track.distance_mm,) = lengths_mm([places])
    track.waypoint_count = len(places)
    track.last = track.newest = places[-1] if places else None
    track.end = Gap(track.last, None)
