"""What a committed batch changed, as one ordered list for each booking. Pure.

Whoever carries changes to viewers (the broadcast of this process, or the relay to others) goes
through the list once, front to back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

from tracking.domain.legs import Leg
from tracking.domain.seq_runs import Runs
from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint

HeardWhy: TypeAlias = Literal["late", "parked", "refused", "duplicate"]


class Heard(Struct, frozen=True, tag="heard", array_like=True):
    """Reports came that did not move the marker: `received_at` of the newest, and what it became.

    A replay tells of reports that are old: whoever keeps the newest time is not misled by it.
    """

    booking_id: UUID
    received_at: datetime
    why: HeardWhy


Entry: TypeAlias = StoredWaypoint | TrackChange | Heard


class TrackMove(Struct, frozen=True, array_like=True):
    """How a transaction moved a track's row: whoever knows the version before misses nothing."""

    epoch: str
    before: int
    after: int
    distance_mm: int


class BookingChanges(Struct, frozen=True, array_like=True):
    """One booking's changes in the order in which its viewers are told of them.

    `move` is None where the booking has no track: then it was only heard. `legs`: what is said of
    arrivals now, None if that did not change. `flagged`: all seqs that are left out of the route
    now, what is pending among them; None if they are as before. It is told before the
    entries, so that nobody draws them, and whoever knows the last one needs none before.
    """

    booking_id: UUID
    entries: list[Entry]
    move: TrackMove | None = None
    legs: tuple[Leg, ...] | None = None
    flagged: Runs | None = None


def in_order(
    changes: Iterable[TrackChange],
    waypoints: Iterable[StoredWaypoint],
    heard: Iterable[Heard] = (),
    moves: Mapping[UUID, TrackMove] = MappingProxyType({}),
    flagged: Mapping[UUID, Runs] = MappingProxyType({}),
) -> list[BookingChanges]:
    """A new runner stands before his positions, the end of a trip behind the last one.

    What was only heard stands behind the positions. A track that moved is in the list, also when
    there is nothing to tell of it: otherwise the next change would look like a gap.

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
    for booking_id, move in moves.items():
        if move.before != move.after:
            entries[booking_id]  # made if it is not there
    return [
        BookingChanges(booking_id, listed, moves.get(booking_id), flagged=flagged.get(booking_id))
        for booking_id, listed in entries.items()
    ]
