"""Waypoints, what they add up to, and updates that wait for a track."""

from datetime import datetime
from typing import Any
from uuid import UUID

from geoalchemy2 import WKBElement
from sqlalchemy import (
    Boolean,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tracking.store.models.base import Base, geometry


class Waypoint(Base):
    """One recorded position of a track. Partitioned by time: retention drops a partition."""

    __tablename__ = "waypoints"
    __table_args__ = (
        # The order of the route, and what makes two reports the same one.
        Index(
            "waypoints_order",
            "track_id",
            "recorded_at",
            "runner_id",
            "reported_at",
            text("ST_X(position)"),
            text("ST_Y(position)"),
            unique=True,
        ),
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

    track_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # In the key since it is what the table is partitioned by.
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True)
    runner_id: Mapped[UUID]
    reported_at: Mapped[datetime]
    received_at: Mapped[datetime]
    position: Mapped[WKBElement] = mapped_column(geometry("POINT"), nullable=False)
    speed_kmh: Mapped[float | None]
    heading_degrees: Mapped[float | None]
    # False once its trip turned out to have ended, or changed its runner, before it was recorded.
    in_route: Mapped[bool] = mapped_column(server_default=text("true"))
    # tracking.domain.verdicts.Verdict of a waypoint of the route, judged when its trip has ended.
    verdict: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))


class RouteMetadata(Base):
    """What an ended trip's route adds up to. The route: its waypoints with `in_route`, in order;
    everything but head_seq, waypoint_count and reported_distance_m is of those with verdict 0.

    Current while its track has `metadata_current`. What the summary says, too, is the summary's:
    NULL where that is null, and of a route that is too long for one.
    """

    __tablename__ = "route_metadata"

    track_id: Mapped[UUID] = mapped_column(
        ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True
    )
    # The track's head that this was computed from: its newest seq, count and distance.
    head_seq: Mapped[int]
    waypoint_count: Mapped[int]
    distance_m: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    # Seconds from the trip's start to its end, as everywhere. Without `track_version` it was
    # computed by a release for which it was from the first waypoint to the last.
    duration_s: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    # The longest one of the summary's gaps; NULL of a route without.
    longest_gap_s: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    # Neither standing nor unknown, and the average speed of these seconds.
    moving_s: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    average_speed_kmh: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    # The highest speed that the phone reported, if its positions agree: `average_speed_kmh`, and
    # `distance_m` over the recorded seconds, are at most this. Else NULL.
    max_speed_kmh: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    # The bounding box as in GeoJSON (RFC 7946 §5.2): west > east across the antimeridian.
    west: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    south: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    east: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    north: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    # The route within some metres: a Point for one waypoint, a MultiLineString cut at ±180 (§3.1.9)
    # across the antimeridian, else a LineString.
    simplified: Mapped[WKBElement | None] = mapped_column(geometry("GEOMETRY"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Of all waypoints; NULL, like the following, of what was computed before there were verdicts.
    reported_distance_m: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    # How many waypoints are not OK; `implausible`: so many that none is flagged.
    flagged: Mapped[int | None]
    implausible: Mapped[bool | None]
    # tracking.domain.verdicts.Rule that they were judged by.
    verdict_rule: Mapped[dict[str, float] | None] = mapped_column(JSONB)
    # The track's version that this was computed from, and what it adds up to: a Summary of
    # tracking.domain.summary, NULL of a route that is too long for one.
    track_version: Mapped[int | None]
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # Of the canonical CSV (domain.canonical) of all waypoints of the route with verdicts; NULL
    # of what was computed before it was kept. It is of this row only where `route_sha256_at` is
    # `updated_at`: the release before settles trips without touching either.
    route_sha256: Mapped[str | None]
    route_sha256_at: Mapped[datetime | None]
    # The highest speed that the phone reported, whatever its positions say; the most seconds
    # between two neighbours, a gap or not; how many stops the summary had: they go before it does.
    # NULL of what was settled before they were kept.
    reported_max_speed_kmh: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    longest_interval_s: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    stops: Mapped[int | None]
    # What it was computed from has gone for its age: it is never computed again.
    route_expired: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class ParkedUpdate(Base):
    """A location update that no track has claimed; one without booking id stays a day anyway."""

    __tablename__ = "parked_updates"
    __table_args__ = (
        UniqueConstraint(
            "runner_id",
            "booking_id",
            "reported_at",
            "occurred_at",
            "position",
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
    occurred_at: Mapped[datetime]  # the platform's time of the report, as far as believed
    received_at: Mapped[datetime]
    position: Mapped[WKBElement] = mapped_column(geometry("POINT"), nullable=False)
    speed_kmh: Mapped[float | None]
    heading_degrees: Mapped[float | None]
    applied: Mapped[bool] = mapped_column(server_default=text("false"))
    parked_at: Mapped[datetime] = mapped_column(server_default=func.now())
