"""Who has come to the pickup or the dropoff: computed beside ingest, told once.

While a trip lasts only its newest waypoints are looked at; when its route has changed otherwise,
and once more when it has ended, the whole of each way is. So the last word depends neither on the
order of the events nor on when somebody looked.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct, field

from tracking.domain.arrivals import Way, arrival_of
from tracking.domain.changes import BookingChanges
from tracking.domain.eta import Sample
from tracking.domain.hops import Recorded
from tracking.domain.legs import ways_of
from tracking.domain.verdicts import STANDARD, Rule, judge
from tracking.store.maintenance.approaches import (
    Candidate,
    candidate_of,
    close_to_an_end,
    waypoints_of,
)
from tracking.store.maintenance.sampling import keep_samples
from tracking.store.maintenance.telling import Finding, stored_findings, tell
from tracking.store.statements import Statements, transaction

# Any number: one process looks, the others leave it to that one.
ARRIVALS_LOCK: Final = 7_242_003
# Tracks of one round: half a second when all of them stand at a door.
AT_ONCE: Final = 200
# A visit that becomes an arrival has begun by then, or is remembered.
WINDOW_S: Final = 600.0
# Between a transaction's begin, which its rows show, and its commit.
COMMIT: Final = timedelta(seconds=60)
# 200 bytes each.
MOST_REMEMBERED: Final = 20_000
# A longer route has no summary either.
MOST_WAYPOINTS: Final = 100_000

# Whether somebody there will arrive so soon that it is worth telling.
IsSoon = Callable[[Way, Recorded], bool]


class Look(Struct, frozen=True):
    """How far a track was looked at. From `from_s` on is enough the next time."""

    version: int
    epoch: str
    head_seq: int
    waypoint_count: int
    way: Way | None
    from_s: float = 0.0
    was_away: bool = False


class Looks:
    """What one process remembers between its rounds; nothing that could not be read again."""

    def __init__(self) -> None:
        self.since = datetime(1970, 1, 1, tzinfo=UTC)
        self._looks: dict[UUID, Look] = {}

    def of(self, track_id: UUID) -> Look | None:
        return self._looks.get(track_id)

    def versions(self) -> dict[UUID, int]:
        return {track_id: look.version for track_id, look in self._looks.items()}

    def put(self, track_id: UUID, look: Look) -> None:
        """The longest unused make room."""
        self._looks.pop(track_id, None)
        self._looks[track_id] = look
        while len(self._looks) > MOST_REMEMBERED:
            del self._looks[next(iter(self._looks))]


def note_arrivals(
    engine: sa.Engine, looks: Looks, rule: Rule = STANDARD, is_soon: IsSoon | None = None
) -> list[BookingChanges]:
    """One round over the trips that are under way; what is to be told of them."""
    with transaction(engine) as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s), now()", (ARRIVALS_LOCK,))
        is_ours, now = cursor.fetchone() or (False, None)
        if not is_ours:
            return []
        tracks = close_to_an_end(cursor, looks.since, looks.versions(), AT_ONCE)
        findings, found = [], {}
        for track in tracks:
            listed, look = _look_at(cursor, track, looks.of(track.id), rule, is_soon)
            findings += listed
            found[track.id] = look
        told = tell(cursor, findings, now)
        versions = {each.track_id: each.version for each in told.moved}
    for track_id, look in found.items():
        if track_id not in told.outdated:
            version = versions.get(track_id, look.version)
            looks.put(track_id, _at_version(look, version))
    if len(tracks) < AT_ONCE:
        looks.since = now - COMMIT
    return told.changes


def _at_version(look: Look, version: int) -> Look:
    return Look(version, *(getattr(look, name) for name in Look.__struct_fields__[1:]))


def _look_at(
    cursor: Statements, track: Candidate, look: Look | None, rule: Rule, is_soon: IsSoon | None
) -> tuple[list[Finding], Look]:
    stored = stored_findings(cursor, track.id)
    findings, open_way, from_s, was_away = [], None, 0.0, False
    for way in ways_of(track.course):
        before = stored.get(way.end)
        if way.to_s is not None:
            if before is None or before.closed_s != way.to_s:
                arrival = arrival_of(_accepted(cursor, track, way, way.from_s, rule), way)
                findings.append(Finding(track, way, arrival, before))
            continue
        open_way, from_s = way, way.from_s
        if look is not None and _goes_on(look, track, way):
            # At the begin of the way nobody has been away yet.
            from_s, was_away = look.from_s, look.was_away and look.from_s > way.from_s
        route = _accepted(cursor, track, way, from_s, rule, None if look is None else look.head_seq)
        if route and route[0].at_s < from_s:  # a late one: the way as a whole
            from_s, was_away = way.from_s, False
            route = _accepted(cursor, track, way, from_s, rule)
        arrival = arrival_of(route, way, was_away)
        soon = bool(route) and is_soon is not None and is_soon(way, route[-1])
        is_whole = from_s == way.from_s
        findings.append(Finding(track, way, arrival, before, is_whole, route[-1] if soon else None))
        newest_s = route[-1].at_s - WINDOW_S if route else from_s
        visit_s = newest_s if arrival.visit_since_s is None else arrival.visit_since_s
        was_away, from_s = arrival.was_away, max(way.from_s, min(newest_s, visit_s))
    return findings, Look(
        track.version, track.epoch, track.head_seq, track.waypoint_count, open_way, from_s, was_away
    )


def _goes_on(look: Look, track: Candidate, way: Way) -> bool:
    """Nothing but new waypoints has come: none has left the route."""
    more = track.head_seq - look.head_seq
    return (look.way, look.epoch) == (way, track.epoch) and (
        track.waypoint_count - look.waypoint_count == more
    )


def _accepted(
    cursor: Statements, track: Candidate, way: Way, from_s: float, rule: Rule,
    above_seq: int | None = None,
) -> Sequence[Recorded]:  # fmt: skip
    """Of a trip that lasts: as the rule judges them now."""
    if track.last_at is None:
        return []
    route = waypoints_of(cursor, track, way, from_s, above_seq).route
    verdicts = judge(route, rule).verdicts
    return [w for w in route if w.seq not in verdicts] if verdicts else route


# Of a trip that ended before, and of which nothing was said, nothing is said any more: nobody waits
# for a message of last week, and an ETA is not learned from last year (verdicts.py settles it all).
TOLD_WITHIN_S: Final = 7 * 86_400.0


class Settled(Struct, frozen=True):
    """The track's version behind it, what is to be told, and the samples that were kept."""

    version: int
    changes: list[BookingChanges] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


