"""A route as CSV (RFC 4180): everything that is known of each waypoint, flagged ones too."""

from collections.abc import Iterator
from typing import Final

from tracking.domain.points import EVERYTHING, Points
from tracking.wire.columns import (
    decimals_text,
    numbers_text,
    optional_text,
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
        longitude, latitude = points.rounded()
        yield woven(
            numbers_text(points.seq), b",", times_text(points.recorded_at),
            b",", decimals_text(longitude), b",", decimals_text(latitude),
            b",", optional_text(points.speed_kmh), b",", optional_text(points.heading_degrees),
            b",", times_text(points.received_at), b",%d," % self.segment,
            numbers_text(points.verdict), b"\r\n",
        )  # fmt: skip
