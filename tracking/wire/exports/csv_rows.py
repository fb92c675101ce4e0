"""A route as CSV (RFC 4180): everything that is known of each waypoint, flagged ones too."""

from collections.abc import Iterator
from typing import Final

from tracking.domain.points import EVERYTHING, Points
from tracking.wire.columns import (
    Column,
    decimal_pairs_text,
    numbers_text,
    optional_pairs_text,
    times_text,
    woven,
)
from tracking.wire.exports.format import ExportedTrip, Format

COLUMNS: Final = (
    "seq", "recorded_at", "longitude", "latitude", "speed_kmh", "heading_degrees", "received_at",
    "segment", "verdict",
)  # fmt: skip


class CsvRows(Format):
    """No text stands in any column, so nothing has to be quoted."""

    content_type = "text/csv; header=present"
    columns = EVERYTHING
    has_flagged = True

    def begin(self, trip: ExportedTrip) -> bytes:  # noqa: ARG002 - its name is the file's
        return ",".join(COLUMNS).encode() + b"\r\n"

    def add(self, points: Points) -> Iterator[bytes]:
        yield woven(
            numbers_text(points.seq), b",", times_text(points.recorded_at), b",",
            decimal_pairs_text(*points.rounded()), b",",
            optional_pairs_text(points.speed_kmh, points.heading_degrees), b",",
            times_text(points.received_at), *self._ends(points),
        )  # fmt: skip

    def _ends(self, points: Points) -> tuple[Column, ...]:
        """Segment and verdict; one text where all are accepted."""
        segment = b",%d," % self.segment
        if points.verdict.any():
            return segment, numbers_text(points.verdict), b"\r\n"
        return (segment + b"0\r\n",)