def settle_arrivals(engine: sa.Engine, track_id: UUID, version: int) -> Settled | None:
    """The last word on an ended trip whose verdicts are stored.

    None: the track changed meanwhile, nothing was stored.
    """
    with transaction(engine) as cursor:
        cursor.execute("SELECT now()")
        (now,) = cursor.fetchone() or (None,)
        track = candidate_of(cursor, track_id)
        if track is None or track.waypoint_count > MOST_WAYPOINTS:
            return Settled(version)
        if track.version != version:
            return None
        stored, findings, routes = stored_findings(cursor, track_id), [], []
        ended_s = track.course.ended_s
        if not stored and ended_s is not None and now.timestamp() - ended_s > TOLD_WITHIN_S:
            return Settled(version)
        for way in ways_of(track.course):
            route: Sequence[Recorded] = []
            if track.last_at is not None:
                page = waypoints_of(cursor, track, way, way.from_s)
                route = [w for w in page.route if w.seq not in page.flagged]
            routes.append(route)
            findings.append(Finding(track, way, arrival_of(route, way), stored.get(way.end)))
        told = tell(cursor, findings, now)
        if told.outdated:
            return None
        samples: list[Sample] = []
        for finding, route in zip(findings, routes, strict=True):
            samples += keep_samples(cursor, track_id, finding.way, finding.arrival, route)
    return Settled(told.moved[0].version if told.moved else version, told.changes, samples)
