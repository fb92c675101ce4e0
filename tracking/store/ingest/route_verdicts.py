"""The verdicts of a whole route, read and judged at once. Part of the ingest transaction."""

from collections.abc import Mapping
from typing import NamedTuple

from tracking.domain.events import FIRST_TIME
from tracking.domain.hops import recorded
from tracking.domain.routes import Vertex, lengths_mm
from tracking.domain.tails import Tail
from tracking.domain.verdicts import Rule, Verdict, final, judge
from tracking.domain.verdicts import changes as between
from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import ROUTE_ORDER, execute_rows
from tracking.store.statements import Statements


class _Row(NamedTuple):
    """A waypoint of a track."""

    seq: int
    in_route: bool
    verdict: int
    vertex: Vertex


def judge_route(cursor: Statements, track: TrackState, rule: Rule, shown: Vertex | None) -> None:
    """Distance, count, newest waypoint, marker and verdicts from all waypoints of the route.

    `shown`: where the marker stands. What has left the route keeps its verdict: who has drawn it
    must not draw more of it than before.
    """
    rows = _rows(cursor, track)
    route = [row for row in rows if row.in_route]
    hops = [recorded(row.seq, row.vertex.recorded_at, *row.vertex[3:]) for row in route]
    judgement = judge(hops, rule)
    is_active = track.status == "active"
    verdicts = judgement.verdicts if is_active else final(judgement.verdicts)
    before = {row.seq: Verdict(row.verdict) for row in route}
    changed = between(before, verdicts)
    track.retold |= verdicts.keys() != {seq for seq, verdict in before.items() if verdict}
    kept = [row.vertex for row in route if row.seq not in verdicts]
    track.distance_mm, reported_mm = lengths_mm([kept, [row.vertex for row in route]])
    track.left_out_mm = reported_mm - track.distance_mm
    track.waypoint_count = len(route)
    track.last = track.newest = route[-1].vertex if route else None
    track.marker = kept[-1] if kept and kept[-1] != track.last else None
    if shown is not None and (not kept or kept[-1] < shown):
        track.shown_until = max(track.shown_until or FIRST_TIME, shown.recorded_at)
    write_verdicts(cursor, track, changed)
    track.verdicts = verdicts
    track.flagged_and_gone = {row.seq for row in rows if not row.in_route}
    track.left_out = max(judgement.left_out, len(verdicts) + len(track.flagged_and_gone))
    track.tail = Tail.of(hops, rule) if track.left_out and is_active else None
    track.is_judged = track.is_doubtful = True


def _rows(cursor: Statements, track: TrackState) -> list[_Row]:
    """Those of the route in its order, and what has left it flagged."""
    cursor.execute(
        "SELECT seq, in_route, verdict, recorded_at, runner_id, reported_at, ST_X(position),"
        " ST_Y(position) FROM waypoints"
        " WHERE track_id = %s AND (in_route OR verdict <> 0) AND recorded_at >= %s"
        f" ORDER BY {ROUTE_ORDER}",
        (track.id, track.begins_at),
    )
    return [_Row(row[0], row[1], row[2], Vertex(*row[3:])) for row in cursor]


def write_verdicts(cursor: Statements, track: TrackState, changed: Mapping[int, Verdict]) -> None:
    """Of the few that have changed."""
    if not changed:
        return
    track.judged.update(changed.values())
    execute_rows(
        cursor,
        "UPDATE waypoints w SET verdict = v.verdict FROM (VALUES %s) v (seq, verdict)"
        f" WHERE w.track_id = '{track.id}' AND w.seq = v.seq"
        f" AND w.recorded_at >= '{track.begins_at.isoformat()}'",
        [(seq, int(verdict)) for seq, verdict in changed.items()],
        "(%s::bigint, %s::smallint)",
    )
