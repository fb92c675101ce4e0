"""What a viewer sees of a room: everything, or what a share link shows. Pure.

A room sends each view its own messages: encoded once for all who have the view.
"""

from datetime import datetime
from typing import Final, Protocol

from msgspec import Struct

from tracking.domain.eta import Eta, NoEta
from tracking.domain.freshness import Freshness
from tracking.domain.shares import is_before_pickup, shown_from
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.wire import protocol, shared
from tracking.wire.arrival_message import ArrivalsPart, arrivals_part


class Course(Protocol):
    """How far a trip is, as it is read, published or changed."""

    @property
    def status(self) -> str: ...
    @property
    def phase(self) -> str | None: ...
    @property
    def epoch(self) -> str | None: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def picked_up_at(self) -> datetime | None: ...


class View:
    """Of a viewer with a token: everything."""

    def since(self, _: Course) -> datetime | None:
        """Waypoints that were recorded before are not shown; None: all are."""
        return None

    def is_waiting(self, _: Course | None) -> bool:
        """Nothing is shown yet, not even that there is something."""
        return False

    def epoch(self, course: Course | None) -> str | None:
        """Names what may be resumed: it changes with what is shown of the same numbering."""
        return None if course is None else course.epoch

    def shows(self, course: Course, waypoint: StoredWaypoint) -> bool:
        since = self.since(course)
        return since is None or waypoint.recorded_at >= since

    def begins_anew(self, _: TrackChange) -> bool:
        """Other waypoints are shown than before: all that are shown have to be sent."""
        return False

    def welcome(
        self,
        state: LiveState,
        freshness: Freshness | None,
        recovered: bool | None,
        until: datetime,
        eta: Eta | NoEta | None = None,
    ) -> Struct:
        return protocol.welcome(state, freshness, recovered=recovered, expires_at=until, eta=eta)

    def arrivals(self, state: LiveState) -> ArrivalsPart:
        """What is said of them."""
        return arrivals_part(state.legs)

    def track_update(self, change: TrackChange) -> Struct | None:
        """None: it sees no difference."""
        return protocol.track_update(change) if change.is_visible else None


class SharedView(View):
    """Of a share link: the whole route, but nobody's id."""

    def welcome(
        self,
        state: LiveState,
        freshness: Freshness | None,
        recovered: bool | None,
        until: datetime,
        eta: Eta | NoEta | None = None,
    ) -> Struct:
        waiting, last = self.is_waiting(state), state.last
        if last is not None and not self.shows(state, last):
            last = None
        return shared.shared_welcome(
            state, None if waiting else freshness, epoch=self.epoch(state),
            seq=0 if waiting else state.head_seq, waiting=waiting, last=last,
            recovered=recovered, expires_at=until,
            arrivals=None if waiting else self.arrivals(state), eta=None if waiting else eta,
            started_at=self.began_at(state),
        )  # fmt: skip

    def began_at(self, course: Course) -> datetime | None:
        """The trip; None where that is not shown."""
        return course.started_at

    def track_update(self, change: TrackChange) -> Struct | None:
        same = (change.old_status, change.old_phase) == (change.status, change.phase)
        if same and not self.begins_anew(change):
            return None
        return shared.shared_track_update(
            change, epoch=self.epoch(change), waiting=self.is_waiting(change),
            started_at=self.began_at(change),
        )  # fmt: skip


class FromPickup(SharedView):
    """Of a share link that begins with the pickup.

    Its epoch holds the time of the pickup: when that turns out to be another, whoever comes back
    gets what is shown now, not only what is new.
    """

    def began_at(self, _: Course) -> datetime | None:
        return None

    def since(self, course: Course) -> datetime:
        return shown_from(course.phase, course.picked_up_at)

    def arrivals(self, state: LiveState) -> ArrivalsPart:
        return arrivals_part(leg for leg in state.legs if leg.end == "dropoff")

    def is_waiting(self, course: Course | None) -> bool:
        return course is None or is_before_pickup(course.phase)

    def epoch(self, course: Course | None) -> str | None:
        if course is None or course.epoch is None or self.is_waiting(course):
            return None
        at = course.picked_up_at
        return f"{course.epoch}-{0 if at is None else round(at.timestamp() * 1_000_000):x}"

    def begins_anew(self, change: TrackChange) -> bool:
        before = shown_from(change.old_phase, change.old_picked_up_at)
        return before != self.since(change) or change.old_phase == "to_pickup" != change.phase


EVERYTHING: Final = View()
SHARED: Final = SharedView()
FROM_PICKUP: Final = FromPickup()


def view_of(from_pickup: bool) -> View:
    """Of a share link."""
    return FROM_PICKUP if from_pickup else SHARED
