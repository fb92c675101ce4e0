"""What a database that was restored from a backup needs before the events are replayed."""

import sqlalchemy as sa

from tracking.store.statements import transaction


def prepare_replay(engine: sa.Engine) -> int:
    """Give every track a new epoch; how many there are.

    Numbers may be given again, to other waypoints: the epoch tells it to who has seen the old ones.
    Trips and parked updates count as new, so that none expires before its events come again.
    """
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE tracks SET epoch = left(md5(gen_random_uuid()::text), 16),"
            " version = version + 1, updated_at = now()"
        )
        tracks: int = cursor.rowcount
        cursor.execute("UPDATE parked_updates SET parked_at = now()")
    return tracks
