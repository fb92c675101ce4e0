"""The head of a track: newest seq, last position, count and distance, in its row; its marker."""

from collections.abc import Sequence
from typing import Final

from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import TIME_OF, execute_rows, number_array, time_array, uuid_array
from tracking.store.statements import Statements, prepared


def write_heads(cursor: Statements, tracks: Sequence[TrackState]) -> None:
    """One statement for all of them."""
    if not tracks:
        return
    lasts = [track.last for track in tracks]
    for track in tracks:
        track.version += 1
    cursor.later(
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
    _write_left_out(cursor, [track for track in tracks if track.is_doubtful])


_HEADS: Final = prepared(
    "write_heads",
    f"""
    UPDATE tracks SET head_seq = v.head_seq, waypoint_count = v.waypoint_count,
        distance_mm = v.distance_mm, last_recorded_at = {TIME_OF} v.recorded,
        last_runner_id = v.runner_id, last_reported_at = {TIME_OF} v.reported,
        last_position = ST_SetSRID(ST_MakePoint(v.x, v.y), 4326),
        judged_seq = v.head_seq, version = v.version, metadata_current = false, updated_at = now()
    FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                %s::uuid[], %s::bigint[], %s::float8[], %s::float8[])
        AS v (booking_id, version, head_seq, waypoint_count, distance_mm, recorded, runner_id,
              reported, x, y)
    WHERE tracks.booking_id = v.booking_id
""",
)


def _write_left_out(cursor: Statements, tracks: Sequence[TrackState]) -> None:
    """What of their routes is left out, of the few that were judged."""
    execute_rows(
        cursor,
        "UPDATE tracks SET left_out = v.left_out, left_out_mm = v.left_out_mm,"
        " shown_until = v.shown_until, marker_recorded_at = v.recorded_at,"
        " marker_runner_id = v.runner_id, marker_reported_at = v.reported_at,"
        " marker_position = ST_SetSRID(ST_MakePoint(v.x, v.y), 4326)"
        " FROM (VALUES %s) v (booking_id, left_out, left_out_mm, shown_until, recorded_at,"
        " runner_id, reported_at, x, y) WHERE tracks.booking_id = v.booking_id",
        [
            (t.booking_id, t.left_out, t.left_out_mm, t.shown_until, *(t.marker or (None,) * 5))
            for t in tracks
        ],
        "(%s::uuid, %s, %s, %s::timestamptz, %s::timestamptz, %s::uuid, %s::timestamptz,"
        " %s::float8, %s::float8)",
    )


def write_corrections(cursor: Statements, tracks: Sequence[TrackState]) -> None:
    """Up to when the phones of these tracks were ahead, as far as the batch has moved it."""
    execute_rows(
        cursor,
        "UPDATE tracks SET ahead_until = v.ahead_until FROM (VALUES %s) v (id, ahead_until)"
        " WHERE tracks.id = v.id",
        [(track.id, track.ahead_until) for track in tracks if track.corrects],
    )
