"""The tables. `alembic check` holds them against the migrations; `store/` reads and writes them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: DateTime(timezone=True),
        str: Text,
        int: BigInteger,
        float: REAL,
    }


def _geometry(kind: str) -> Geometry:
    # Only the simplified line is ever searched by place, and that by track: no spatial index.
    return Geometry(kind, srid=4326, spatial_index=False)


class Booking(Base):
    """Every booking heard of, accepted or not. Its row is the lock that ingest takes first."""

    __tablename__ = "bookings"

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BookingFact(Base):
    """One booking event. A trip is computed from all of a booking's facts, in any order."""

    __tablename__ = "booking_facts"
    __table_args__ = (
        UniqueConstraint(
            "booking_id",
            "kind",
            "occurred_at",
            "runner_id",
            name="booking_facts_key",
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"))
    kind: Mapped[str]
    occurred_at: Mapped[datetime]
    runner_id: Mapped[UUID | None]
    owner_id: Mapped[UUID | None]
    booking_number: Mapped[str | None]
    at: Mapped[datetime | None]
    pickup: Mapped[WKBElement | None] = mapped_column(_geometry("POINT"))
    dropoff: Mapped[WKBElement | None] = mapped_column(_geometry("POINT"))
    stored_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Track(Base):
    """The record of one booking's trip, with the head: what its newest waypoints add up to."""

    __tablename__ = "tracks"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'completed', 'cancelled')", name="tracks_status"),
        CheckConstraint("phase IN ('to_pickup', 'to_dropoff', 'done')", name="tracks_phase"),
        # Maintenance looks for trips that nobody ended; there are few active ones.
        Index("tracks_active", "id", postgresql_where=text("status = 'active'")),
        # ... and for those whose metadata are behind.
        Index("tracks_unsettled", "id", postgresql_where=text("NOT settled")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"), unique=True)
    booking_number: Mapped[str | None]
    owner_id: Mapped[UUID | None]
    runner_id: Mapped[UUID]
    status: Mapped[str]
    phase: Mapped[str]
    end_reason: Mapped[str | None]
    pickup: Mapped[WKBElement | None] = mapped_column(_geometry("POINT"))
    dropoff: Mapped[WKBElement | None] = mapped_column(_geometry("POINT"))
    started_at: Mapped[datetime]
    picked_up_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    epoch: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    head_seq: Mapped[int] = mapped_column(server_default=text("0"))
    waypoint_count: Mapped[int] = mapped_column(server_default=text("0"))
    distance_mm: Mapped[int] = mapped_column(server_default=text("0"))
    # The newest waypoint of the route; together they are its place in the order.
    last_recorded_at: Mapped[datetime | None]
    last_runner_id: Mapped[UUID | None]
    last_reported_at: Mapped[datetime | None]
    last_position: Mapped[WKBElement | None] = mapped_column(_geometry("POINT"))
    # What the last tracking.completed or tracking.corrected since the trip was active says.
    announced_id: Mapped[UUID | None]
    announced_distance_mm: Mapped[int | None]
    announced_completed_at: Mapped[datetime | None]
    # False while route_metadata is older than the head.
    settled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AssignmentRow(Base):
    """Which runner had which booking when."""

    __tablename__ = "assignments"
    __table_args__ = (
        Index("assignments_booking", "booking_id"),
        Index("assignments_runner", "runner_id", "started_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"))
    runner_id: Mapped[UUID]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Waypoint(Base):
    """One recorded position of a track. Partitioned by month: retention drops a partition."""

    __tablename__ = "waypoints"
    __table_args__ = (
        Index("waypoints_seq", "track_id", "seq"),
        # The same phone report, should its correction have come out differently the second time.
        Index(
            "waypoints_corrected",
            "track_id",
            "runner_id",
            "reported_at",
            postgresql_where=text("recorded_at <> reported_at"),
        ),
        {"postgresql_partition_by": "RANGE (recorded_at)"},
    )

    # The primary key is the order of the route, and what makes two reports the same one.
    track_id: Mapped[UUID] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True)
    runner_id: Mapped[UUID] = mapped_column(primary_key=True)
    reported_at: Mapped[datetime] = mapped_column(primary_key=True)
    seq: Mapped[int]
    received_at: Mapped[datetime]
    position: Mapped[WKBElement] = mapped_column(_geometry("POINT"), nullable=False)
    speed_kmh: Mapped[float | None]
    heading_degrees: Mapped[float | None]
    # False once its trip turned out to have ended, or changed its runner, before it was recorded.
    in_route: Mapped[bool] = mapped_column(server_default=text("true"))


class RouteMetadata(Base):
    """What a route adds up to; a few seconds behind while the trip runs, exact afterwards."""

    __tablename__ = "route_metadata"

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    head_seq: Mapped[int]
    distance_m: Mapped[float] = mapped_column(server_default=text("0"))
    duration_s: Mapped[float] = mapped_column(server_default=text("0"))
    moving_s: Mapped[float] = mapped_column(server_default=text("0"))
    average_speed_kmh: Mapped[float | None]
    max_speed_kmh: Mapped[float | None]
    waypoint_count: Mapped[int]
    longest_gap_s: Mapped[float | None]
    bounding_box: Mapped[WKBElement | None] = mapped_column(_geometry("GEOMETRY"))
    simplified: Mapped[WKBElement | None] = mapped_column(_geometry("GEOMETRY"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ParkedUpdate(Base):
    """A location update that no track has claimed; one without booking id stays a day anyway."""

    __tablename__ = "parked_updates"
    __table_args__ = (
        UniqueConstraint(
            "runner_id",
            "booking_id",
            "reported_at",
            name="parked_updates_key",
            postgresql_nulls_not_distinct=True,
        ),
        Index("parked_updates_booking", "booking_id"),
        Index("parked_updates_parked_at", "parked_at"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    runner_id: Mapped[UUID]
    booking_id: Mapped[UUID | None]
    recorded_at: Mapped[datetime]
    reported_at: Mapped[datetime]
    received_at: Mapped[datetime]
    position: Mapped[WKBElement] = mapped_column(_geometry("POINT"), nullable=False)
    speed_kmh: Mapped[float | None]
    heading_degrees: Mapped[float | None]
    applied: Mapped[bool] = mapped_column(server_default=text("false"))
    parked_at: Mapped[datetime] = mapped_column(server_default=func.now())


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
