"""What finished ways say for ETAs, kept once for each: the last SAMPLES of a phase and band."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from tracking.domain.arrivals import Arrival, Way
from tracking.domain.eta import SAMPLES, Sample, band_of, phase_of, samples_of
from tracking.domain.hops import Recorded
from tracking.store.sql import execute_rows
from tracking.store.statements import Statements


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
    day = datetime.fromtimestamp(at_s, UTC).date()
    execute_rows(
        cursor,
        "INSERT INTO eta_samples (phase, band, metres, seconds, day) VALUES %s",
        [(s.phase, band_of(s.metres), s.metres, s.seconds, day) for s in samples],
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


_FORGET: Final = f"""
    DELETE FROM eta_samples WHERE phase = %s AND band = %s AND id <= (
        SELECT id FROM eta_samples WHERE phase = %s AND band = %s
        ORDER BY id DESC OFFSET {SAMPLES} LIMIT 1)
"""
