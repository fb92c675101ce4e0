"""Tracks as the last committed batch left them, so that the next one need not read them again."""

from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from tracking.domain.routes import Gap
from tracking.store.ingest.track_state import TrackState

# Some 1.5 kB each. A backlog of more trips than this reads its tracks anew in every batch.
LIMIT: Final = 10_000


class TrackCache:
    """By booking id; the one thread that stores batches calls.

    A track that was taken is gone until it is put back after the commit: a transaction that fails
    leaves nothing wrong behind. Another process may have changed it meanwhile: whoever takes it
    compares its version, under the booking's lock.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._tracks: dict[UUID, TrackState] = {}
        self.partitions: set[str] = set()  # of waypoints, that are there
        self._limit = limit

    def __len__(self) -> int:
        return len(self._tracks)

    def take(self, booking_ids: Iterable[UUID]) -> dict[UUID, TrackState]:
        """Those of the bookings that are known."""
        found = ((booking_id, self._tracks.pop(booking_id, None)) for booking_id in booking_ids)
        return {booking_id: track for booking_id, track in found if track is not None}

    def put(self, tracks: Collection[TrackState]) -> None:
        """As committed, ready for the next batch; the ones longest unused make room."""
        for track in tracks:
            track.added = []
            track.corrects = False
            track.end = Gap(track.last, None)
            self._tracks[track.booking_id] = track
        for oldest in list(self._tracks)[: max(len(self._tracks) - self._limit, 0)]:
            del self._tracks[oldest]
