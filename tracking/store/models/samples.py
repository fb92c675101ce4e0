"""How long finished ways took."""

from datetime import date

from sqlalchemy import CheckConstraint, Date, Identity, Index, SmallInteger
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
