"""Subscribers of one room who are all in sync. IOLoop thread only."""

import socket
import time

from tracking.live.sender import Sender
from tracking.live.subscriber import Subscriber
from tracking.wire.messages import Message


class Cohort:
    """They were all sent everything up to `seq`, and their sockets are free.

    So they are not gone through one by one: asking thousands costs about as much as sending.
    """

    __slots__ = ("_members", "_singles", "sent_at", "seq")

    def __init__(self, seq: int, singles: set[Subscriber]) -> None:
        self.seq = seq
        self.sent_at = time.monotonic()
        self._members: dict[Subscriber, socket.socket] = {}
        self._singles = singles  # where those go who leave

    def __len__(self) -> int:
        return len(self._members)

    def members(self) -> list[Subscriber]:
        """At this moment."""
        return list(self._members)

    def add(self, subscriber: Subscriber, free: socket.socket) -> None:
        """A single one that has been sent `seq`, too."""
        self._singles.remove(subscriber)
        self._members[subscriber] = free
        subscriber.cohort = self

    def remove(self, subscriber: Subscriber) -> None:
        """It is a single one again, and has what the cohort was sent."""
        del self._members[subscriber]
        self._singles.add(subscriber)
        subscriber.send_queue.last_sent = subscriber.last_sent
        subscriber.sent_seq, subscriber.cohort = self.seq, None

    def send(self, message: Message, send: Sender) -> int:
        """To all of them in one call, unless it is old; to how many.

        Nothing may come between reading the descriptors and sending: a descriptor that is closed
        may be another connection's a moment later. One that is closed already is -1.
        """
        if message.seq <= self.seq:
            return 0
        members = list(self._members)
        descriptors = [each.fileno() for each in self._members.values()]
        short = send(descriptors, message.frame)
        self.seq, self.sent_at = message.seq, time.monotonic()
        for index, count in short:
            complete(members[index], message, count)
        return len(members)


def complete(subscriber: Subscriber, message: Message, count: int) -> None:
    """Its socket took only `count` bytes of the frame (negative: an errno). Never raises."""
    try:
        subscriber.send_queue.complete(message.frame, count)
    except Exception as error:
        subscriber.fail(error)
