"""A route as the CSV that its SHA-256 is of: docs/receipts.md."""

from collections.abc import Iterator

from tracking.domain.canonical import HEAD, READ, canonical_rows
from tracking.domain.points import Points
from tracking.wire.exports.format import ExportedTrip, Format


class CanonicalCsv(Format):
    """Every waypoint of the route, flagged or not, with every digit."""

    content_type = "text/csv; header=present"
    columns = READ
    has_flagged = True

    def begin(self, trip: ExportedTrip) -> bytes:  # noqa: ARG002 - it names nobody
        return HEAD

    def add(self, points: Points) -> Iterator[bytes]:
        yield canonical_rows(points)
