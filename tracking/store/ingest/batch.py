"""A batch of events into rows: one transaction, a handful of statements, nothing for each row."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct, field
from psycopg2.extensions import cursor as Cursor

from tracking.domain.changes import BookingChanges, in_order
from tracking.domain.events import BookingEvent, Event, LocationUpdate
from tracking.domain.tracks import TrackChange
from tracking.domain.trips import GRACE
from tracking.domain.waypoints import StoredWaypoint
from tracking.store.ingest import bookings, parking, waypoints
from tracking.store.ingest.parking import Parked
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.track_state import TrackState
from tracking.store.outbox import events as outbox
from tracking.store.sql import transaction

# Outcomes of an event; the consumer adds ignored, dead and skipped.
APPLIED, DUPLICATE, PARKED, REFUSED = "applied", "duplicate", "parked", "refused"


class Stored(Struct):
    """What a committed batch changed."""

    bookings: list[BookingChanges] = field(default_factory=list)
    update_outcomes: Counter[str] = field(default_factory=Counter)
    fact_outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    adopted: int = 0

    @property
    def waypoints(self) -> list[StoredWaypoint]:
        """Of all bookings."""
        return [e for b in self.bookings for e in b.entries if isinstance(e, StoredWaypoint)]

    @property
    def changes(self) -> list[TrackChange]:
        """Of all bookings."""
        return [e for b in self.bookings for e in b.entries if isinstance(e, TrackChange)]


def store_batch(
    engine: sa.Engine,
    events: Sequence[Event],
    adopt: Collection[UUID] = (),
    known: TrackCache | None = None,
    parked: Collection[int] | None = None,
) -> Stored:
    """Store the events; `adopt` names bookings whose parked updates are to be looked at again.

    `known` keeps the tracks for the caller's next batch; `parked` names the rows that may be
    adopted, where not all may. Raises SQLAlchemy's errors, having stored nothing. Executor thread.
    """
    known = TrackCache() if known is None else known
    facts = [e for e in events if isinstance(e, BookingEvent)]
    updates = [e for e in events if isinstance(e, LocationUpdate)]
    bookings.ensure_bookings(engine, {fact.booking_id for fact in facts})
    with transaction(engine) as cursor:
        stored, tracks = _store(cursor, facts, updates, set(adopt), known, parked)
    known.put(tracks.values())
    return stored


def _store(
    cursor: Cursor,
    facts: list[BookingEvent],
    updates: list[LocationUpdate],
    adopt: set[UUID],
    track_cache: TrackCache,
    parked: Collection[int] | None,
) -> tuple[Stored, dict[UUID, TrackState]]:
    stored = Stored()
    updates = parking.with_first_corrections(cursor, updates)
    concerned = {fact.booking_id for fact in facts} | adopt
    concerned |= {u.booking_id for u in updates if u.booking_id is not None}
    concerned |= _bookings_of_runners(cursor, updates)
    bookings.lock_bookings(cursor, concerned)
    tracks = bookings.load_tracks(cursor, concerned, track_cache)

    # Each step costs a round trip: most batches have updates only, and skip what they don't need.
    informed = _store_facts(cursor, facts, stored)
    begun = [track for track in tracks.values() if track.head_seq]
    changes, moved = bookings.write_trips(cursor, informed, tracks)
    waypoints.reroute(cursor, [track for track in begun if track.booking_id in moved])
    waiting = parking.adoptable(cursor, moved | adopt, parked)

    placement = _Placement(tracks)
    placement.place([*waiting, *updates])
    placement.find_final_ends(cursor)
    new = waypoints.add_waypoints(cursor, placement.candidates)
    _settle_waiting(cursor, waiting, placement, new, stored)
    _settle_updates(cursor, updates, len(waiting), placement, new, stored)
    stored.bookings = in_order(changes, waypoints.write_waypoints(cursor, tracks.values()))
    outbox.write_lifecycle(cursor, changes, tracks)
    return stored, tracks


def _bookings_of_runners(cursor: Cursor, updates: Iterable[LocationUpdate]) -> set[UUID]:
    """Where updates without booking id may belong."""
    spans = defaultdict(list)
    for update in updates:
        if update.booking_id is None:
            spans[update.runner_id].append(update.recorded_at)
    rows = [(runner_id, min(times), max(times)) for runner_id, times in spans.items()]
    return bookings.bookings_of_runners(cursor, rows)


def _store_facts(cursor: Cursor, facts: Sequence[BookingEvent], stored: Stored) -> set[UUID]:
    new = bookings.insert_facts(cursor, facts)
    for kind, outcome in _fact_outcomes(facts, new):
        stored.fact_outcomes[kind, outcome] += 1
    return {booking_id for booking_id, *_ in new}


def _fact_outcomes(
    facts: Iterable[BookingEvent], new: Collection[bookings.FactKey]
) -> Iterable[tuple[str, str]]:
    left = set(new)
    for fact in facts:
        key = bookings.fact_key(fact)
        yield fact.kind, APPLIED if key in left else DUPLICATE
        left.discard(key)


class _Placement:
    """Which track each update belongs to; `homeless` are those without one."""

    def __init__(self, tracks: dict[UUID, TrackState]) -> None:
        self._tracks = tracks
        self.candidates: list[waypoints.Candidate] = []
        self.homeless: list[tuple[int, LocationUpdate]] = []
        self._final: dict[UUID, datetime] = {}

    @cached_property
    def _by_runner(self) -> dict[UUID, list[TrackState]]:
        """Asked for only by updates without booking id."""
        found: dict[UUID, list[TrackState]] = defaultdict(list)
        for track in self._tracks.values():
            for runner_id in {a.runner_id for a in track.assignments}:
                found[runner_id].append(track)
        return found

    def place(self, updates: Iterable[LocationUpdate]) -> None:
        for number, update in enumerate(updates):
            found = False
            for track in self._possible(update):
                if track.covers(update):
                    self.candidates.append((number, track, update))
                    found = True
            if not found:
                self.homeless.append((number, update))

    def _possible(self, update: LocationUpdate) -> Sequence[TrackState]:
        if update.booking_id is None:
            return self._by_runner.get(update.runner_id, ())
        track = self._tracks.get(update.booking_id)
        return () if track is None else (track,)

    def find_final_ends(self, cursor: Cursor) -> None:
        """When the trips of the homeless are over, whatever facts may still come."""
        homes = self._tracks.keys() & {update.booking_id for _, update in self.homeless}
        ends = bookings.deliveries(cursor, [b for b in homes if self._tracks[b].delivered])
        for booking_id, delivered_at in ends.items():
            # An assignment ends after the delivery only if it began after it, by another clock.
            known = [a.ended_at for a in self._tracks[booking_id].assignments if a.ended_at]
            self._final[booking_id] = max(delivered_at, *known) + GRACE

    def is_final(self, update: LocationUpdate) -> bool:
        """Recorded after a delivery, which no later event can take back."""
        final = None if update.booking_id is None else self._final.get(update.booking_id)
        return final is not None and update.recorded_at > final

    def stored_homeless(self, cursor: Cursor) -> set[int]:
        """Numbers of those that have a row from before their trip's end was known."""
        rows = [
            (number, self._tracks[update.booking_id], update)
            for number, update in self.homeless
            if update.booking_id in self._tracks
        ]
        seen = waypoints.stored_reports(cursor, rows) if rows else set()
        return {n for n, t, u in rows if (t.id, u.runner_id, u.reported_at) in seen}


