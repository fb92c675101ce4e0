"""New waypoints into their table: numbered, measured, written; then the heads of their tracks.

Part of the ingest transaction, under the bookings' locks.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Final

from msgspec.structs import replace

from tracking.domain.routes import Gap, Vertex, growth_mm
from tracking.domain.verdicts import Rule
from tracking.domain.waypoints import StoredWaypoint
from tracking.store.ingest.heads import write_corrections, write_heads
from tracking.store.ingest.live_verdicts import judge_added, note_doubts
from tracking.store.ingest.track_state import Addition, TrackState
from tracking.store.outbox import watermarks
from tracking.store.partitions import Partitions
from tracking.store.sql import (
    TIME_OF,
    WAYPOINT_COLUMNS,
    copy_binary,
    microseconds,
    number_array,
    packed_waypoint,
    time_array,
    uuid_array,
)
from tracking.store.statements import Statements, prepared

# Some 60 kB: large enough that handing it over costs nothing, small enough that both work at once.
PIECE_ROWS: Final = 500
# So few are inserted in the same message as what follows; a COPY takes a round trip of its own.
FEW_ROWS: Final = 50


# Kafka's times are whole milliseconds, which neighbours in a backlog share.
_received: Final = lru_cache(maxsize=1024)(microseconds)


def write_waypoints(
    cursor: Statements, tracks: Collection[TrackState], partitions: Partitions, rule: Rule
) -> list[StoredWaypoint]:
    """Number, measure, store and judge what was gathered; move the heads.

    Each track's waypoints come back in the order of seq: batches as they arrived, the newer ones
    of a batch by recorded time, then those that were late.
    """
    write_corrections(cursor, [track for track in tracks if track.corrects])
    grown = [track for track in tracks if track.added]
    if not grown:
        return []
    watermarks.mark_grown(cursor, grown)
    times = [a.vertex.recorded_at for track in grown for a in track.added]
    partitions.ensure(cursor, times)
    stored: list[StoredWaypoint] = []
    if len(times) <= FEW_ROWS:
        _measure(grown, rule)
        for track in grown:
            _numbered(track, stored)
        _insert(cursor, stored, [a.update.reported_at for track in grown for a in track.added])
    else:
        copy_binary(cursor, f"waypoints ({WAYPOINT_COLUMNS})", _rows(grown, stored, rule))
    _judge(cursor, grown, stored, rule)
    write_heads(cursor, grown)
    return stored


def _insert(
    cursor: Statements, waypoints: Sequence[StoredWaypoint], reported: Sequence[datetime]
) -> None:
    cursor.later(
        _INSERT,
        (
            uuid_array(w.track_id for w in waypoints),
            time_array(w.recorded_at for w in waypoints),
            uuid_array(w.runner_id for w in waypoints),
            time_array(reported),
            number_array(w.seq for w in waypoints),
            time_array(w.received_at for w in waypoints),
            number_array(w.longitude for w in waypoints),
            number_array(w.latitude for w in waypoints),
            number_array(w.speed_kmh for w in waypoints),
            number_array(w.heading_degrees for w in waypoints),
        ),
    )


_INSERT: Final = prepared(
    "insert_waypoints",
    f"""
    INSERT INTO waypoints ({WAYPOINT_COLUMNS})
    SELECT track_id, {TIME_OF} recorded, runner_id, {TIME_OF} reported, seq, {TIME_OF} received,
           ST_SetSRID(ST_MakePoint(x, y), 4326), speed_kmh, heading_degrees
    FROM unnest(%s::uuid[], %s::bigint[], %s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[],
                %s::float8[], %s::float8[], %s::real[], %s::real[])
        AS v (track_id, recorded, runner_id, reported, seq, received, x, y, speed_kmh,
              heading_degrees)
""",
)


def _judge(
    cursor: Statements, grown: Sequence[TrackState], stored: list[StoredWaypoint], rule: Rule
) -> None:
    """Those with a hop that is impossible: which of their waypoints move the marker?"""
    first = 0
    for track in grown:
        if track.is_doubtful:
            judge_added(cursor, track, rule)
            for number, addition in enumerate(track.added, first):
                if stored[number].late != addition.late:
                    stored[number] = replace(stored[number], late=addition.late)
        first += len(track.added)


def _rows(
    tracks: Sequence[TrackState], stored: list[StoredWaypoint], rule: Rule
) -> Iterator[bytes]:
    """Number, measure and pack piece by piece, while the database stores the piece before."""
    piece: list[TrackState] = []
    size = 0
    for last, track in enumerate(tracks, 1):
        piece.append(track)
        size += len(track.added)
        if last == len(tracks) or size >= PIECE_ROWS:
            _measure(piece, rule)
            yield b"".join([row for track in piece for row in _numbered(track, stored)])
            piece.clear()
            size = 0


def _numbered(track: TrackState, stored: list[StoredWaypoint]) -> list[bytes]:
    rows, track_bytes = [], track.id.bytes
    for seq, addition in enumerate(track.added, track.head_seq + 1):
        stored.append(_stored(track, seq, addition))
        update = addition.update
        recorded = reported = microseconds(update.recorded_at)
        if update.reported_at is not update.recorded_at:
            reported = microseconds(update.reported_at)
        rows.append(
            packed_waypoint(
                track_bytes,
                seq,
                update.runner_id.int.to_bytes(16),  # what .bytes does, without its call
                recorded,
                reported,
                _received(update.received_at),
                update.longitude,
                update.latitude,
                update.speed_kmh,
                update.heading_degrees,
            )
        )
    track.head_seq += len(rows)
    track.waypoint_count += len(rows)
    track.last = track.newest
    return rows


def _measure(tracks: Sequence[TrackState], rule: Rule) -> None:
    """Add to each track's distance what its new waypoints change; find those to be judged.

    Until they are, what a doubtful track grows by is left out.
    """
    additions = [(track, *run) for track in tracks for run in _by_gap(track)]
    growths = growth_mm([(gap, vertices) for _, gap, vertices in additions])
    for (track, gap, vertices), growth in zip(additions, growths, strict=True):
        if note_doubts(track, gap, vertices, rule):
            track.left_out_mm += growth
        else:
            track.distance_mm += growth


def _by_gap(track: TrackState) -> list[tuple[Gap, list[Vertex]]]:
    """The new vertices in route order, by the gap between stored waypoints that they fall into."""
    if not any(addition.late for addition in track.added):
        return [(track.end, [addition.vertex for addition in track.added])]
    ordered = sorted(track.added, key=_vertex_of)
    # Neighbours in the order share a gap: compared, not hashed, which costs more than the leg.
    return [(gap, [a.vertex for a in run]) for gap, run in groupby(ordered, key=_gap_of)]


def _vertex_of(addition: Addition) -> Vertex:
    return addition.vertex


def _gap_of(addition: Addition) -> Gap:
    return addition.gap


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
