"""Why a WebSocket is closed. Up to 4499 a client comes back; from 4500 on it stops."""

from typing import Final, NamedTuple


class CloseCode(NamedTuple):
    """A code of RFC 6455, section 7.4, and its reason: at most 32 ASCII bytes."""

    code: int
    reason: str


TRIP_OVER: Final = CloseCode(1000, "trip over")
GOING_AWAY: Final = CloseCode(1001, "going away")
INTERNAL: Final = CloseCode(1011, "internal error")
TOO_SLOW: Final = CloseCode(4008, "too slow")
TOKEN_EXPIRED: Final = CloseCode(4401, "token expired")
NOT_FOUND: Final = CloseCode(4503, "not found or not yours")
