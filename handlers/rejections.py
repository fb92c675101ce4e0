"""What a rejected request or connection is answered: one table for HTTP and WebSocket."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from tracking.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    InvalidToken,
    KeysUnavailable,
    NotFound,
    NotKnownYet,
    Overloaded,
    RouteChanged,
    RouteExpired,
    TooManyConnections,
    TooManyRequests,
    TrackingError,
    TripActive,
    UnknownKey,
)
from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode


class Rejection(NamedTuple):
    """One row: what REST and the plain stream answer, what `tracking.v1` is closed with."""

    status: int
    close_code: CloseCode
    outcome: str  # label of tracking_joins_total


REJECTIONS: Final[Mapping[type[TrackingError], Rejection]] = {
    InvalidRequest: Rejection(400, close_codes.BAD_REQUEST, "bad_request"),
    InvalidToken: Rejection(401, close_codes.INVALID_TOKEN, "invalid_token"),
    KeysUnavailable: Rejection(503, close_codes.OVERLOADED, "keys_unavailable"),
    UnknownKey: Rejection(503, close_codes.OVERLOADED, "keys_unavailable"),
    NotFound: Rejection(404, close_codes.NOT_FOUND, "not_found"),
    NotKnownYet: Rejection(503, close_codes.OVERLOADED, "not_known_yet"),
    TooManyRequests: Rejection(429, close_codes.TOO_MANY, "too_many_requests"),
    TooManyConnections: Rejection(429, close_codes.TOO_MANY_CONNECTIONS, "too_many_connections"),
    Overloaded: Rejection(503, close_codes.OVERLOADED, "full"),
    RouteChanged: Rejection(503, close_codes.OVERLOADED, "route_changed"),
    RouteExpired: Rejection(410, close_codes.NOT_FOUND, "route_expired"),
    TripActive: Rejection(409, close_codes.BAD_REQUEST, "trip_active"),
    DatabaseUnavailable: Rejection(503, close_codes.OVERLOADED, "database_unavailable"),
}
# Everything that is not in the table is a bug: the caller learns nothing of it.
BUG: Final = Rejection(500, close_codes.INTERNAL, "failed")


def rejection_of(error: object) -> Rejection:
    """The row of an error; BUG for everything that has none."""
    return REJECTIONS.get(type(error), BUG) if isinstance(error, TrackingError) else BUG
