"""What was erased lately."""

from uuid import UUID

import sqlalchemy as sa

from tracking.store.engine import translated
from tracking.store.statements import transaction


@translated
def erased_within(engine: sa.Engine, seconds: float) -> list[UUID]:
    """Bookings that were erased in the last so many seconds. By an index of erased ones only."""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id FROM bookings WHERE erased_at > now() - make_interval(secs => %s)",
            (seconds,),
        )
        return [booking_id for (booking_id,) in cursor]
