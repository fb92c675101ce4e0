"""Which waypoints of a running trip's route are left out. Part of the ingest transaction.

Most routes hold no impossible hop, and cost a comparison for each new waypoint. One that does is
read once; as long as its track stays in the cache, the end of its route judges what follows
(tracking/domain/tails.py), and a stretch of it what comes late (late_verdicts.py). Where that is
not enough the whole is read again.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

from tracking.domain.hops import recorded
from tracking.domain.routes import Gap, Vertex, lengths_mm
from tracking.domain.seq_runs import Runs, runs_of
from tracking.domain.tails import Tail
from tracking.domain.tracks import TrackChange
from tracking.domain.verdicts import Rule, Verdict, all_reached
from tracking.store.ingest.heads import write_heads
from tracking.store.ingest.late_verdicts import judge_late
from tracking.store.ingest.route_verdicts import judge_route, write_verdicts
from tracking.store.ingest.track_state import Addition, TrackState
from tracking.store.sql import ROUTE_ORDER
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
    comes_late = any(addition.gap is not track.end for addition in track.added)
    judge_these = judge_late if comes_late else _follow
    if not judge_these(cursor, track, newest, rule):
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


def flagged_of(tracks: Mapping[UUID, TrackState]) -> dict[UUID, Runs]:
    """What viewers hear where the batch has changed verdicts."""
    return {
        t.booking_id: runs_of([*(t.verdicts or ()), *t.flagged_and_gone])
        for t in tracks.values()
        if t.retold
    }


def _follow(cursor: Statements, track: TrackState, shown: Vertex | None, rule: Rule) -> bool:
    """Judge by the end of the route alone; False, and nothing has changed, if that cannot say."""
    if track.status != "active":
        return False
    tail = track.tail or _possible_tail(cursor, track, rule)
    if tail is None or shown is None:
        return False
    before = track.verdicts or {}
    verdicts, changed, kept = {**before}, dict[int, Verdict](), [shown]
    for vertex, seq in sorted((a.vertex, seq) for seq, a in _numbered(track)):
        revision = tail.append(recorded(seq, vertex.recorded_at, *vertex[3:]))
        if revision is None or not _is_at_the_end(revision.changed, verdicts, tail):
            return False
        verdicts |= revision.changed
        changed |= revision.changed
        if Verdict.OK in revision.changed.values():
            kept = [shown, *_between(cursor, track, shown, vertex)]
        elif revision.shown:
            kept.append(vertex)
    (grown_mm,) = lengths_mm([kept])
    track.distance_mm += grown_mm
    track.left_out_mm -= grown_mm
    verdicts = {seq: verdict for seq, verdict in verdicts.items() if verdict}
    track.left_out = max(tail.left_out, len(verdicts) + len(track.flagged_and_gone))
    track.tail, track.verdicts = tail, verdicts
    track.marker = None if kept[-1] == track.last else kept[-1]
    write_verdicts(cursor, track, changed)
    track.retold |= verdicts.keys() != before.keys()
    return True


def _is_at_the_end(
    changed: Mapping[int, Verdict], verdicts: Mapping[int, Verdict], tail: Tail
) -> bool:
    """Whether only what was pending changes, all of it alike: what was kept is kept."""
    return all(
        verdict is Verdict.PENDING
        or ((verdict is Verdict.JUMP or tail.implausible) and verdicts.get(seq) is Verdict.PENDING)
        for seq, verdict in changed.items()
    )


def _between(
    cursor: Statements, track: TrackState, shown: Vertex, last: Vertex
) -> Iterable[Vertex]:
    """All of the route behind the one, up to the other."""
    cursor.execute(
        "SELECT recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)"
        " FROM waypoints WHERE track_id = %s AND in_route AND recorded_at BETWEEN %s AND %s"
        f" ORDER BY {ROUTE_ORDER}",
        (track.id, shown.recorded_at, last.recorded_at),
    )
    return [vertex for row in cursor if shown < (vertex := Vertex(*row)) <= last]


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
