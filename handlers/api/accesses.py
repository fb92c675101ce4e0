"""Who read a booking, for its owner and admins."""

from typing import Any

from handlers.api.shares import SharingHandler
from tracking.store.accesses import ListedAccess, of_booking
from tracking.wire.messages import whole_seconds


class AccessesHandler(SharingHandler):
    """`GET /api/v1/tracking/{bookingId}/accesses`: the newest first, by reader, way and hour."""

    route = "/api/v1/tracking/{bookingId}/accesses"

    async def get(self, text: str) -> None:
        _, booking_id = await self.authorize(text)
        accesses = await self.services.ask(of_booking, booking_id)
        self.answer({"accesses": [_shown(each) for each in accesses]})


def _shown(access: ListedAccess) -> dict[str, Any]:
    """`reader`: a user's id, or a share link's as in `/shares`."""
    return {
        "reader": access.reader_id,
        "role": access.role,
        "way": access.way,
        "first_at": whole_seconds(access.first_at),
        "last_at": whole_seconds(access.last_at),
        "count": access.count,
    }
