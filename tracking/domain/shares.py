"""Share links: what one is, and what of its trip it shows. Pure."""

from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

# `waiting`: open, but the pet is not on board yet. `ended`: the trip is over for too long.
Status: TypeAlias = Literal["active", "waiting", "expired", "ended", "revoked"]

# Nothing was recorded then or later.
NEVER: Final = datetime.max.replace(tzinfo=UTC)


class ShareTerms(Struct, frozen=True):
    """What the owner asks for. `from_pickup`: nothing that was recorded before is shown."""

    expires_in_s: int
    label: str | None
    from_pickup: bool
    after_end_s: int  # so long after the trip's end it is still open


class Share(Struct, frozen=True):
    """A link as its owner sees it; the token is not in it."""

    id: UUID
    label: str | None
    from_pickup: bool
    after_end_s: int
    created_at: datetime
    expires_at: datetime
    status: Status
    opens: int
    last_opened_at: datetime | None


class OpenShare(Struct, frozen=True):
    """What a token opens at this moment."""

    id: UUID
    booking_id: UUID
    from_pickup: bool
    expires_at: datetime


def is_before_pickup(phase: str | None) -> bool:
    """A booking without a track has no phase."""
    return phase in (None, "to_pickup")


def shown_from(phase: str | None, picked_up_at: datetime | None) -> datetime:
    """A link from the pickup shows what was recorded then or later; NEVER without a pickup."""
    return NEVER if is_before_pickup(phase) or picked_up_at is None else picked_up_at
