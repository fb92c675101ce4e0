"""What a committed batch changed, as one ordered list for each booking. Pure.

Whoever carries changes to viewers (the broadcast of this process, later a topic) goes through the
list once, front to back.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeAlias
from uuid import UUID

from msgspec import Struct

from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint

Entry: TypeAlias = StoredWaypoint | TrackChange


class BookingChanges(Struct, frozen=True):
    """One booking's changes in the order in which its viewers are told of them."""

    booking_id: UUID
    entries: list[Entry]


def in_order(
    changes: Iterable[TrackChange], waypoints: Iterable[StoredWaypoint]
) -> list[BookingChanges]:
    """A new runner stands before his positions, the end of a trip behind the last one.

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
    for change in ended:
        entries[change.booking_id].append(change)
    return [BookingChanges(booking_id, listed) for booking_id, listed in entries.items()]
