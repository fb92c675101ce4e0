"""The data of each event type that is used, as their producers write it.

What has no default identifies or orders the event.
"""

from typing import Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from tracking.domain.envelopes import AwareTime, ShortText


class LocationData(Struct):
    runner_id: UUID
    latitude: float
    longitude: float
    timestamp: AwareTime
    booking_id: UUID | None = None
    speed_kmh: float | None = None
    heading_degrees: float | None = None
    occurred_at: AwareTime | None = None


class BookingData(Struct):
    booking_id: UUID
    booking_number: ShortText | None = None
    owner_id: UUID | None = None
    runner_id: UUID | None = None
    occurred_at: AwareTime | None = None


class RequestedData(BookingData, kw_only=True):
    owner_id: UUID
    pickup_lat: float | None = None
    pickup_lng: float | None = None
    dropoff_lat: float | None = None
    dropoff_lng: float | None = None


class AcceptedData(BookingData, kw_only=True):
    owner_id: UUID
    runner_id: UUID


class PickedUpData(BookingData, kw_only=True):
    picked_up_at: AwareTime | None = None


class DeliveredData(BookingData, kw_only=True):
    delivered_at: AwareTime | None = None


LOCATION_UPDATE: Final = "runner.location_update"


class WholeLocation(Struct):
    """A location update in its envelope, in which nothing has to be repaired."""

    type: Literal["runner.location_update"]
    data: LocationData
    id: str = ""
    time: AwareTime | None = None


WHOLE_LOCATION_DECODER = msgspec.json.Decoder(WholeLocation)
LOCATION_DECODER = msgspec.json.Decoder(LocationData)

BOOKING_DECODERS: Final[dict[str, msgspec.json.Decoder[BookingData]]] = {
    "requested": msgspec.json.Decoder(RequestedData),
    "accepted": msgspec.json.Decoder(AcceptedData),
    "picked_up": msgspec.json.Decoder(PickedUpData),
    "delivered": msgspec.json.Decoder(DeliveredData),
    "paid": msgspec.json.Decoder(BookingData),
    "cancelled": msgspec.json.Decoder(BookingData),
}
