"""What was said of ended trips, and signed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class Receipt(Base):
    """One for each settled state of a trip that somebody asked a receipt of; it goes with it."""

    __tablename__ = "receipts"

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    # 1, 2, ...: each replaces the one before it.
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # SHA-256 of what it says of the trip.
    state: Mapped[str]
    # The compact JWS.
    token: Mapped[str]
    issued_at: Mapped[datetime] = mapped_column(server_default=func.now())
