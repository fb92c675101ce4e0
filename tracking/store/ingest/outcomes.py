"""What became of each location update of a batch. Part of the ingest transaction."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Final, Literal, TypeAlias
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.changes import Heard, HeardWhy
from tracking.domain.events import LocationUpdate
from tracking.store.ingest import parking
from tracking.store.ingest.parking import Parked
from tracking.store.ingest.resolver import Resolver
from tracking.store.ingest.track_state import TrackState

Outcome: TypeAlias = Literal["duplicate", "parked", "refused", "erased"]

# Outcomes of an event; the consumer adds ignored, dead and skipped.
APPLIED: Final = "applied"
DUPLICATE: Final = "duplicate"
PARKED: Final = "parked"
REFUSED: Final = "refused"
ERASED: Final = "erased"


def release_waiting(
    cursor: Cursor, waiting: Sequence[Parked], resolver: Resolver, new: set[int]
) -> int:
    """Parked updates that found their track leave, and so do those that never will.

    How many of them became waypoints.
    """
    unassigned = {number for number, _ in resolver.unassigned}
    done = [
        update
        for number, update in enumerate(waiting)
        if number not in unassigned or resolver.is_final(update)
    ]
    parking.release(cursor, done)
    return sum(number in new for number in range(len(waiting)))


def park_unassigned(
    cursor: Cursor, updates: Sequence[LocationUpdate], first: int, resolver: Resolver, new: set[int]
) -> list[tuple[LocationUpdate, Outcome]]:
    """Park what has to wait; each update that made no waypoint, with its one outcome.

    `updates` are numbered from `first`.
    """
    unassigned = {number for number, _ in resolver.unassigned if number >= first}
    known = resolver.unassigned_but_stored(cursor) if unassigned else set()
    final = {
        number
        for number, update in resolver.unassigned
        if number >= first and number not in known and resolver.is_final(update)
    }
    park = [
        (number, update)
        for number, update in enumerate(updates, first)
        if (update.booking_id is None and number not in resolver.expired)
        or (number in unassigned and number not in known and number not in final)
    ]
    parked, gone = parking.park(
        cursor, [(update, number not in unassigned) for number, update in park]
    )
    waiting = {park[index][0] for index in parked} & unassigned
    erased = {park[index][0] for index in gone} & unassigned
    rest: list[tuple[LocationUpdate, Outcome]] = []
    for number, update in enumerate(updates, first):
        if number in new:
            continue
        if number in final or number in resolver.expired:
            rest.append((update, REFUSED))
        elif number in erased:
            rest.append((update, ERASED))
        else:
            rest.append((update, PARKED if number in waiting else DUPLICATE))
    return rest


def without_fix(updates: Iterable[LocationUpdate]) -> list[tuple[LocationUpdate, Outcome]]:
    """Exactly 0,0 is what a receiver says that has no position. They are refused."""
    return [(u, REFUSED) for u in updates if not (u.latitude or u.longitude)]


def refusals(
    rest: Iterable[tuple[LocationUpdate, Outcome]],
    no_fix: Sized,
    resolver: Resolver,
    first: int,
    new: set[int],
) -> Counter[str]:
    """How many were refused, by the rule that excludes them. Numbers as in `park_unassigned`."""
    expired = sum(number >= first and number not in new for number in resolver.expired)
    refused = sum(outcome == REFUSED for _, outcome in rest)
    return Counter({"no_fix": len(no_fix), "after_end": refused - expired, "expired": expired})


def heard_of(
    tracks: Mapping[UUID, TrackState],
    rest: Iterable[tuple[LocationUpdate, Outcome]],
    resolver: Resolver,
) -> list[Heard]:
    """For each booking the newest report that did not move its marker, if no later one did.

    `rest` are the updates that made no waypoint. One without booking id is heard of its runner's
    active tracks, as far as the batch has loaded them.
    """
    newest: dict[UUID, Heard] = {}

    def hear(booking_id: UUID, update: LocationUpdate, why: HeardWhy) -> None:
        before = newest.get(booking_id)
        if before is None or before.received_at < update.received_at:
            newest[booking_id] = Heard(booking_id, update.received_at, why)

    for update, why in rest:
        if why == ERASED:
            continue
        if update.booking_id is not None:
            hear(update.booking_id, update, why)
        else:
            for track in resolver.of_runner(update.runner_id):
                if track.status == "active" and track.runner_id == update.runner_id:
                    hear(track.booking_id, update, why)
    for track in tracks.values():
        for addition in track.added:
            if addition.late:
                hear(track.booking_id, addition.update, "late")
    return [heard for heard in newest.values() if not _moved_later(tracks, heard)]


def _moved_later(tracks: Mapping[UUID, TrackState], heard: Heard) -> bool:
    track = tracks.get(heard.booking_id)
    return track is not None and any(
        not addition.late and addition.update.received_at >= heard.received_at
        for addition in track.added
    )
