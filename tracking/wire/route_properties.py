"""What a route says of its trip, in every format."""

from typing import Any

from tracking.domain.points import DECIMALS
from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackView


def duration_s(track: TrackView) -> float:
    """From the trip's start to its end, or to the newest waypoint of one that has not ended."""
    end = track.completed_at or track.last_recorded_at or track.started_at
    return max((end - track.started_at).total_seconds(), 0.0)


def route_properties(track: TrackView) -> dict[str, Any]:
    return {
        "booking_id": track.booking_id,
        "track_id": track.id,
        "runner_id": track.runner_id,
        "status": track.status,
        "phase": track.phase,
        "distance_m": track.distance_mm / 1000,
        "reported_distance_m": track.reported_mm / 1000,
        "duration_s": duration_s(track),
        "started_at": rfc3339(track.started_at),
        "completed_at": None if track.completed_at is None else rfc3339(track.completed_at),
        "epoch": track.epoch,
        "seq": track.head_seq,
        "pickup": _position(track.pickup_lng, track.pickup_lat),
        "dropoff": _position(track.dropoff_lng, track.dropoff_lat),
    }


def _position(longitude: float | None, latitude: float | None) -> list[float] | None:
    """As GeoJSON has it."""
    if longitude is None or latitude is None:
        return None
    return [round(longitude, DECIMALS), round(latitude, DECIMALS)]
