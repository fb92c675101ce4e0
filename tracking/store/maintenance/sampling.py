"""What finished ways say for ETAs, kept once for each: the last SAMPLES of a phase and band."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tracking.domain.arrivals import Arrival, Way
from tracking.domain.eta import SAMPLES, Sample, band_of, distance_m, phase_of, samples_of
from tracking.domain.hops import Recorded
from tracking.store.sql import execute_rows
from tracking.store.statements import Statements

# A place that was corrected by less is the same.
SAME_M: Final = 1.0


def keep_samples(
    cursor: Statements, track_id: UUID, way: Way, arrival: Arrival, route: Sequence[Recorded]
) -> list[Sample]:
    """Of a way that an event has ended; its row is stored. What was kept; nothing the second time.

    The day is the arrival's, in UTC. Without a visit the event says when: where an address is far
    off, that is what the next runners will need, too.
    """
    if way.to_s is None:
        return []
    at_s = way.to_s if arrival.arrived is None else arrival.arrived.arrived_at_s
    samples = samples_of(route, way, at_s)
    if not samples or not _is_first(cursor, track_id, way):
        return []
    samples = _with_router(cursor, track_id, way, samples, route, at_s)
    day = datetime.fromtimestamp(at_s, UTC).date()
    execute_rows(
        cursor,
        "INSERT INTO eta_samples (phase, band, metres, seconds, day, router_seconds,"
        " router_took_seconds) VALUES %s",
        [
            (s.phase, band_of(s.metres), s.metres, s.seconds, day, s.router_s, s.router_took_s)
            for s in samples
        ],
    )
    for sample in samples:
        cursor.execute(_FORGET, (phase_of(way), band_of(sample.metres)) * 2)
    return samples


def _is_first(cursor: Statements, track_id: UUID, way: Way) -> bool:
    """A trip that is settled again is not another trip."""
    cursor.execute(
        "UPDATE arrivals SET sampled = true WHERE track_id = %s AND way_end = %s AND NOT sampled"
        " RETURNING true",
        (track_id, way.end),
    )
    return cursor.fetchone() is not None


def _with_router(
    cursor: Statements, track_id: UUID, way: Way, samples: list[Sample], route: Sequence[Recorded],
    at_s: float,
) -> list[Sample]:  # fmt: skip
    """And what a router said in the same band, if its waypoint counts and led where it went."""
    cursor.execute(
        "SELECT band, seq, metres, seconds FROM eta_answers WHERE track_id = %s AND phase = %s",
        (track_id, phase_of(way)),
    )
    said = {band: (seq, metres, seconds) for band, seq, metres, seconds in cursor}
    if not said:
        return samples
    by_seq = {waypoint.seq: waypoint for waypoint in route}
    found = []
    for sample in samples:
        seq, metres, seconds = said.get(band_of(sample.metres), (0, 0.0, 0.0))
        start = by_seq.get(seq)
        if (
            start is not None
            and way.from_s <= start.at_s < at_s
            and abs(distance_m(way, start) - metres) < SAME_M
        ):
            sample = sample._replace(router_s=seconds, router_took_s=at_s - start.at_s)
        found.append(sample)
    return found


def forget_answers(cursor: Statements, track_id: UUID) -> None:
    """The trip has ended: what was said of its ways is in its samples, or of no use."""
    cursor.execute("DELETE FROM eta_answers WHERE track_id = %s", (track_id,))


_FORGET: Final = f"""
    DELETE FROM eta_samples WHERE phase = %s AND band = %s AND id <= (
        SELECT id FROM eta_samples WHERE phase = %s AND band = %s
        ORDER BY id DESC OFFSET {SAMPLES} LIMIT 1)
"""
