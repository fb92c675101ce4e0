"""Tracks as the last committed batch left them, so that the next one need not read them again."""

import time
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

from tracking.domain.routes import Gap
from tracking.domain.verdicts import STANDARD, Rule
from tracking.store.ingest.erased import ErasedBookings
from tracking.store.ingest.track_state import TrackState
from tracking.store.partitions import Partitions

# A second process that writes is noticed by what it changed; for so long each batch asks first.
OTHER_WRITER_S: Final = 60.0
# Some 1.5 kB each. A backlog of more trips than this reads its tracks anew in every batch.
LIMIT: Final = 10_000


class TrackCache:
    """By booking id; the one thread that stores batches calls.

    A track that was taken is gone until it is put back after the commit: a transaction that fails
    leaves nothing wrong behind. Another process may have changed it meanwhile: whoever takes it
    compares its version, under the booking's lock (`load_tracks`).
    """

    def __init__(
        self,
        limit: int = LIMIT,
        by_day: bool = False,
        keep: timedelta | None = None,
        rule: Rule = STANDARD,
    ) -> None:
        """`by_day`, `keep`: which partitions of waypoints are made where there are none; `rule`:
        by which waypoints are judged.
        """
        self._tracks: dict[UUID, TrackState] = {}
        self.partitions = Partitions(by_day, keep)
        self.erased = ErasedBookings()
        self.rule = rule
        self._limit = limit
        self._asks_until = 0.0  # time.monotonic()

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def is_only_writer(self) -> bool:
        """No other process has changed a known track lately."""
        return time.monotonic() >= self._asks_until

    def note_other_writer(self) -> None:
        """A known track was changed by another process, or after a restore."""
        self._asks_until = time.monotonic() + OTHER_WRITER_S

    def take(self, booking_ids: Iterable[UUID]) -> dict[UUID, TrackState]:
        """Those of the bookings that are known."""
        found = ((booking_id, self._tracks.pop(booking_id, None)) for booking_id in booking_ids)
        return {booking_id: track for booking_id, track in found if track is not None}

    def put(self, tracks: Collection[TrackState]) -> None:
        """As committed, ready for the next batch; the ones longest unused make room."""
        for track in tracks:
            track.added, track.judged = [], Counter()
            track.corrects = track.is_doubtful = track.retold = False
            track.end = Gap(track.last, None)
            self._tracks[track.booking_id] = track
        while len(self._tracks) > self._limit:
            del self._tracks[next(iter(self._tracks))]
