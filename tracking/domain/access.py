"""Who asks, and may they see this booking? Any thread may call."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class Principal(Struct, frozen=True):
    """Who asks, and until when they may."""

    user_id: UUID
    role: str
    expires_at: datetime


class BookingAccess(Struct, frozen=True):
    """Who may watch a booking: its owner, and the runner who has it now."""

    booking_id: UUID
    owner_id: UUID | None
    runner_id: UUID | None


def may_watch(principal: Principal, booking: BookingAccess | None) -> bool:
    """A booking's owner, its present runner, and any admin; nobody else, and never a shop."""
    if booking is None or principal.role == "shop":
        return False
    if principal.role == "admin":
        return True
    if principal.role == "owner":
        return principal.user_id == booking.owner_id
    return principal.user_id == booking.runner_id


def may_watch_all(principal: Principal) -> bool:
    """All trips at once, and what the service says of itself: admins."""
    return principal.role == "admin"
