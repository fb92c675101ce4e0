"""What a trip adds up to, as the API says it."""

from datetime import UTC, datetime
from typing import Any, Final

from tracking.domain.gaps import RecordingGap
from tracking.domain.points import DECIMALS
from tracking.domain.summary import Stop, Summary, Times
from tracking.domain.times import rfc3339
from tracking.domain.tracks import TrackView
from tracking.wire.route_properties import duration_s

_DIGITS: Final = {
    "average_speed_kmh": 2,
    "reported_max_speed_kmh": 2,
    "reported_p99_speed_kmh": 2,
    "coverage": 4,
    "longest_gap_s": 6,
    "interval_p50_s": 3,
    "delay_p50_s": 3,
    "delay_p95_s": 3,
}


def summary_fields(
    track: TrackView,
    summary: Summary | None,
    *,
    is_final: bool,
    implausible: bool | None,
    route_sha256: str | None = None,
) -> dict[str, Any]:
    """Without a summary only what the track knows; the rest is null."""
    return {
        "booking_id": track.booking_id,
        "track_id": track.id,
        "status": track.status,
        "phase": track.phase,
        "final": is_final,
        "epoch": track.epoch,
        "seq": track.head_seq,
        "started_at": rfc3339(track.started_at),
        "completed_at": None if track.completed_at is None else rfc3339(track.completed_at),
        "distance_m": track.distance_mm / 1000 if summary is None else summary.distance_m,
        "reported_distance_m": track.reported_mm / 1000,
        "duration_s": duration_s(track),
        **_seconds(None if summary is None else summary.times),
        **_record(summary),
        "counts": _counts(track, summary),
        "implausible": implausible,
        "route_sha256": route_sha256,
        "stops": None if summary is None else [_stop(stop) for stop in summary.stops],
        "gaps": None if summary is None else [_gap(gap) for gap in summary.gaps],
    }


def _seconds(times: Times | None) -> dict[str, float | None]:
    """Exact to the microsecond: the last three add up to the first."""
    if times is None:
        return dict.fromkeys(("recorded_s", "moving_s", "standing_s", "unknown_s"))
    return {
        "recorded_s": round(times.recorded_s, 6),
        "moving_s": round(times.moving_s, 6),
        "standing_s": round(times.standing_s, 6),
        "unknown_s": round(times.unknown_s, 6),
    }


def _record(summary: Summary | None) -> dict[str, float | None]:
    if summary is None:
        return dict.fromkeys(_DIGITS)
    speeds, record = summary.speeds, summary.record
    values = (
        speeds.average_kmh, speeds.max_kmh, speeds.p99_kmh, record.coverage,
        summary.longest_gap_s, record.interval_p50_s, record.delay_p50_s, record.delay_p95_s,
    )  # fmt: skip
    return {
        name: None if value is None else round(value, digits)
        for (name, digits), value in zip(_DIGITS.items(), values, strict=True)
    }


def _counts(track: TrackView, summary: Summary | None) -> dict[str, Any]:
    record = None if summary is None else summary.record
    return {
        "waypoints": track.waypoint_count,
        "flagged": None if record is None else record.flagged,
        "late": None if record is None else record.late,
        "clock_corrected": None if record is None else record.clock_corrected,
        "left_route": track.head_seq - track.waypoint_count,
    }


def _stop(stop: Stop) -> dict[str, Any]:
    stay = stop.stay
    return {
        "longitude": round(stay.longitude, DECIMALS),
        "latitude": round(stay.latitude, DECIMALS),
        "from": _time(stay.from_s),
        "to": _time(stay.to_s),
        "seconds": round(stay.seconds, 6),
        "at": stop.at,
    }


def _gap(gap: RecordingGap) -> dict[str, Any]:
    return {
        "from": _time(gap.from_s),
        "to": _time(gap.to_s),
        "seconds": round(gap.seconds, 6),
        "metres": round(gap.metres, 1),
        "kind": "moved" if gap.moved else "still",
        "before_seq": gap.before_seq,
        "after_seq": gap.after_seq,
    }


def _time(at_s: float) -> str:
    return rfc3339(datetime.fromtimestamp(at_s, UTC))
