"""The tables. `alembic check` holds them against the migrations; `store/` reads and writes them."""

from tracking.store.models.accesses import AccessRow
from tracking.store.models.base import Base
from tracking.store.models.bookings import AssignmentRow, Booking, BookingFact, Track
from tracking.store.models.deployment import CodeRevision
from tracking.store.models.erased import ErasedSpan
from tracking.store.models.outgoing import OutboxEvent, PublishedWatermark, ShareLink
from tracking.store.models.receipts import Receipt
from tracking.store.models.samples import EtaAnswer, EtaSample
from tracking.store.models.told import ArrivalRow
from tracking.store.models.waypoints import ParkedUpdate, RouteMetadata, Waypoint

__all__ = [
    "AccessRow",
    "ArrivalRow",
    "AssignmentRow",
    "Base",
    "Booking",
    "BookingFact",
    "CodeRevision",
    "ErasedSpan",
    "EtaAnswer",
    "EtaSample",
    "OutboxEvent",
    "ParkedUpdate",
    "PublishedWatermark",
    "Receipt",
    "RouteMetadata",
    "ShareLink",
    "Track",
    "Waypoint",
]
