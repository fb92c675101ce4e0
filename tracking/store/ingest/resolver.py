"""Which tracks an update belongs to, by their assignments. Part of the ingest transaction."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from uuid import UUID

from psycopg2.extensions import cursor as Cursor

from tracking.domain.events import LocationUpdate
from tracking.domain.trips import GRACE
from tracking.store.ingest import duplicates, facts
from tracking.store.ingest.track_state import Candidate, TrackState


class Resolver:
    """Which track each update belongs to; `unassigned` are those without one.

    `expired` are the numbers of those whose waypoint would have gone for its age: it was recorded
    before the floor, or in a trip whose route has gone.
    """

    def __init__(self, tracks: dict[UUID, TrackState], floor: datetime | None = None) -> None:
        self._tracks = tracks
        self._floor = floor
        # By number: a UUID is hashed and compared in Python, an int is not.
        self._by_booking = {booking_id.int: track for booking_id, track in tracks.items()}
        self.candidates: list[Candidate] = []
        self.unassigned: list[tuple[int, LocationUpdate]] = []
        self.expired: set[int] = set()
        self._final: dict[UUID, datetime] = {}

    @cached_property
    def _by_runner(self) -> dict[UUID, list[TrackState]]:
        """Asked for only by updates without booking id."""
        found: dict[UUID, list[TrackState]] = defaultdict(list)
        for track in self._tracks.values():
            for runner_id in {a.runner_id for a in track.assignments}:
                found[runner_id].append(track)
        return found

    def resolve(self, updates: Iterable[LocationUpdate]) -> None:
        floor = self._floor
        for number, update in enumerate(updates):
            found = False
            for track in self._possible(update):
                covered = track.covered(update)
                if covered is not None:
                    found = True
                    if track.route_expired or (floor is not None and covered.recorded_at < floor):
                        self.expired.add(number)
                    else:
                        self.candidates.append((number, track, covered))
            if not found:
                if self._is_old(update.recorded_at) and self._is_old(update.occurred_at):
                    self.expired.add(number)
                else:
                    self.unassigned.append((number, update))

    def _is_old(self, time: datetime | None) -> bool:
        """A report that says no second time has only the first one."""
        return self._floor is not None and (time is None or time < self._floor)

    def _possible(self, update: LocationUpdate) -> Sequence[TrackState]:
        if update.booking_id is None:
            return self.of_runner(update.runner_id)
        track = self._by_booking.get(update.booking_id.int)
        return () if track is None else (track,)

    def of_runner(self, runner_id: UUID) -> Sequence[TrackState]:
        """Of the batch's tracks those that this runner has, or had."""
        return self._by_runner.get(runner_id, ())

    def find_final_ends(self, cursor: Cursor) -> None:
        """When the trips of the unassigned updates are over, whatever facts may still come."""
        booking_ids = self._tracks.keys() & {update.booking_id for _, update in self.unassigned}
        ends = facts.deliveries(cursor, [b for b in booking_ids if self._tracks[b].delivered])
        for booking_id, delivered_at in ends.items():
            # An assignment ends after the delivery only if it began after it, by another clock.
            known = [a.ended_at for a in self._tracks[booking_id].assignments if a.ended_at]
            self._final[booking_id] = max(delivered_at, *known) + GRACE

    def is_final(self, update: LocationUpdate) -> bool:
        """Recorded after a delivery, which no later event can take back."""
        final = None if update.booking_id is None else self._final.get(update.booking_id)
        return final is not None and update.recorded_at > final

    def unassigned_but_stored(self, cursor: Cursor) -> set[int]:
        """Numbers of those that have a row from before their trip's end was known."""
        rows = [
            (number, self._tracks[update.booking_id], update)
            for number, update in self.unassigned
            if update.booking_id in self._tracks
        ]
        seen = duplicates.stored_reports(cursor, rows) if rows else {}
        return {n for n, t, u in rows if duplicates.report(t, u) in seen}
