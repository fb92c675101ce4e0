"""Which waypoints of a running trip's route are left out. Part of the ingest transaction.

Most routes hold no impossible hop, and cost a comparison for each new waypoint. One that does is
read once; as long as its track stays in the cache, the end of its route judges what follows
(tracking/domain/tails.py). Where that is not enough, and for what comes late, it is read again.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from tracking.domain.events import FIRST_TIME
from tracking.domain.hops import recorded
from tracking.domain.routes import Gap, Vertex, lengths_mm
from tracking.domain.tails import Tail
from tracking.domain.tracks import TrackChange
from tracking.domain.verdicts import Rule, Verdict, all_reached, final, judge
from tracking.domain.verdicts import changes as between
from tracking.store.ingest.heads import write_heads
from tracking.store.ingest.track_state import Addition, TrackState
from tracking.store.sql import ROUTE_ORDER, execute_rows
from tracking.store.statements import Statements


def note_doubts(track: TrackState, gap: Gap, vertices: Iterable[Vertex], rule: Rule) -> bool:
    """Whether the track has to be judged with these new waypoints of one gap."""
    if not track.is_doubtful:
        track.is_doubtful = (
            track.left_out > 0
            or not track.is_judged
            or not all_reached(gap.before, vertices, gap.after, rule)
        )
    return track.is_doubtful


def judge_added(cursor: Statements, track: TrackState, rule: Rule) -> None:
    """After the new waypoints of a doubtful track were numbered, measured and stored.

    Those that do not move the marker are told as late ones are.
    """
    newest = track.marker or track.end.before  # where the marker stands before the batch
    if not _follow(cursor, track, newest, rule):
        judge_route(cursor, track, rule, newest)
    for seq, addition in _numbered(track):
        addition.late = (
            seq in (track.verdicts or ())
            or (newest is not None and addition.vertex < newest)
            or (track.shown_until is not None and addition.update.recorded_at < track.shown_until)
        )
        if not addition.late:
            newest = addition.vertex


def _numbered(track: TrackState) -> Iterable[tuple[int, Addition]]:
    return enumerate(track.added, track.head_seq - len(track.added) + 1)


def settle(
    cursor: Statements,
    changes: Iterable[TrackChange],
    tracks: Mapping[UUID, TrackState],
    rule: Rule,
) -> None:
    """What is pending when a trip ends is a jump, and is pending again when the trip goes on."""
    turned = [c for c in changes if c.old_status not in (None, c.status)]
    concerned = [
        track
        for change in turned
        if "active" in (change.old_status, change.status)
        and (track := tracks[change.booking_id]).left_out
        and not track.route_expired
    ]
    for track in concerned:
        judge_route(cursor, track, rule, track.shown)
    write_heads(cursor, concerned)


def flagged_of(tracks: Mapping[UUID, TrackState]) -> dict[UUID, list[int]]:
    """What viewers hear where the batch has changed verdicts."""
    return {t.booking_id: sorted(t.verdicts or ()) for t in tracks.values() if t.retold}


def _follow(cursor: Statements, track: TrackState, shown: Vertex | None, rule: Rule) -> bool:
    """Judge by the end of the route alone; False, and nothing has changed, if that cannot say."""
    if track.status != "active" or any(a.gap is not track.end for a in track.added):
        return False
    tail = track.tail or _possible_tail(cursor, track, rule)
    if tail is None or shown is None:
        return False
    before = track.verdicts or {}
    verdicts, changed, kept = {**before}, dict[int, Verdict](), [shown]
    for vertex, seq in sorted((a.vertex, seq) for seq, a in _numbered(track)):
        revision = tail.append(recorded(seq, vertex.recorded_at, *vertex[3:]))
        if revision is None or not _is_at_the_end(revision.changed, verdicts):
            return False
        verdicts |= revision.changed
        changed |= revision.changed
        if revision.shown:
            kept.append(vertex)
    (grown_mm,) = lengths_mm([kept])
    track.distance_mm += grown_mm
    track.left_out_mm -= grown_mm
    track.left_out = max(tail.left_out, len(verdicts))
    track.tail, track.verdicts = tail, verdicts
    track.marker = None if kept[-1] == track.last else kept[-1]
    _write(cursor, track, changed)
    track.retold |= verdicts.keys() != before.keys()
    return True


def _is_at_the_end(changed: Mapping[int, Verdict], verdicts: Mapping[int, Verdict]) -> bool:
    """Whether only what was pending, or is new, is not OK now: what was kept is kept."""
    return all(
        verdict is Verdict.PENDING
        or (verdict is Verdict.JUMP and verdicts.get(seq) is Verdict.PENDING)
        for seq, verdict in changed.items()
    )


def _possible_tail(cursor: Statements, track: TrackState, rule: Rule) -> Tail | None:
    """Of a route that holds its first impossible hop, from what was there before the batch."""
    if track.left_out or not track.is_judged:
        return None
    first = track.head_seq - len(track.added) + 1
    cursor.execute(
        "SELECT seq, recorded_at, ST_X(position), ST_Y(position) FROM waypoints"
        " WHERE track_id = %s AND in_route AND seq < %s AND recorded_at BETWEEN %s AND %s"
        f" ORDER BY {ROUTE_ORDER.replace(',', ' DESC,')} DESC LIMIT %s",
        (track.id, first, track.begins_at, track.ends_at, rule.look_back),
    )
    last = [recorded(*row) for row in cursor][::-1]
    return Tail.of_possible(last, track.waypoint_count - len(track.added), rule)


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
    _write(cursor, track, changed)
    track.verdicts = verdicts | {r.seq: Verdict(r.verdict) for r in rows if not r.in_route}
    track.left_out = max(judgement.left_out, len(track.verdicts))
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


def _write(cursor: Statements, track: TrackState, changed: Mapping[int, Verdict]) -> None:
    if not changed:
        return
    execute_rows(
        cursor,
        "UPDATE waypoints w SET verdict = v.verdict FROM (VALUES %s) v (seq, verdict)"
        f" WHERE w.track_id = '{track.id}' AND w.seq = v.seq"
        f" AND w.recorded_at >= '{track.begins_at.isoformat()}'",
        [(seq, int(verdict)) for seq, verdict in changed.items()],
        "(%s::bigint, %s::smallint)",
    )
