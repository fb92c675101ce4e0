"""Which changes of a track a room was told of, and which of them it has missed. Pure.

A transaction moves a track's row from one version to another, and every change that comes says from
which to which. So a change that comes twice, too early, or not at all is noticed, whatever the
reason: nothing between the processes has to be reliable. IOLoop thread only.
"""

import time
from collections.abc import Iterator
from typing import Final

from tracking.domain.changes import BookingChanges

# Of a room that nothing has come for yet, of one that is told every second, of one that is silent.
FIRST_S: Final = 20.0
LEAST_S: Final = 2.0
LONGEST_S: Final = 30.0
# Changes that wait for the one before them; with more, the table tells of all of them.
MOST_HELD: Final = 1_000


class Continuity:
    """Of one room. Before `begin` everything that comes is held."""

    __slots__ = ("_expected", "_held", "_is_full", "_is_lost", "epoch", "version")

    def __init__(self) -> None:
        self.epoch: str | None = None  # None: no track yet
        self.version: int | None = None  # up to which the room was told; None: nothing was read
        self._expected = 0  # the newest version that is there, as far as anybody has said
        self._held: list[BookingChanges] = []
        self._is_full = False  # something was not held
        self._is_lost = False  # ... or is of another epoch: only the table knows

    @property
    def is_broken(self) -> bool:
        """Something is missing."""
        return self.version is not None and (self._is_lost or self._expected > self.version)

    def clear(self) -> None:
        """Nothing is known: the state is about to be read."""
        self.version, self._is_full = None, False
        self._held.clear()

    def begin(self, epoch: str | None, version: int) -> list[BookingChanges]:
        """The room knows everything up to this version; what it is still to be told of.

        What is held of an epoch before is older than the table.
        """
        self.epoch, self.version, self._expected = epoch, version, version
        self._is_lost, self._is_full = self._is_full, False
        held, self._held = self._held, []
        if epoch is not None:
            held = [each for each in held if each.move is None or each.move.epoch == epoch]
        return [each for booking in sorted(held, key=_before) for each in self.take(booking)]

    def is_behind(self, version: int) -> bool:
        """The table has a version: whether the room was not told of it. Then it is broken."""
        self._expected = max(self._expected, version)
        return self.is_broken

    def take(self, booking: BookingChanges) -> list[BookingChanges]:
        """What the room is to be told of now, in order: nothing while something is missing."""
        move = booking.move
        if self.version is None:
            self._hold(booking)
            return []
        if move is None:
            return [booking]  # it was only heard, or nobody counts
        if move.epoch != self.epoch and self.epoch is not None:
            self._is_lost = True  # a restored backup begins to number anew
        elif move.after <= self.version:
            return [booking] if move.before == move.after else []  # it comes again
        elif move.before <= self.version:
            self.epoch, self.version = move.epoch, move.after
            self._expected = max(self._expected, move.after)
            return [booking, *self._following()]
        else:
            self._expected = max(self._expected, move.after)  # it may not be held
        self._hold(booking)
        return []

    def _hold(self, booking: BookingChanges) -> None:
        if len(self._held) < MOST_HELD:
            self._held.append(booking)
        else:
            self._is_full = True

    def _following(self) -> Iterator[BookingChanges]:
        """What waited for the change that has come."""
        held, self._held = sorted(self._held, key=_before), []
        for booking in held:
            yield from self.take(booking)


class Silence:
    """When a room that nothing comes for is to be looked after: later and later."""

    __slots__ = ("_due_at", "_wait_s")

    def __init__(self) -> None:
        self._wait_s = FIRST_S
        self._due_at = time.monotonic() + FIRST_S

    def heard(self, now: float, usual_s: float) -> None:
        """Something came; it usually does so every `usual_s` seconds."""
        self._wait_s = max(2 * usual_s, LEAST_S)
        self._due_at = now + self._wait_s

    def is_due(self, now: float) -> bool:
        return now >= self._due_at

    def asked(self, now: float) -> None:
        """Nothing was missed, or it is being mended."""
        self._wait_s = min(2 * self._wait_s, LONGEST_S)
        self._due_at = now + self._wait_s


def _before(booking: BookingChanges) -> int:
    return 0 if booking.move is None else booking.move.before
