"""The audience of one room, and how a message is sent to all of it. IOLoop thread only."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Final

from tracking.live.cohort import Cohort, complete
from tracking.live.sender import Sender
from tracking.live.subscriber import Subscriber
from tracking.wire.messages import Message

# A cohort is served in one go, and nobody else runs meanwhile.
COHORT: Final = 1024
# In a smaller room it saves nothing.
WORTH_A_COHORT: Final = 8
# A large room must not keep everybody else waiting for longer.
MAX_HOLD_S: Final = 0.010


class TimeSlice:
    """How long the loop has been held."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Let others run, if it was long."""
        if time.perf_counter() - self._since > MAX_HOLD_S:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


class Audience:
    """The subscribers of one room, each in one cohort or single."""

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

    def sizes(self) -> tuple[list[int], int]:
        """Of each cohort, and how many are single."""
        return [len(each) for each in self._cohorts if len(each)], len(self._singles)

    def add(self, subscriber: Subscriber) -> None:
        self._singles.add(subscriber)

    def remove(self, subscriber: Subscriber) -> bool:
        """False if it is not here."""
        subscriber.leave_cohort()
        if subscriber not in self._singles:
            return False
        self._singles.remove(subscriber)
        return True

    async def send(self, position: Message, send: Sender, time_slice: TimeSlice) -> int:
        """To everybody who has not been sent it; to how many it went at once.

        Whoever leaves a cohort before that is served is found among the singles.
        """
        sent = 0
        self._cohorts = [each for each in self._cohorts if len(each)]
        for cohort in self._cohorts.copy():
            await time_slice.give_way()
            sent += cohort.send(position, send)
        for part in _parts(self._singles):
            await time_slice.give_way()
            served = _send_to_singles(part, position, send)
            self.gather(served, position.seq)
            sent += len(served)
        return sent

    async def send_late(self, backfill: Message, time_slice: TimeSlice) -> None:
        """Late waypoints, to everybody who speaks `tracking.v1`."""
        for part in _parts(self.everybody()):
            await time_slice.give_way()
            for subscriber in part:
                try:
                    subscriber.accept_late(backfill)
                except Exception as error:
                    subscriber.fail(error)

    def gather(self, served: Iterable[Subscriber], seq: int) -> None:
        """Those singles, just sent the position `seq`, who are in sync become a cohort."""
        if len(self) < WORTH_A_COHORT:
            return
        for subscriber in served:
            free = subscriber.socket_in_sync()
            if free is not None:
                self._cohort_at(seq).add(subscriber, free)

    def _cohort_at(self, seq: int) -> Cohort:
        """One that is not full, whose members were sent as much."""
        for cohort in reversed(self._cohorts):
            if cohort.seq == seq and len(cohort) < COHORT:
                return cohort
        self._cohorts.append(Cohort(seq, self._singles))
        return self._cohorts[-1]


def _send_to_singles(
    subscribers: list[Subscriber], position: Message, send: Sender
) -> list[Subscriber]:
    """Those whose sockets got it, in whole or in part.

    Nothing may come between a descriptor and the send to it: see `Cohort.send`.
    """
    takers, descriptors = [], []
    for subscriber in subscribers:
        try:
            descriptor = subscriber.accept(position)
        except Exception as error:
            subscriber.fail(error)
            continue
        if descriptor is not None:
            takers.append(subscriber)
            descriptors.append(descriptor)
    for index, count in send(descriptors, position.frame):
        complete(takers[index], position, count)
    return takers


def _parts(subscribers: Iterable[Subscriber]) -> Iterator[list[Subscriber]]:
    """Of those who are here at this moment, a cohort's size at a time."""
    everybody = list(subscribers)
    for first in range(0, len(everybody), COHORT):
        yield everybody[first : first + COHORT]
