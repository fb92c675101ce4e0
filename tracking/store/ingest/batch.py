"""A batch of events into rows: one transaction, a handful of statements, nothing for each row."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import Struct, field
from psycopg2.extensions import cursor as Cursor

from tracking.domain.changes import BookingChanges, TrackMove, in_order
from tracking.domain.events import BookingEvent, Event, LocationUpdate
from tracking.domain.tracks import TrackChange
from tracking.domain.verdicts import Verdict
from tracking.domain.waypoints import StoredWaypoint
from tracking.store.ingest import bookings, erased, outcomes, parking
from tracking.store.ingest.corrections import lower_corrections
from tracking.store.ingest.erased import ERASED
from tracking.store.ingest.facts import FactKey, fact_key, insert_facts, without_places
from tracking.store.ingest.live_verdicts import flagged_of, settle
from tracking.store.ingest.numbering import write_waypoints
from tracking.store.ingest.outcomes import APPLIED, DUPLICATE
from tracking.store.ingest.resolver import Resolver
from tracking.store.ingest.route_changes import reroute
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.ingest.track_state import TrackState
from tracking.store.ingest.tracks import is_outdated, load_tracks
from tracking.store.ingest.trips import write_trips
from tracking.store.ingest.waypoints import add_waypoints
from tracking.store.outbox import events as outbox
from tracking.store.statements import Statements, transaction

# Of a batch: what the cache knows may be outdated, and bookings may be erased meanwhile.
TRIES: Final = 5


class Stored(Struct):
    """What a committed batch changed."""

    bookings: list[BookingChanges] = field(default_factory=list)
    update_outcomes: Counter[str] = field(default_factory=Counter)
    fact_outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)  # of the refused updates, by rule
    adopted: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)  # of the waypoints that got another

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
    stored = _store_unerased(engine, events, set(adopt), known, parked)
    updates, kinds = known.erased.gone(events)
    stored.update_outcomes += Counter({ERASED: updates})  # keeps no zero
    stored.fact_outcomes.update({(kind, ERASED): number for kind, number in kinds.items()})
    return stored


def _store_unerased(
    engine: sa.Engine,
    events: Sequence[Event],
    adopt: set[UUID],
    known: TrackCache,
    parked: Collection[int] | None,
) -> Stored:
    """Again, when something turns out to be otherwise than the cache knew."""
    for tries_left in reversed(range(TRIES)):
        left = known.erased.left(events)
        facts = [e for e in left if isinstance(e, BookingEvent)]
        updates = [e for e in left if isinstance(e, LocationUpdate)]
        bookings.ensure_bookings(engine, {fact.booking_id for fact in facts})
        adoptive = {booking_id for booking_id in adopt if booking_id not in known.erased}
        try:
            return _store_at_once(engine, facts, updates, adoptive, known, parked)
        except sa.exc.DBAPIError as error:
            if not tries_left:
                raise
            if is_outdated(error):
                known.note_other_writer()
            elif erased.is_noticed(error):
                named = {e.booking_id for e in left if e.booking_id is not None}
                known.erased.learn(engine, named | adoptive)
            else:
                raise
    raise AssertionError("the last try returns or raises")


def _store_at_once(
    engine: sa.Engine,
    facts: list[BookingEvent],
    updates: list[LocationUpdate],
    adopt: set[UUID],
    known: TrackCache,
    parked: Collection[int] | None,
) -> Stored:
    """One transaction."""
    try:
        with transaction(engine) as cursor:
            stored, tracks = _store(cursor, facts, updates, adopt, known, parked)
    except Exception:
        known.partitions.forget()
        raise
    known.put(tracks.values())
    return stored


def _store(
    cursor: Statements,
    facts: list[BookingEvent],
    received: list[LocationUpdate],
    adopt: set[UUID],
    track_cache: TrackCache,
    parked: Collection[int] | None,
) -> tuple[Stored, dict[UUID, TrackState]]:
    stored = Stored()
    updates = [u for u in received if u.latitude or u.longitude]
    no_fix = [] if len(updates) == len(received) else outcomes.without_fix(received)
    concerned = {fact.booking_id for fact in facts} | adopt | _named(updates)
    concerned |= _bookings_of_runners(cursor, updates)
    erased.lock_unerased(cursor, concerned)
    tracks = load_tracks(cursor, concerned, track_cache)
    versions = {booking_id: track.version for booking_id, track in tracks.items()}
    # Each step costs a round trip: most batches have updates only, and skip what they don't need.
    informed = _store_facts(cursor, without_places(facts, tracks), stored)
    begun, rule = [track for track in tracks.values() if track.head_seq], track_cache.rule
    changes, moved = write_trips(cursor, informed, tracks)
    reroute(cursor, [track for track in begun if track.booking_id in moved], rule)
    settle(cursor, changes, tracks, rule)
    waiting = parking.adoptable(cursor, moved | adopt, parked)
    resolver = Resolver(tracks, track_cache.partitions.floor())
    resolver.resolve([*waiting, *updates])
    resolver.find_final_ends(cursor)
    lower_corrections(cursor, resolver.candidates, rule)
    new = add_waypoints(cursor, resolver.candidates)
    stored.adopted = outcomes.release_waiting(cursor, waiting, resolver, new)
    rest = outcomes.park_unassigned(cursor, updates, len(waiting), resolver, new)
    stored.refusals += outcomes.refusals(rest, no_fix, resolver, len(waiting), new)
    rest += no_fix
    stored.update_outcomes.update(outcome for _, outcome in rest)
    stored.update_outcomes += Counter({APPLIED: len(received) - len(rest)})  # keeps no zero
    grown = write_waypoints(cursor, tracks.values(), track_cache.partitions, rule)
    heard = outcomes.heard_of(tracks, rest, resolver)  # what is pending moves no marker
    stored.bookings = in_order(changes, grown, heard, _moves(tracks, versions), flagged_of(tracks))
    stored.verdicts = sum((track.judged for track in tracks.values()), Counter[Verdict]())
    outbox.write_lifecycle(cursor, changes, tracks)
    return stored, tracks


def _moves(tracks: dict[UUID, TrackState], versions: dict[UUID, int]) -> dict[UUID, TrackMove]:
    """From the versions before the batch to those behind it."""
    return {
        booking_id: TrackMove(t.epoch, versions.get(booking_id, 0), t.version, t.distance_mm)
        for booking_id, t in tracks.items()
    }


def _named(updates: Iterable[LocationUpdate]) -> set[UUID]:
    """The bookings that updates name. By number, since a UUID is hashed in Python."""
    return set({u.booking_id.int: u.booking_id for u in updates if u.booking_id}.values())


def _bookings_of_runners(cursor: Cursor, updates: Iterable[LocationUpdate]) -> set[UUID]:
    """Where updates without booking id may belong."""
    spans = defaultdict(list)
    for update in updates:
        if update.booking_id is None:
            spans[update.runner_id].append(update.recorded_at)
    rows = [(runner_id, min(times), max(times)) for runner_id, times in spans.items()]
    return bookings.bookings_of_runners(cursor, rows)


def _store_facts(cursor: Statements, facts: Sequence[BookingEvent], stored: Stored) -> set[UUID]:
    facts = erased.without_names(cursor, facts)
    learned = insert_facts(cursor, facts)
    for kind, outcome in _fact_outcomes(facts, learned.new):
        stored.fact_outcomes[kind, outcome] += 1
    return learned.booking_ids


def _fact_outcomes(
    facts: Iterable[BookingEvent], new: Collection[FactKey]
) -> Iterable[tuple[str, str]]:
    left = set(new)
    for fact in facts:
        key = fact_key(fact)
        yield fact.kind, APPLIED if key in left else DUPLICATE
        left.discard(key)
