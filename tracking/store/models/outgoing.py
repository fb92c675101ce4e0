"""What leaves the service: outgoing events, and links to look at."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base


class OutboxEvent(Base):
    """An outgoing event that cannot be derived later; deleted when Kafka has acknowledged it."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_track", "track_id"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    event_id: Mapped[UUID]
    type: Mapped[str]
    booking_id: Mapped[UUID]
    track_id: Mapped[UUID]
    # Not before the positions up to here have gone out.
    after_seq: Mapped[int]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # On its way, perhaps with consumers already: never changed again.
    taken: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PublishedWatermark(Base):
    """Positions up to `published_seq` have gone out. Deleted when an ended track is all out."""

    __tablename__ = "published_watermarks"
    __table_args__ = (
        # The drainer looks at nothing else.
        Index(
            "published_watermarks_unsent",
            "unsent_since",
            postgresql_where=text("unsent_since IS NOT NULL"),
        ),
    )

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    published_seq: Mapped[int]
    # Recorded time of the newest position that went out.
    published_at: Mapped[datetime | None]
    # NULL: nothing to send.
    unsent_since: Mapped[datetime | None]


class ShareLink(Base):
    """A public look at one booking. The token itself is nowhere: only its SHA-256."""

    __tablename__ = "share_links"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_by: Mapped[UUID]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    label: Mapped[str | None]
    # Shows only what was recorded at or after the pickup.
    from_pickup: Mapped[bool] = mapped_column(server_default=text("false"))
    # So long after the trip's end it is still open; the default is for release 1.0.
    after_end_s: Mapped[int] = mapped_column(server_default=text("86400"))
    revoked_at: Mapped[datetime | None]
    opens: Mapped[int] = mapped_column(server_default=text("0"))
    last_opened_at: Mapped[datetime | None]
