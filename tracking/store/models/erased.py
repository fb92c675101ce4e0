"""What is left of those who were erased, so that their events are known when they come again."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Identity, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class ErasedSpan(Base):
    """A time of which no report of a runner is kept. Whoever has his id finds it, nobody else."""

    __tablename__ = "erased_spans"
    __table_args__ = (Index("erased_spans_runner", "runner_sha256"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    # Of the 16 bytes of his id, which are random: it does not lead back to them.
    runner_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    # He had this booking, which was erased: what names another booking is kept. NULL: he himself
    # was erased.
    booking_id: Mapped[UUID | None]
    since: Mapped[datetime]
    until: Mapped[datetime]
