"""Values that pass between the statements of one ingest transaction."""

from collections import Counter
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from tracking.domain.events import LocationUpdate
from tracking.domain.routes import Gap, Vertex
from tracking.domain.tails import Tail
from tracking.domain.trips import GRACE, Assignment
from tracking.domain.verdicts import Verdict


class Announcement(Struct, frozen=True):
    """What the last outgoing event says of a trip that has ended.

    None: nobody kept what it says of that.
    """

    event_id: UUID
    distance_mm: int
    completed_at: datetime
    started_at: datetime | None = None
    waypoints: int | None = None
    reported_mm: int | None = None


class TrackState(Struct):
    """A track under its booking's lock, and what the batch adds to it."""

    booking_id: UUID
    id: UUID
    owner_id: UUID | None
    runner_id: UUID
    status: str
    phase: str
    started_at: datetime
    completed_at: datetime | None
    head_seq: int
    waypoint_count: int
    distance_mm: int
    last: Vertex | None  # the newest waypoint of the route
    version: int  # counts the changes of the row
    epoch: str
    delivered: bool = False  # final, unlike every other end
    announced: Announcement | None = None  # since it was last active
    assignments: tuple[Assignment, ...] = ()
    newest: Vertex | None = None  # like `last`, the batch included
    added: list["Addition"] = field(default_factory=list)
    # Where the marker was when waypoints left the route or moved in it: it does not go back.
    shown_until: datetime | None = None
    # The newest reported time that was corrected since the phone's clock was ahead: a copy of such
    # a report may look right (its time is behind Kafka's by now).
    ahead_until: datetime | None = None
    corrects: bool = False  # the batch has moved `ahead_until`
    picked_up_at: datetime | None = None
    route_expired: bool = False  # its waypoints have gone for their age, and none is added
    # What of the route is left out, as `models.Track` has it, and where the marker stands then.
    left_out: int = 0
    left_out_mm: int = 0
    marker: Vertex | None = None  # None: at `last`
    is_judged: bool = True  # false: an older release has added waypoints
    is_doubtful: bool = False  # what the batch adds has to be judged
    # The verdicts of the route that are not OK, by seq; None: not known, or there are none.
    verdicts: dict[int, Verdict] | None = None
    flagged_and_gone: set[int] = set()  # the seqs of what has left the route with such a verdict
    tail: Tail | None = None  # of the route, if its end is enough to judge what follows
    retold: bool = False  # the batch has changed verdicts
    judged: Counter[Verdict] = field(default_factory=Counter)  # what it has changed them to
    # Where a waypoint falls that is newer than all stored ones; one object, compared by identity.
    end: Gap = Gap(None, None)

    @property
    def shown(self) -> Vertex | None:
        """Where the marker stands."""
        return self.marker or self.last

    @property
    def reported_mm(self) -> int:
        """The length of the route with what is left out."""
        return self.distance_mm + self.left_out_mm

    @property
    def begins_at(self) -> datetime:
        """No waypoint of the route is older."""
        return min(assignment.started_at for assignment in self.assignments) - GRACE

    @property
    def ends_at(self) -> datetime | None:
        """No stored waypoint of the route is newer."""
        return None if self.last is None else self.last.recorded_at

    def covered(self, update: LocationUpdate) -> LocationUpdate | None:
        """The update as this track records it; None if no assignment covers it.

        A report that names its booking and claims to be from before that was accepted is wrong
        about its time: it counts at its event's own, if it is in the trip then.
        """
        if self._covers(update, update.recorded_at):
            return update
        occurred_at = update.occurred_at
        if (
            occurred_at is not None
            and update.booking_id is not None
            and update.reported_at < self.started_at - GRACE
            and self._covers(update, occurred_at)
        ):
            return replace(update, recorded_at=occurred_at)
        return None

    def _covers(self, update: LocationUpdate, recorded_at: datetime) -> bool:
        runner = update.runner_id.int  # compared without calling Python
        for assignment in self.assignments:  # a loop: a generator costs more than what it does
            if assignment.runner_id.int == runner and assignment.covers(recorded_at):
                return True
        return False

    def note_correction(self, update: LocationUpdate) -> None:
        """A report whose phone was ahead becomes part of the track, or is already."""
        if update.reported_at > update.recorded_at and (
            self.ahead_until is None or self.ahead_until < update.reported_at
        ):
            self.corrects, self.ahead_until = True, update.reported_at


class Addition(Struct, gc=False):
    """A waypoint that the batch adds."""

    update: LocationUpdate
    vertex: Vertex
    gap: Gap  # between the stored waypoints
    late: bool  # a newer one was known already, on the route or not


_new: Final[Any] = tuple.__new__  # half of what Vertex(...) takes, for each row of a backlog

# Number in the batch, a track, an update that the track covers.
Candidate: TypeAlias = tuple[int, TrackState, LocationUpdate]


def vertex_of(update: LocationUpdate) -> Vertex:
    """Where the update stands in its route."""
    vertex: Vertex = _new(
        Vertex,
        (
            update.recorded_at,
            update.runner_id,
            update.reported_at,
            update.longitude,
            update.latitude,
        ),
    )
    return vertex