def _settle_waiting(
    cursor: Cursor, waiting: Sequence[Parked], placement: _Placement, new: set[int], stored: Stored
) -> None:
    """Parked updates that found their track leave, and so do those that never will."""
    homeless = {number for number, _ in placement.homeless}
    done = [
        update
        for number, update in enumerate(waiting)
        if number not in homeless or placement.is_final(update)
    ]
    parking.settle(cursor, done)
    stored.adopted = sum(number in new for number in range(len(waiting)))


def _settle_updates(
    cursor: Cursor,
    updates: Sequence[LocationUpdate],
    first: int,
    placement: _Placement,
    new: set[int],
    stored: Stored,
) -> None:
    """Count each update's one outcome, park what has to wait. Numbered from `first`."""
    homeless = {number for number, _ in placement.homeless if number >= first}
    known = placement.stored_homeless(cursor) if homeless else set()
    park = [
        (number, update)
        for number, update in enumerate(updates, first)
        if update.booking_id is None
        or (number in homeless and number not in known and not placement.is_final(update))
    ]
    parked = parking.park(cursor, [(update, number not in homeless) for number, update in park])
    parked_numbers = {park[index][0] for index in parked}
    for number, update in enumerate(updates, first):
        if number in new:
            outcome = APPLIED
        elif number in homeless and number not in known and placement.is_final(update):
            outcome = REFUSED
        elif number in homeless and number in parked_numbers:
            outcome = PARKED
        else:
            outcome = DUPLICATE
        stored.update_outcomes[outcome] += 1
