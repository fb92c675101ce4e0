"""How far the ways of trips that are under way were looked at, and what is seen of them now."""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from tracking.domain.arrivals import Way, arrival_of
from tracking.domain.hops import Recorded
from tracking.domain.legs import ways_of
from tracking.domain.verdicts import Rule, judge
from tracking.store.maintenance.approaches import Candidate, waypoints_of
from tracking.store.maintenance.telling import Finding, stored_findings
from tracking.store.statements import Statements

# A visit that becomes an arrival has begun by then, or is remembered.
WINDOW_S: Final = 600.0
# 200 bytes each.
MOST_REMEMBERED: Final = 20_000
# A track whose arrivals could not be computed lets the others go first for so long.
POSTPONED_S: Final = 600.0

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
        # As `Due` has it: whoever notes arrivals knows, and sets it beside `is_soon`.
        self.soon_m = (0.0, 0.0)
        self.due: list[UUID] = []  # the tracks of the round that lasts, or failed
        self._looks: dict[UUID, Look] = {}
        self._failed: dict[UUID, float] = {}  # until time.monotonic() they let the others go first

    def of(self, track_id: UUID) -> Look | None:
        return self._looks.get(track_id)

    def versions(self) -> dict[UUID, int]:
        return {track_id: look.version for track_id, look in self._looks.items()}

    def put(self, track_id: UUID, look: Look) -> None:
        """The longest unused make room."""
        self._looks.pop(track_id, None)
        self._looks[track_id] = look
        self._failed.pop(track_id, None)
        _forget_first(self._looks)

    def postpone(self, track_id: UUID) -> bool:
        """Its arrivals could not be computed. False if they could not be before, either."""
        is_first = self._failed.pop(track_id, None) is None
        self._failed[track_id] = time.monotonic() + POSTPONED_S
        _forget_first(self._failed)
        return is_first

    def all_due(self, tracks: Collection[UUID]) -> None:
        """These and no others: one that failed and is not among them has ended, or gone away."""
        now = time.monotonic()
        for track_id, until in [*self._failed.items()]:
            if until <= now and track_id not in tracks:
                del self._failed[track_id]

    def postponed(self) -> list[UUID]:
        now = time.monotonic()
        return [track_id for track_id, until in self._failed.items() if until > now]

    @property
    def has_failed(self) -> bool:
        """Some track is still to be looked at again, however long ago it changed."""
        return bool(self._failed)


def _forget_first(kept: dict[UUID, Any]) -> None:
    while len(kept) > MOST_REMEMBERED:
        del kept[next(iter(kept))]


class Reading:
    """The waypoints of one round, as the rule judges them now; how many were read."""

    def __init__(self, cursor: Statements, rule: Rule) -> None:
        self.cursor = cursor
        self._rule = rule
        self.count = 0

    def accepted(
        self, track: Candidate, way: Way, from_s: float, above_seq: int | None = None
    ) -> Sequence[Recorded]:
        """Of a trip that lasts."""
        if track.last_at is None:
            return []
        route = waypoints_of(self.cursor, track, way, from_s, above_seq).route
        self.count += len(route)
        verdicts = judge(route, self._rule).verdicts
        return [w for w in route if w.seq not in verdicts] if verdicts else route


def look_at(
    reading: Reading, track: Candidate, look: Look | None, is_soon: IsSoon | None
) -> tuple[list[Finding], Look]:
    """What its waypoints say now, and from where on to look the next time."""
    stored = stored_findings(reading.cursor, track.id)
    findings, open_way, from_s, was_away = [], None, 0.0, False
    for way in ways_of(track.course):
        before = stored.get(way.end)
        if way.to_s is not None:
            if before is None or before.closed_s != way.to_s:
                arrival = arrival_of(reading.accepted(track, way, way.from_s), way)
                findings.append(Finding(track, way, arrival, before))
            continue
        open_way, from_s = way, way.from_s
        if look is not None and _goes_on(look, track, way):
            # At the begin of the way nobody has been away yet.
            from_s, was_away = look.from_s, look.was_away and look.from_s > way.from_s
        route = reading.accepted(track, way, from_s, None if look is None else look.head_seq)
        if route and route[0].at_s < from_s:  # a late one: the way as a whole
            from_s, was_away = way.from_s, False
            route = reading.accepted(track, way, from_s)
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
