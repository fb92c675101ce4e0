"""What late waypoints do to the verdicts of a route of which something is left out.

Part of the ingest transaction: a stretch of the route around them is read, not the whole.
"""

from collections import Counter
from typing import Final

from tracking.domain.events import FIRST_TIME
from tracking.domain.hops import recorded
from tracking.domain.routes import Vertex, lengths_mm
from tracking.domain.stretches import Judged, Route, Row, judge_stretch
from tracking.domain.tails import Tail
from tracking.domain.verdicts import Rule, Verdict
from tracking.store.ingest.route_verdicts import write_verdicts
from tracking.store.ingest.track_state import TrackState
from tracking.store.sql import ROUTE_ORDER
from tracking.store.statements import Statements, prepared

# How many waypoints before the late ones and behind them are read, in hops' spans: first so many,
# then so many if these don't tell. A route with as many jumps as the first number tells by them.
REACHES: Final = ((4, 2), (16, 8))


def judge_late(cursor: Statements, track: TrackState, shown: Vertex | None, rule: Rule) -> bool:
    """False, and nothing has changed, if only the whole route can say."""
    tail, known = track.tail, track.verdicts
    if track.status != "active" or tail is None or known is None or tail.implausible:
        return False
    counts = Counter(known.values())
    if counts[Verdict.NULL_ISLAND]:
        return False
    added = len(track.added)
    route = Route(track.waypoint_count - added, counts[Verdict.JUMP], counts[Verdict.PENDING])
    for lead, rest in REACHES:
        if route.left_out + added > lead * rule.look_back:
            continue
        vertices, rows, is_start, is_end = _stretch(
            cursor, track, lead * rule.look_back, rest * rule.look_back
        )
        if sum(row.verdict is None for row in rows) < added:
            continue
        judged = judge_stretch(rows, route, tail, from_start=is_start, to_end=is_end, rule=rule)
        if judged is not None:
            _take(cursor, track, vertices, rows, judged, shown)
            return True
    return False


_OF_ROUTE: Final = (
    "seq, recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position) FROM waypoints"
    " WHERE track_id = %s::uuid AND in_route"
    " AND recorded_at BETWEEN %s::timestamptz AND %s::timestamptz"
)
_PLACE: Final = "(%s::timestamptz, %s::uuid, %s::timestamptz, %s::float8, %s::float8)"
_STRETCH: Final = prepared(
    "stretch",
    f"""
    (SELECT true, {_OF_ROUTE} AND ({ROUTE_ORDER}) < {_PLACE}
     ORDER BY {ROUTE_ORDER.replace(",", " DESC,")} DESC LIMIT %s::int)
    UNION ALL
    (SELECT false, {_OF_ROUTE} AND ({ROUTE_ORDER}) >= {_PLACE}
     ORDER BY {ROUTE_ORDER} LIMIT %s::int)
    """,
)


def _stretch(
    cursor: Statements, track: TrackState, lead: int, rest: int
) -> tuple[list[Vertex], list[Row], bool, bool]:
    """In the order of the route; whether it begins and ends with it."""
    earliest = min(addition.vertex for addition in track.added)
    most = rest + len(track.added)
    cursor.execute(
        _STRETCH,
        (track.id, track.begins_at, earliest.recorded_at, *earliest, lead,
         track.id, earliest.recorded_at, track.ends_at, *earliest, most),
    )  # fmt: skip
    found = cursor.fetchall()
    before = [place for is_before, *place in found if is_before]
    behind = [place for is_before, *place in found if not is_before]
    first, known = track.head_seq - len(track.added) + 1, track.verdicts or {}
    vertices, rows = [], []
    for seq, *place in [*reversed(before), *behind]:
        vertex = Vertex(*place)
        vertices.append(vertex)
        verdict = None if seq >= first else known.get(seq, Verdict.OK)
        rows.append(Row(recorded(seq, vertex.recorded_at, *vertex[3:]), verdict))
    return vertices, rows, len(before) < lead, len(behind) < most


def _take(
    cursor: Statements,
    track: TrackState,
    vertices: list[Vertex],
    rows: list[Row],
    judged: Judged,
    shown: Vertex | None,
) -> None:
    """Distance, marker and verdicts as they are now."""
    known = track.verdicts or {}
    kept = [vertices[index] for index, v in judged.verdicts.items() if v is Verdict.OK]
    was_kept = [vertices[index] for index in judged.verdicts if rows[index].verdict is Verdict.OK]
    new_mm, old_mm = lengths_mm([kept, was_kept])
    track.distance_mm += new_mm - old_mm
    track.left_out_mm -= new_mm - old_mm
    changed = {
        rows[index].waypoint.seq: verdict
        for index, verdict in judged.verdicts.items()
        if verdict is not (rows[index].verdict or Verdict.OK)
    }
    write_verdicts(cursor, track, changed)
    verdicts: dict[int, Verdict] = {seq: v for seq, v in (known | changed).items() if v}
    track.retold |= verdicts.keys() != known.keys()
    track.verdicts = verdicts
    _move_end(track, judged.tail, kept[-1] if judged.is_end else None, shown)


def _move_end(track: TrackState, tail: Tail, end: Vertex | None, shown: Vertex | None) -> None:
    """`end`: where the marker stands; None where it stood."""
    track.tail = tail
    flagged = len(track.verdicts or ()) + len(track.flagged_and_gone)
    track.left_out = max(tail.left_out, flagged)
    if end is None:
        return
    track.marker = None if end == track.last else end
    if shown is not None and end < shown:
        track.shown_until = max(track.shown_until or FIRST_TIME, shown.recorded_at)
