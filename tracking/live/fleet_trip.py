"""One active trip as those see it who watch all of them. IOLoop thread only."""

from datetime import datetime
from uuid import UUID

from msgspec import Raw

from tracking.domain.changes import BookingChanges
from tracking.domain.freshness import Reason, Reports, State, judge
from tracking.domain.legs import Leg, Standing, current, standing
from tracking.domain.tracks import ActiveTrip, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.wire.fleet_protocol import Row, encoded, milliseconds


class FleetTrip:
    """A row, its version, and what its freshness is judged by."""

    __slots__ = (
        "_distance_mm",
        "_encoded",
        "_freshness",
        "_last",
        "_legs",
        "_number",
        "_phase",
        "_reports",
        "_seq",
        "_started_at",
        "_status",
        "_track_version",
        "booking_id",
        "ended_at",
        "is_outdated",
        "version",
    )

    def __init__(self, booking_id: UUID, number: str | None, started_at: datetime) -> None:
        self.booking_id = booking_id
        self.version = 0  # of the fleet, when this row changed last
        self.ended_at: datetime | None = None  # when we heard of it; None while active
        self.is_outdated = False  # its route may have lost waypoints, the marker's among them
        self._number, self._started_at = number, started_at
        self._status, self._phase = "active", "to_pickup"
        self._seq = self._distance_mm = self._track_version = 0
        self._last: StoredWaypoint | None = None
        self._legs: tuple[Leg, ...] = ()
        self._reports = Reports()
        self._freshness: tuple[State, Reason | None] | None = ("live", None)
        self._encoded: Raw | None = None

    @classmethod
    def of(cls, read: ActiveTrip) -> "FleetTrip":
        """As the database has it."""
        trip = cls(read.booking_id, read.booking_number, read.started_at)
        trip.begin(read)
        return trip

    def begin(self, read: ActiveTrip) -> bool:
        """Again, when its route may have changed; what was published since then stays.

        Whether the row is another one now.
        """
        is_news = read.version > self._track_version
        if (self.ended_at is not None and not is_news) or read.head_seq < self._seq:
            return False  # what came meanwhile is newer
        if self.ended_at is not None:  # it was taken up again, and nobody has told
            self.ended_at, self._status, self._freshness = None, "active", ("live", None)
        self.is_outdated = False
        if read.version >= self._track_version:  # else what came meanwhile may say something else
            self._legs = read.legs
        self._track_version = max(self._track_version, read.version)
        self._number, self._phase, self._started_at = (
            read.booking_number, read.phase, read.started_at,
        )  # fmt: skip
        self._seq, self._distance_mm, self._last = read.head_seq, read.distance_mm, read.last
        if read.last is not None and self._reports.shown_at is None:
            self._reports.shown(read.last.received_at)
        self._encoded = None
        return True

    @classmethod
    def begun(cls, booking: BookingChanges) -> "FleetTrip | None":
        """A trip that nothing was known of; None if these changes do not make one active."""
        for entry in booking.entries:
            if isinstance(entry, TrackChange) and entry.status == "active":
                return cls(booking.booking_id, entry.booking_number, entry.started_at)
        return None

    def apply(self, booking: BookingChanges, now: datetime) -> bool:
        """Whether the row is another one now. What is known already changes nothing."""
        move = booking.move
        if move is not None:
            if move.before < move.after <= self._track_version:
                return False  # it comes again, or was read meanwhile
            if move.before > self._track_version > 0:
                self.is_outdated = True  # something is missing
            self._track_version = max(self._track_version, move.after)
        is_changed = booking.flagged is not None  # `move` has the distance without them
        self.is_outdated |= is_changed  # the marker may stand on one of them, or not yet on another
        is_changed |= self._hear_of(booking.legs)
        for entry in booking.entries:
            if isinstance(entry, StoredWaypoint):
                is_changed |= self._moved(entry)
            elif isinstance(entry, TrackChange):
                self._become(entry, now)
                is_changed = True
            else:
                self._reports.heard(entry.received_at)
        if is_changed:
            self._encoded = None
            if booking.move is not None:
                self._distance_mm = booking.move.distance_mm
        return is_changed

    def _hear_of(self, legs: tuple[Leg, ...] | None) -> bool:
        """Whether something else is said of the way that the runner is on."""
        before = self._arrival()
        if legs is not None:
            self._legs = legs
        return self._arrival() != before

    def _arrival(self) -> tuple[Standing, datetime] | None:
        return standing(current(self._legs, self._phase))

    def is_behind(self, version: int) -> bool:
        """The table has a version that nobody has told of."""
        return version > self._track_version

    def end(self, now: datetime) -> None:
        """It is not active any more; nobody has told how it ended."""
        self.ended_at, self._freshness, self._encoded = now, None, None

    def _moved(self, waypoint: StoredWaypoint) -> bool:
        """Late ones count, and don't move the marker. What comes after the end is not shown."""
        if waypoint.seq <= self._seq or self.ended_at is not None:
            return False
        self._seq = waypoint.seq
        self._reports.heard(waypoint.received_at)
        if not waypoint.late:
            self._reports.shown(waypoint.received_at)
            self._last = waypoint
        return True

    def _become(self, change: TrackChange, now: datetime) -> None:
        """It may also be taken up again after its end, or go on with another runner."""
        self._status, self._phase = change.status, change.phase
        self._started_at = change.started_at
        self._number = change.booking_number or self._number
        self.ended_at = None if change.status == "active" else now
        self.is_outdated = change.status == "active" and change.old_status is not None
        if self.ended_at is not None:
            self._freshness = None

    def age(self, now: datetime, delay_s: float) -> bool:
        """Whether time has changed the row."""
        if self.ended_at is not None:
            return False
        found = judge(now, self._started_at, None, self._reports, delay_s)
        if found == self._freshness:
            return False
        self._freshness, self._encoded = found, None
        return True

    def row(self) -> Raw:
        """Encoded when it is asked for first since it changed."""
        if self._encoded is None:
            self._encoded = encoded(self._row())
        return self._encoded

    def _row(self) -> Row:
        state, reason = self._freshness or (None, None)
        fixed = (self.booking_id, self._number, self._status, self._phase, state, reason)
        arrival, at = self._arrival() or (None, None)
        rest = (
            self._seq, self._distance_mm / 1000, milliseconds(self._started_at),
            arrival, None if at is None else milliseconds(at),
        )  # fmt: skip
        last = self._last
        if last is None:
            return Row(*fixed, None, None, None, None, None, None, *rest)
        return Row(
            *fixed, round(last.latitude, 6), round(last.longitude, 6), last.speed_kmh,
            last.heading_degrees, milliseconds(last.recorded_at), milliseconds(last.received_at),
            *rest,
        )  # fmt: skip
