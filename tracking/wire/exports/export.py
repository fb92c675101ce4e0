"""One export while it leaves: pages in, pieces of the document out. One thread at a time."""

from collections.abc import Collection, Iterator

import numpy as np

from tracking.domain.points import Points, Whole
from tracking.domain.segments import Segments, runs
from tracking.domain.tracks import TrackView
from tracking.errors import RouteChanged
from tracking.wire.antimeridian import sides
from tracking.wire.exports.format import ExportedTrip, Format
from tracking.wire.route_properties import route_properties


def exported(track: TrackView, booking_number: str | None) -> ExportedTrip:
    """What the document says of the trip."""
    return ExportedTrip(
        name=booking_number or str(track.booking_id),
        at=track.last_recorded_at or track.started_at,
        properties={"booking_number": booking_number, **route_properties(track)},
    )


class Export:
    """`expected`: how many waypoints have to come, or the document is not finished."""

    def __init__(
        self,
        document: Format,
        trip: ExportedTrip,
        expected: int,
        *,
        gap_s: float,
        with_flagged: bool = False,
    ) -> None:
        self._document = document
        self._trip = trip
        self._missing = expected
        self._segments = Segments(gap_s)
        self._with_flagged = with_flagged
        self._open: int | None = None  # the segment that is being written
        self._longitude: float | None = None  # where it has come to

    def head(self) -> bytes:
        return self._document.begin(self._trip)

    def page(self, points: Points, kept: Collection[int] | None = None) -> Iterator[bytes]:
        """The next waypoints, all of them; of the accepted ones only the `kept` seqs leave."""
        self._missing -= points.count
        accepted = (points.verdict == 0) | self._with_flagged
        numbers = self._segments.number(points, accepted)
        leaves = accepted if kept is None else accepted & _among(points.seq, kept)
        if self._document.has_flagged:
            leaves = leaves | ~accepted
        for number, run in runs(points.where(leaves), numbers[leaves]):
            if number != self._open:
                yield from self._close()
                self._open = self._document.segment = number
                yield from self._document.open_segment()
                self._longitude = None
            yield from self._drawn(run)

    def _drawn(self, run: Points) -> Iterator[bytes]:
        """More of the open segment."""
        if not self._document.ends_at_antimeridian:
            yield from self._document.add(run)
            return
        for is_across, part in sides(run, self._longitude):
            if is_across:
                yield from self._document.close_segment()
                yield from self._document.open_segment()
            yield from self._document.add(part)
        self._longitude = float(run.longitude[-1])

    def tail(self) -> Iterator[bytes]:
        """Raises RouteChanged unless every waypoint has come: what looks whole has to be it."""
        if self._missing:
            raise RouteChanged(f"{self._missing:,} waypoints left the route while it was read")
        yield from self._close()
        yield self._document.end()

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            yield from self._document.close_segment()


def _among(seqs: Whole, kept: Collection[int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(seqs, np.fromiter(kept, np.int64, len(kept)))
