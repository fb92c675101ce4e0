"""What a committed batch changed, as one ordered list for each booking. Pure.

Whoever carries changes to viewers (the broadcast of this process, later a topic) goes through the
list once, front to back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint

HeardWhy: TypeAlias = Literal["late", "parked", "refused", "duplicate"]


class Heard(Struct, frozen=True):
    """Reports came that did not move the marker: `received_at` of the newest, and what it became.

    A replay tells of reports that are old: whoever keeps the newest time is not misled by it.
    """

    booking_id: UUID
    received_at: datetime
    why: HeardWhy


Entry: TypeAlias = StoredWaypoint | TrackChange | Heard


class BookingChanges(Struct, frozen=True):
    """One booking's changes in the order in which its viewers are told of them."""

    booking_id: UUID
    entries: list[Entry]
    distance_mm: int | None = None  # of the route behind all of them; None: not known


def in_order(
    changes: Iterable[TrackChange],
    waypoints: Iterable[StoredWaypoint],
    heard: Iterable[Heard] = (),
    distances: Mapping[UUID, int] = MappingProxyType({}),
) -> list[BookingChanges]:
    """A new runner stands before his positions, the end of a trip behind the last one.

    What was only heard stands behind the positions.

    `waypoints` of one booking come in the order of seq.
    """
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    ended = []
    for change in changes:
        if change.status == "active":
            entries[change.booking_id].append(change)
        else:
            ended.append(change)
    for waypoint in waypoints:
        entries[waypoint.booking_id].append(waypoint)
    for report in heard:
        entries[report.booking_id].append(report)
    for change in ended:
        entries[change.booking_id].append(change)
    return [
        BookingChanges(booking_id, listed, distances.get(booking_id))
        for booking_id, listed in entries.items()
    ]
