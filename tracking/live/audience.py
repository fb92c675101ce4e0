"""Who watches a room: cohorts of subscribers that are level, and the others. IOLoop thread only.

Asking each of thousands whether it takes a position costs about as much as sending it. A cohort is
asked nothing: its members have the same, and nothing waits for their sockets.
"""

import socket
import time
from collections.abc import Sequence
from typing import Final, Protocol

from tracking.domain.freshness import Freshness
from tracking.domain.tracks import TrackChange
from tracking.wire.messages import Message

# A cohort is served in one go, and nobody else runs meanwhile.
COHORT: Final = 1024
# In a smaller room it saves nothing.
WORTH_A_COHORT: Final = 8


class Subscriber(Protocol):
    """One connection in a room. None of the calls blocks or raises."""

    cohort: "Cohort | None"  # the audience sets it

    def take(self, message: Message) -> int | None:
        """The descriptor to which its frame may go at once; None if it was kept or dropped."""

    def sent(self, message: Message, count: int) -> None:
        """That descriptor took only so many bytes of it (negative: an errno)."""

    def level_socket(self) -> socket.socket | None:
        """Its socket, if it wants every position, and nothing waits."""

    def track_changed(self, change: TrackChange) -> None:
        """The trip began, ended, or went to another runner or phase."""

    def freshness_changed(self, freshness: Freshness) -> None:
        """Time passed without points, or they are back."""


class Cohort:
    """Subscribers who were all sent everything up to `seq`, and whose sockets are free."""

    __slots__ = ("_members", "sent_at", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.sent_at = time.monotonic()
        self._members: dict[Subscriber, socket.socket] = {}

    def __len__(self) -> int:
        return len(self._members)

    def members(self) -> list[Subscriber]:
        """At this moment, in the order of `descriptors`."""
        return list(self._members)

    def descriptors(self) -> list[int]:
        """Of the members' sockets; -1 for one that was closed a moment ago."""
        return [each.fileno() for each in self._members.values()]

    def served(self, seq: int) -> None:
        """All of them were sent the position `seq`."""
        self.seq, self.sent_at = seq, time.monotonic()

    def add(self, subscriber: Subscriber, free: socket.socket) -> None:
        self._members[subscriber] = free
        subscriber.cohort = self

    def remove(self, subscriber: Subscriber) -> None:
        del self._members[subscriber]
        subscriber.cohort = None


class Audience:
    """The subscribers of one room, each either in one cohort or by itself."""

    __slots__ = ("_cohorts", "_singles")

    def __init__(self) -> None:
        self._singles: set[Subscriber] = set()
        self._cohorts: list[Cohort] = []

    def __len__(self) -> int:
        return len(self._singles) + sum(map(len, self._cohorts))

    def everybody(self) -> list[Subscriber]:
        """At this moment."""
        found = list(self._singles)
        for cohort in self._cohorts:
            found += cohort.members()
        return found

    def cohorts(self) -> list[Cohort]:
        """At this moment."""
        return list(self._cohorts)

    def singles(self) -> list[Subscriber]:
        """Those in no cohort at this moment."""
        return list(self._singles)

    def add(self, subscriber: Subscriber) -> None:
        self._singles.add(subscriber)

    def remove(self, subscriber: Subscriber) -> bool:
        """False if it is not here."""
        self.single_out(subscriber)
        if subscriber not in self._singles:
            return False
        self._singles.remove(subscriber)
        return True

    def single_out(self, subscriber: Subscriber) -> None:
        """From now on it is asked each time."""
        cohort = subscriber.cohort
        if cohort is not None:
            cohort.remove(subscriber)
            self._singles.add(subscriber)
            if not len(cohort):
                self._cohorts.remove(cohort)

    def gather(self, served: Sequence[Subscriber], seq: int) -> None:
        """Who of these, just sent the position `seq`, is level needs no question the next time."""
        if len(self) < WORTH_A_COHORT:
            return
        for subscriber in served:
            free = subscriber.level_socket()
            if free is not None:
                self._singles.remove(subscriber)
                self._cohort_at(seq).add(subscriber, free)

    def _cohort_at(self, seq: int) -> Cohort:
        """One with a place, whose members have as much."""
        for cohort in reversed(self._cohorts):
            if cohort.seq == seq and len(cohort) < COHORT:
                return cohort
        self._cohorts.append(Cohort(seq))
        return self._cohorts[-1]
