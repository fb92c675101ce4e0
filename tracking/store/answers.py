"""A router's answers of ways that last, kept until their trips are settled (sampling.py)."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from tracking.domain.eta import band_of, phase_of
from tracking.domain.routed import Answer
from tracking.store.engine import translated
from tracking.store.sql import execute_rows
from tracking.store.statements import transaction


@translated
def keep_answers(engine: sa.Engine, answers: Sequence[tuple[UUID, Answer]]) -> None:
    """By track, in one statement. Of a way and band the first one stays, whichever process asked;
    of a trip that has ended none is kept.
    """
    with transaction(engine) as cursor:
        execute_rows(
            cursor,
            _KEEP,
            [
                (track_id, phase_of(a.way), band_of(a.metres), a.start.seq, a.metres, a.seconds)
                for track_id, a in answers
            ],
            "(%s::uuid, %s, %s::smallint, %s::bigint, %s::float8, %s::float8)",
        )


_KEEP: Final = """
    INSERT INTO eta_answers (track_id, phase, band, seq, metres, seconds)
    SELECT v.* FROM (VALUES %s) v (track_id, phase, band, seq, metres, seconds)
    JOIN tracks t ON t.id = v.track_id AND t.status = 'active'
    ON CONFLICT DO NOTHING
"""
