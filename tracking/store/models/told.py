"""What was said of arrivals."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class ArrivalRow(Base):
    """What was last said of one of a trip's ways. A booking's rows: those of its track, at most
    two. No place: what was said stays, like the summary, when the route has gone for its age.
    """

    __tablename__ = "arrivals"
    __table_args__ = (
        CheckConstraint("way_end IN ('pickup', 'dropoff')", name="arrivals_way_end"),
        CheckConstraint("state IN ('en_route', 'approaching', 'arrived')", name="arrivals_state"),
    )

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    way_end: Mapped[str] = mapped_column(Text, primary_key=True)
    state: Mapped[str]
    # Recorded times of the first waypoint that was near, of the visit, and of who left.
    approaching_at: Mapped[datetime | None]
    arrived_at: Mapped[datetime | None]
    detected_at: Mapped[datetime | None]
    evidence_seq: Mapped[int | None]
    left_at: Mapped[datetime | None]
    # Of the last event of the arrival: what a correction replaces.
    event_id: Mapped[UUID | None]
    # The phase event that it was computed for; NULL: the way lasted.
    closed_at: Mapped[datetime | None]
    # Its samples are kept: a trip that is settled again does not count twice.
    sampled: Mapped[bool] = mapped_column(server_default=text("false"))
