"""A track and its waypoints as the apps know them: never a null number, times in whole seconds."""

from typing import Any

from tracking.domain.tracks import TrackView
from tracking.domain.waypoints import RouteWaypoint
from tracking.wire.messages import whole_seconds


def track_fields(track: TrackView) -> dict[str, Any]:
    return {
        "id": track.id,
        "booking_id": track.booking_id,
        "runner_id": track.runner_id,
        "status": track.status,
        "phase": track.phase,
        "total_distance_km": track.distance_mm / 1_000_000,
        "reported_distance_km": track.reported_mm / 1_000_000,
        "started_at": whole_seconds(track.started_at),
        "completed_at": None if track.completed_at is None else whole_seconds(track.completed_at),
        "epoch": track.epoch,
        "seq": track.head_seq,
        "route_expired_at": (
            None if track.route_expired_at is None else whole_seconds(track.route_expired_at)
        ),
    }


def waypoint_fields(row: RouteWaypoint) -> dict[str, Any]:
    return {
        "id": str(row.seq),
        "latitude": round(row.latitude, 6),
        "longitude": round(row.longitude, 6),
        "speed_kmh": row.speed_kmh or 0.0,
        "heading_degrees": row.heading_degrees or 0.0,
        "recorded_at": whole_seconds(row.recorded_at),
        "seq": row.seq,
    }
