"""Bookings, their facts, and the trips that these add up to."""

from datetime import datetime
from uuid import UUID

from geoalchemy2 import WKBElement
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base, geometry


class Booking(Base):
    """Every booking heard of, accepted or not. Its row is the lock that ingest takes first.

    Of one that was erased the row is all that is left.
    """

    __tablename__ = "bookings"
    __table_args__ = (
        Index("bookings_owner", "owner_id", postgresql_where=text("owner_id IS NOT NULL")),
        # Each process looks for what was erased lately.
        Index("bookings_erased", "erased_at", postgresql_where=text("erased_at IS NOT NULL")),
    )

    booking_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    erased_at: Mapped[datetime | None]


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
        # Maintenance looks at them once more (tracking/store/ingest/parking.py).
        Index("booking_facts_accepted", "stored_at", postgresql_where=text("kind = 'accepted'")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"))
    kind: Mapped[str]
    occurred_at: Mapped[datetime]
    runner_id: Mapped[UUID | None]
    owner_id: Mapped[UUID | None]
    booking_number: Mapped[str | None]
    at: Mapped[datetime | None]
    pickup: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    dropoff: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    # Kafka's time of the earliest copy: bounds what a clock that is ahead says.
    heard_at: Mapped[datetime | None]
    stored_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Track(Base):
    """The record of one booking's trip, with the head: what its newest waypoints add up to."""

    __tablename__ = "tracks"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'completed', 'cancelled')", name="tracks_status"),
        CheckConstraint("phase IN ('to_pickup', 'to_dropoff', 'done')", name="tracks_phase"),
        # Maintenance looks for trips that nobody ended; there are few active ones.
        Index("tracks_active", "id", postgresql_where=text("status = 'active'")),
        # ... and for ended ones whose metadata are not current, in the order of their end.
        Index(
            "tracks_metadata_waiting",
            "completed_at",
            postgresql_where=text("NOT metadata_current AND status <> 'active'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    booking_id: Mapped[UUID] = mapped_column(ForeignKey("bookings.booking_id"), unique=True)
    booking_number: Mapped[str | None]
    owner_id: Mapped[UUID | None]
    runner_id: Mapped[UUID]
    status: Mapped[str]
    phase: Mapped[str]
    end_reason: Mapped[str | None]
    pickup: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    dropoff: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    started_at: Mapped[datetime]
    picked_up_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    epoch: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    head_seq: Mapped[int] = mapped_column(server_default=text("0"))
    waypoint_count: Mapped[int] = mapped_column(server_default=text("0"))
    distance_mm: Mapped[int] = mapped_column(server_default=text("0"))
    # The newest waypoint of the route, OK or not; together they are its place in the order.
    last_recorded_at: Mapped[datetime | None]
    last_runner_id: Mapped[UUID | None]
    last_reported_at: Mapped[datetime | None]
    last_position: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    # Up to which seq the waypoints were judged: below the head if an older release has added some.
    judged_seq: Mapped[int] = mapped_column(server_default=text("0"))
    # Waypoints that the rule leaves out at present, and by how much the route is longer with them;
    # `distance_mm` is without. Of an implausible route they count, and are OK all the same.
    left_out: Mapped[int] = mapped_column(server_default=text("0"))
    left_out_mm: Mapped[int] = mapped_column(server_default=text("0"))
    # The newest waypoint that is OK, where the marker stands; NULL where it is the newest of all.
    marker_recorded_at: Mapped[datetime | None]
    marker_runner_id: Mapped[UUID | None]
    marker_reported_at: Mapped[datetime | None]
    marker_position: Mapped[WKBElement | None] = mapped_column(geometry("POINT"))
    # Where the marker was when waypoints left the route, moved in it or were flagged.
    shown_until: Mapped[datetime | None]
    # The newest reported time that was corrected since the phone's clock was ahead.
    ahead_until: Mapped[datetime | None]
    # What the last tracking.completed or tracking.corrected since the trip was active says.
    announced_id: Mapped[UUID | None]
    announced_distance_mm: Mapped[int | None]
    announced_completed_at: Mapped[datetime | None]
    # More of it, if `announced_whole_id` is that event's id. Else a release before has announced
    # the trip, which kept no more: what is not known differs from nothing.
    announced_whole_id: Mapped[UUID | None]
    announced_started_at: Mapped[datetime | None]
    announced_waypoints: Mapped[int | None]
    announced_reported_mm: Mapped[int | None]
    # The last tracking.summarized, what it says, and what the event says that it replaces; as ids.
    summarized_id: Mapped[UUID | None]
    summarized_content: Mapped[UUID | None]
    summarized_before: Mapped[UUID | None]
    # False while route_metadata is older than the track; a running trip has none.
    metadata_current: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # Its waypoints have gone for their age, and every place of it; how much there was stays.
    route_expired_at: Mapped[datetime | None]
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
