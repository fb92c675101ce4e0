"""Who read where somebody was."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class AccessRow(Base):
    """Reads of one reader, booking and way, of an hour at the most. Only added to: a trigger."""

    __tablename__ = "accesses"
    __table_args__ = (
        Index("accesses_booking", "booking_id", "first_at"),
        Index("accesses_first_at", "first_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # NULL: all active trips at once.
    booking_id: Mapped[UUID | None]
    # A user, or a share link.
    reader_id: Mapped[UUID]
    role: Mapped[str]
    # tracking.domain.accesses.Way.
    way: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    count: Mapped[int]
