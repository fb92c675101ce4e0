"""Why a WebSocket is closed. Up to 4499 a client comes back; from 4500 on it stops.

1000 is the exception below 4500: the trip is over, there is nothing to come back for.
docs/protocol.md has the same table.
"""

from typing import Final, NamedTuple


class CloseCode(NamedTuple):
    """A code of RFC 6455, section 7.4, and its reason: at most 32 ASCII bytes."""

    code: int
    reason: str


TRIP_OVER: Final = CloseCode(1000, "trip over")
GOING_AWAY: Final = CloseCode(1001, "going away")
PROTOCOL_ERROR: Final = CloseCode(1002, "protocol error")
BAD_TEXT: Final = CloseCode(1007, "not UTF-8")
TOO_BIG: Final = CloseCode(1009, "message too big")
INTERNAL: Final = CloseCode(1011, "internal error")
OVERLOADED: Final = CloseCode(1013, "try again later")
TOO_SLOW: Final = CloseCode(4008, "too slow")
TOKEN_EXPIRED: Final = CloseCode(4401, "token expired")
HEARTBEAT_LOST: Final = CloseCode(4408, "heartbeat lost")
TOO_MANY: Final = CloseCode(4429, "too many requests")
BAD_REQUEST: Final = CloseCode(4500, "bad request")
INVALID_TOKEN: Final = CloseCode(4501, "invalid token")
NOT_FOUND: Final = CloseCode(4503, "not found or not yours")
TOO_MANY_CONNECTIONS: Final = CloseCode(4504, "too many connections")


def going_away(seconds: int) -> CloseCode:
    """1001 with a hint when another process will be there: everybody at once would hurt it."""
    return CloseCode(GOING_AWAY.code, f"{GOING_AWAY.reason}, retry in {seconds} s")
