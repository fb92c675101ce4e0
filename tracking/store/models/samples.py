"""How long finished ways took, and what a router said of those that last."""

from datetime import date
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Identity, Index, SmallInteger, Text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class EtaSample(Base):
    """From somewhere on a finished way, metres in a straight line and seconds until the arrival.

    Of nobody: no id, no place, no time of the day. So a booking has no rows here, and erasing one
    leaves them.
    """

    __tablename__ = "eta_samples"
    __table_args__ = (
        CheckConstraint("phase IN ('to_pickup', 'to_dropoff')", name="eta_samples_phase"),
        # The newest of a phase and band are kept.
        Index("eta_samples_newest", "phase", "band", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    phase: Mapped[str]
    band: Mapped[int] = mapped_column(SmallInteger)
    metres: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    seconds: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    day: Mapped[date] = mapped_column(Date)
    # Of a router that was asked in this band: what it said, and what it took from there.
    router_seconds: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    router_took_seconds: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)


class EtaAnswer(Base):
    """A router's first answer in a distance band of a way that lasts: for its sample. No place.

    They go when the trip is settled, and with the booking.
    """

    __tablename__ = "eta_answers"
    __table_args__ = (
        CheckConstraint("phase IN ('to_pickup', 'to_dropoff')", name="eta_answers_phase"),
    )

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    phase: Mapped[str] = mapped_column(Text, primary_key=True)
    band: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    # The waypoint from which it was asked, and its metres to the end that was known then.
    seq: Mapped[int]
    metres: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    seconds: Mapped[float] = mapped_column(DOUBLE_PRECISION)
