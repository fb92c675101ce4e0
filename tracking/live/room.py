"""One booking that somebody watches, and its state. IOLoop thread only."""

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from tracking.domain.changes import BookingChanges, Entry, Heard
from tracking.domain.eta import Eta, NoEta
from tracking.domain.freshness import Freshness, Reports, freshness_of
from tracking.domain.seq_runs import Runs, holds, holds_all
from tracking.domain.tracks import LiveState, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.audience import Audience
from tracking.live.continuity import Continuity, Silence
from tracking.live.notices import tell_all
from tracking.live.shared_answers import SharedAnswers
from tracking.live.subscriber import Subscriber
from tracking.live.views import EVERYTHING, View
from tracking.wire import protocol
from tracking.wire.messages import Message, location_update

if TYPE_CHECKING:
    from tracking.live.rooms import Rooms


class Room:
    """Its state is kept current by what is published: joining it needs no look at the database."""

    def __init__(self, booking_id: UUID, rooms: "Rooms | None" = None) -> None:
        self.booking_id = booking_id
        self.audience = Audience()  # who sees everything
        self.shared: dict[View, Audience] = {}  # who looks through share links
        self.shared_answers = SharedAnswers()
        self.entering = 0  # those who wait for the state, or for their access to be checked
        self.reading: asyncio.Future[None] | None = None
        self.state: LiveState | None = None
        self.is_erased = False  # what is known of it here must not be shown to anybody
        self.is_outdated = False  # the route may have lost its newest waypoint
        self.continuity, self.silence = Continuity(), Silence()
        self.freshness: Freshness | None = None  # as the subscribers were told last
        self.eta: Eta | NoEta | None = None  # likewise; None: nothing was told yet
        self._rooms = rooms
        self._reports = Reports()
        self._changes = 0  # since the state was asked for
        self._position: tuple[StoredWaypoint, Message] | None = None

    def audiences(self) -> list[tuple[View, Audience]]:
        """By what they see; at this moment."""
        return [(EVERYTHING, self.audience), *self.shared.items()]

    def everybody(self) -> list[Subscriber]:
        """At this moment, whatever they see."""
        return [each for _, audience in self.audiences() for each in audience.everybody()]

    @property
    def is_empty(self) -> bool:
        return not len(self.audience) and not any(map(len, self.shared.values()))

    def join(self, subscriber: Subscriber) -> None:
        """It gets what is published from now on."""
        self._audience_of(subscriber).add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Idempotent."""
        if self._audience_of(subscriber).remove(subscriber) and self._rooms is not None:
            self._rooms.left(self)

    def _audience_of(self, subscriber: Subscriber) -> Audience:
        view = subscriber.view
        return self.audience if view is EVERYTHING else self.shared.setdefault(view, Audience())

    def expect(self) -> None:
        """The state is about to be read, with all that was published before."""
        self._changes = 0
        if self.state is None:
            self.continuity.clear()

    def take(self, booking: BookingChanges) -> list[BookingChanges]:
        """What the subscribers are to be told of now: nothing while a change before it is missing.

        What is published while the first state is read waits for it.
        """
        found = self.continuity.take(booking)
        if found:
            self.silence.heard(time.monotonic(), self._reports.interval.total_seconds())
        self._look_for_gap()
        return found

    def _look_for_gap(self) -> None:
        if self.continuity.is_broken and self._rooms is not None:
            self._rooms.on_gap(self)

    def begin(self, state: LiveState) -> None:
        """The state as it was read, and what was published meanwhile.

        It is read again for the marker only, when it may have left the route: everything else is
        known, and what was read may be behind what was published, or before it.
        """
        old = self.state
        if old is not None:
            self.is_outdated = self._changes > 0
            self._take_marker(old, state)
            return
        self.state = state
        for booking in self.continuity.begin(state.epoch, state.version):
            if booking.flagged is not None:
                self.flagged(booking.flagged)
            for entry in booking.entries:
                self._apply(entry)
            self.state.legs = self.state.legs if booking.legs is None else booking.legs
        self._look_for_gap()

    def _take_marker(self, old: LiveState, read: LiveState) -> None:
        is_behind = old.last is not None and old.last.seq > read.head_seq
        is_before = read.last is not None and read.last.seq > old.head_seq  # published soon
        if read.epoch == old.epoch and not is_behind and not is_before:
            old.last = read.last

    def _apply(self, entry: Entry) -> None:
        if isinstance(entry, StoredWaypoint):
            self.moved(entry)
        elif isinstance(entry, TrackChange):
            self.changed(entry)
        else:
            self.heard(entry)

    def flagged(self, runs: Runs) -> None:
        """Which waypoints are left out now; the marker may stand on one of them."""
        state = self.state
        assert state is not None
        self._changes += 1
        # A late waypoint may make one good that is newer than all that was shown.
        is_back = not holds_all(runs, state.flagged)
        state.flagged = runs
        self.is_outdated |= is_back or (state.last is not None and holds(runs, state.last.seq))

    def moved(self, waypoint: StoredWaypoint) -> None:
        """A waypoint was stored; a late one doesn't move the marker."""
        state = self.state
        assert state is not None
        if waypoint.seq > state.head_seq:
            state.head_seq = waypoint.seq
            self._reports.heard(waypoint.received_at)
            if not waypoint.late:
                if state.last is not None:
                    self._reports.learn(waypoint.recorded_at - state.last.recorded_at)
                self._reports.shown(waypoint.received_at)
                state.last = waypoint

    def heard(self, report: Heard) -> None:
        """The runner reported what moves no marker. Remembered only here, not in the database."""
        self._reports.heard(report.received_at)

    def renew(self, state: LiveState) -> None:
        """The state as the table has it: changes were missed."""
        old, self.state, self.is_outdated = self.state, state, False
        if state.last is not None and (old is None or old.last != state.last):
            self._reports.shown(state.last.received_at)
        self.shared_answers.clear()

    def changed(self, change: TrackChange) -> None:
        """Status, phase, runner or owner; the first one tells of the track itself."""
        state = self.state
        assert state is not None
        self._changes += 1
        state.track_id, state.epoch = change.track_id, change.epoch
        state.status, state.phase, state.runner_id = change.status, change.phase, change.runner_id
        state.owner_id, state.started_at = change.owner_id, change.started_at
        state.picked_up_at, state.completed_at = change.picked_up_at, change.completed_at
        self.is_outdated = change.old_status is not None
        self.shared_answers.clear()  # waypoints may have left the route

    def tell_flagged(self) -> None:
        """Everybody who speaks `tracking.v1`, and sees anything."""
        state = self.state
        assert state is not None
        frame = protocol.frame_of(protocol.Flagged(self.booking_id, state.flagged))
        for view, audience in self.audiences():
            for subscriber in [] if view.is_waiting(state) else audience.everybody():
                try:
                    subscriber.tell_newest(frame)
                except Exception as error:
                    subscriber.fail(error)

    def tell(self, change: TrackChange) -> None:
        """Those who may not watch any more are closed; the others get a `track_update`."""
        for view, audience in self.audiences():
            update = view.track_update(change)
            frame = None if update is None else protocol.frame_of(update)
            for subscriber in audience.everybody():
                try:
                    self._tell(subscriber, change, frame)
                except Exception as error:
                    subscriber.fail(error)

    def _tell(self, subscriber: Subscriber, change: TrackChange, frame: bytes | None) -> None:
        subscriber.check_access(change)
        if frame is not None:
            subscriber.tell(frame)
        if subscriber.view.begins_anew(change):
            self._tell_what_is_flagged(subscriber)
            subscriber.begin_anew()
        if self.is_over:
            subscriber.finish()

    def _tell_what_is_flagged(self, subscriber: Subscriber) -> None:
        """Who waited for the pickup heard nothing of it, and is sent waypoints now."""
        state = self.state
        if state is not None and state.flagged and not subscriber.view.is_waiting(state):
            subscriber.tell(protocol.frame_of(protocol.Flagged(self.booking_id, state.flagged)))

    @property
    def is_over(self) -> bool:
        """The trip that is watched has ended."""
        return self.state is not None and self.state.status in ("completed", "cancelled")

    def position(self) -> Message | None:
        """The last known one, encoded once for all who join; None before the first."""
        last = None if self.state is None else self.state.last
        if last is None:
            return None
        if self._position is None or self._position[0] is not last:
            self._position = last, location_update(last)
        return self._position[1]

    def look(self, now: datetime, delay_s: float) -> Freshness | None:
        """How true what is seen is at this moment; None before the trip and after it."""
        state = self.state
        if state is None or state.status != "active":
            return None
        began_at = state.started_at or now
        last_at = None if state.last is None else state.last.received_at
        return freshness_of(now, began_at, last_at, self._reports, delay_s)

    def age(self, now: datetime, delay_s: float) -> None:
        """Tell the subscribers when what they see is not as true any more, or is again."""
        before, self.freshness = self.freshness, self.look(now, delay_s)
        new = self.freshness
        if new is None or before is None:
            return
        if (before.state, before.reason) == (new.state, new.reason):
            return
        tell_all(self, lambda _: protocol.freshness_update(self.booking_id, new))
