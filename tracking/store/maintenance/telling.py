"""What was found of arrivals, stored with the events that tell it, if it is news."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct, field

from tracking.domain.arrivals import Arrival, End, Way, news
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.hops import Recorded
from tracking.domain.legs import LATE_S, Leg, is_same_visit
from tracking.store.ingest.bookings import lock_bookings
from tracking.store.maintenance.approaches import Candidate
from tracking.store.outbox import arrival_events
from tracking.store.outbox.arrival_events import ArrivalEvent, Subject, write_arrival_events
from tracking.store.read.told_arrivals import COLUMNS, legs_of
from tracking.store.sql import execute_rows, uuid_array
from tracking.store.statements import Statements


class Stored(Struct, frozen=True):
    """What was said of a way: by which event, and for which phase event."""

    leg: Leg
    event_id: UUID | None
    closed_s: float | None


class Finding(Struct, frozen=True):
    """What the waypoints of one way say. `is_whole`: all of them were looked at. `soon`: where the
    runner was who will arrive within minutes.
    """

    track: Candidate
    way: Way
    arrival: Arrival
    before: Stored | None
    is_whole: bool = True
    soon: Recorded | None = None


class Moved(Struct, frozen=True):
    """A track of which something else is said now, and its version."""

    track_id: UUID
    version: int


class Told(Struct, frozen=True):
    """`outdated`: tracks that changed meanwhile: nothing was stored of them."""

    changes: list[BookingChanges] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    outdated: Collection[UUID] = ()


def stored_findings(cursor: Statements, track_id: UUID) -> dict[End, Stored]:
    """By the end of the way."""
    cursor.execute(
        f"SELECT {COLUMNS}, event_id, extract(epoch FROM closed_at)::float8 FROM arrivals"
        " WHERE track_id = %s",
        (track_id,),
    )
    return {row[0]: Stored(Leg(*row[:7]), *row[7:]) for row in cursor}


def tell(cursor: Statements, findings: Sequence[Finding], now: datetime) -> Told:
    """Part of a transaction; the bookings are locked only if there is something to store."""
    rows = [(finding, *_said(finding, now)) for finding in findings]
    changed = [row for row in rows if _stored(row[0], row[1], row[2]) != row[0].before]
    tracks = {row[0].track.id: row[0].track for row in changed}
    if not tracks:
        return Told()
    lock_bookings(cursor, [track.booking_id for track in tracks.values()])
    cursor.execute(
        "SELECT id, version FROM tracks WHERE id = ANY(%s::uuid[])", (uuid_array(tracks),)
    )
    versions = dict(cursor.fetchall())
    outdated = {id_ for id_, track in tracks.items() if versions.get(id_) != track.version}
    changed = [row for row in changed if row[0].track.id not in outdated]
    _write(cursor, [(f, leg, event_id) for f, leg, event_id, _ in changed])
    write_arrival_events(cursor, [event for *_, events in changed for event in events])
    visible = {
        f.track.id: f.track for f, leg, *_ in changed if f.before is None or f.before.leg != leg
    }
    moved = _move(cursor, visible)
    return Told(_changes(cursor, visible, moved), moved, outdated)


def _said(finding: Finding, now: datetime) -> tuple[Leg, UUID | None, list[ArrivalEvent]]:
    """What is said now, the event that says so, and what is to be told."""
    track, before = finding.track, finding.before
    leg = _leg(finding, now)
    known = Leg(leg.end) if before is None else before.leg
    replaces = None if before is None else before.event_id
    subject = Subject(
        track.id, track.booking_id, track.runner_id, track.owner_id, track.head_seq
    )  # fmt: skip
    event_id, events = replaces, []
    items, _ = news(known.told, finding.arrival)
    if any(item.kind != "approaching" for item in items):
        if leg.arrived_at is not None:
            event = arrival_events.arrived(subject, leg, replaces)
            event_id = event.id
        else:
            event, event_id = arrival_events.left(subject, leg, known, replaces, now), None
        events.append(event)
    elif known.approaching_at is None and _is_worth_telling(finding, leg, now):
        evidence = finding.soon or finding.arrival.approaching_seq
        seq = evidence.seq if isinstance(evidence, Recorded) else evidence
        events.append(arrival_events.approaching(subject, leg, seq))
    return leg, event_id, events


def _is_worth_telling(finding: Finding, leg: Leg, now: datetime) -> bool:
    """The runner is on that way still, and not since long ago."""
    at = leg.approaching_at
    is_open = finding.way.to_s is None and finding.track.is_active and leg.arrived_at is None
    return is_open and at is not None and (now - at).total_seconds() < LATE_S


def _leg(finding: Finding, now: datetime) -> Leg:
    arrival, end = finding.arrival, finding.way.end
    before = Leg(end) if finding.before is None else finding.before.leg
    near = [before.approaching_at, _time(arrival.approaching_at_s)]
    if finding.soon is not None:
        near.append(_time(finding.soon.at_s))
    approaching_at = min((at for at in near if at is not None), default=None)
    visit = arrival.arrived
    if visit is None:
        left_at = None if finding.is_whole else before.left_at
        if arrival.before is not None and (finding.is_whole or is_same_visit(before, arrival)):
            left_at = _time(arrival.left_at_s)
        state = "en_route" if approaching_at is None else "approaching"
        return Leg(end, state, approaching_at, left_at=left_at)  # type: ignore[arg-type]
    arrived_at = _time(visit.arrived_at_s)
    detected_at = before.detected_at if before.arrived_at == arrived_at else now
    return Leg(end, "arrived", approaching_at, arrived_at, detected_at, visit.evidence_seq)


def _time(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _stored(finding: Finding, leg: Leg, event_id: UUID | None) -> Stored | None:
    """As a row; none for a way of which nothing is said, and that lasts."""
    if finding.before is None and leg == Leg(leg.end) and finding.way.to_s is None:
        return None
    return Stored(leg, event_id, finding.way.to_s)


def _write(cursor: Statements, rows: Sequence[tuple[Finding, Leg, UUID | None]]) -> None:
    execute_rows(
        cursor,
        f"INSERT INTO arrivals (track_id, {COLUMNS}, event_id, closed_at) VALUES %s"
        " ON CONFLICT (track_id, way_end) DO UPDATE SET state = excluded.state,"
        " approaching_at = excluded.approaching_at, arrived_at = excluded.arrived_at,"
        " detected_at = excluded.detected_at, evidence_seq = excluded.evidence_seq,"
        " left_at = excluded.left_at, event_id = excluded.event_id,"
        " closed_at = excluded.closed_at",
        [
            (f.track.id, leg.end, leg.state, leg.approaching_at, leg.arrived_at, leg.detected_at,
             leg.evidence_seq, leg.left_at, event_id, _time(f.way.to_s))
            for f, leg, event_id in rows
        ],
        "(%s, %s, %s, %s::timestamptz, %s::timestamptz, %s::timestamptz, %s::bigint,"
        " %s::timestamptz, %s::uuid, %s::timestamptz)",
    )  # fmt: skip


# Viewers and caches know a track by its version; whoever misses the change finds it by that.
_MOVE: Final = """
    UPDATE tracks SET version = version + 1, updated_at = now() WHERE id = ANY(%s::uuid[])
    RETURNING id, version
"""


def _move(cursor: Statements, tracks: Collection[UUID]) -> list[Moved]:
    if not tracks:
        return []
    cursor.execute(_MOVE, (uuid_array(tracks),))
    return [Moved(*row) for row in cursor]


def _changes(
    cursor: Statements, tracks: dict[UUID, Candidate], moved: Sequence[Moved]
) -> list[BookingChanges]:
    legs = legs_of(cursor, tracks) if tracks else {}
    changes = []
    for each in moved:
        track = tracks[each.track_id]
        move = TrackMove(track.epoch, each.version - 1, each.version, track.distance_mm)
        changes.append(BookingChanges(track.booking_id, [], move, tuple(legs[track.id])))
    return changes
