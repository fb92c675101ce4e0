"""A trip shown again: the time in it that is on show, and in which groups it came. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from tracking.domain.waypoints import StoredWaypoint

LEAST_SPEED: Final = 0.25
MOST_SPEED: Final = 60.0
# Of the trip and at the present speed: who watches would think that it hangs.
LONGEST_SILENCE_S: Final = 10.0
SHOWN_SILENCE_S: Final = 2.0
# A viewer whose link or whose page took longer sees the rest later, not faster.
MOST_LAG_S: Final = 1.0

# As it was recorded, or as a viewer saw it come.
ReplayOrder: TypeAlias = Literal["recorded", "arrival"]


class ReplayOptions(Struct, frozen=True):
    """What a viewer asked for; the times are of `order`, `until` is not in it."""

    speed: float
    order: ReplayOrder = "recorded"
    since: datetime | None = None
    until: datetime | None = None


class Silence(NamedTuple):
    """Nothing came between two times of the trip; it is shown as so many seconds."""

    start: datetime
    end: datetime
    shown_s: float


class Playback:
    """Which time of the trip is on show. `now`: seconds of a clock that never goes back."""

    def __init__(self, at: datetime, speed: float, now: float) -> None:
        self._at, self._since = at, now
        self.speed = speed
        self.is_paused = False

    def at(self, now: float) -> datetime:
        """The trip's time at this moment."""
        if self.is_paused:
            return self._at
        return self._at + timedelta(seconds=(now - self._since) * self.speed)

    def seek(self, at: datetime, now: float) -> None:
        self._at, self._since = at, now

    def set_speed(self, speed: float, now: float) -> None:
        self.seek(self.at(now), now)
        self.speed = speed

    def pause(self, now: float) -> None:
        self.seek(self.at(now), now)
        self.is_paused = True

    def resume(self, now: float) -> None:
        self.seek(self.at(now), now)
        self.is_paused = False

    def wait_s(self, due: datetime, now: float) -> float | None:
        """How long until that time is on show; None while paused."""
        return None if self.is_paused else (due - self.at(now)).total_seconds() / self.speed

    def shorten(self, due: datetime, now: float) -> Silence | None:
        """A silence before `due` that nobody wants to sit through is shortened, and told."""
        start, wait_s = self.at(now), self.wait_s(due, now)
        of_trip_s = (due - start).total_seconds()
        if wait_s is None or min(wait_s, of_trip_s) <= LONGEST_SILENCE_S:
            return None
        self.seek(due - timedelta(seconds=SHOWN_SILENCE_S * self.speed), now)
        return Silence(start, due, SHOWN_SILENCE_S)

    def hold(self, at: datetime, now: float) -> None:
        """What is sent now was due at `at`: a lag is not made up for by haste."""
        if (self.at(now) - at).total_seconds() > MOST_LAG_S * self.speed:
            self.seek(at, now)


class Shown(NamedTuple):
    """What one message shows: a position, or late waypoints. `due`: a time of the trip."""

    due: datetime
    waypoints: list[StoredWaypoint]
    is_late: bool = False


def as_recorded(waypoints: Iterable[StoredWaypoint]) -> Iterator[Shown]:
    """Each is a position, at the time when it was recorded."""
    for waypoint in waypoints:
        yield Shown(waypoint.recorded_at, [waypoint])


class Arrivals:
    """As they came, page by page in the order of seq: late ones moved no marker."""

    def __init__(self, newest: StoredWaypoint | None) -> None:
        self._recorded_at = None if newest is None else newest.recorded_at
        self._due = None if newest is None else newest.received_at

    def of(self, page: Iterable[StoredWaypoint]) -> Iterator[Shown]:
        """Late ones that follow each other in one second are one message, as when they came."""
        late: Shown | None = None
        for waypoint in page:
            # A batch is numbered by recorded time: the time of receipt may go back, the replay not.
            self._due = max(self._due or waypoint.received_at, waypoint.received_at)
            if self._recorded_at is None or waypoint.recorded_at >= self._recorded_at:
                self._recorded_at = waypoint.recorded_at
                if late is not None:
                    yield late
                    late = None
                yield Shown(self._due, [waypoint])
            elif late is not None and self._due - late.due <= timedelta(seconds=1):
                late.waypoints.append(waypoint)
            else:
                if late is not None:
                    yield late
                late = Shown(self._due, [waypoint], is_late=True)
        if late is not None:
            yield late
