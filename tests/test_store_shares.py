"""tracking.store.shares on a real PostGIS."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa

from tracking.store import shares
from tracking.store.ingest.bookings import ensure_bookings
from tracking.store.statements import transaction


def link(engine: sa.Engine, token: str, lifetime: timedelta) -> tuple[UUID, datetime]:
    booking_id, expires_at = uuid4(), datetime.now(UTC) + lifetime
    ensure_bookings(engine, {booking_id})
    shares.create_share(engine, booking_id, token, uuid4(), expires_at)
    return booking_id, expires_at


def test_a_token_opens_its_booking_until_it_expires(engine: sa.Engine) -> None:
    token, old = uuid4().hex, uuid4().hex
    made = link(engine, token, timedelta(hours=1))
    link(engine, old, timedelta(seconds=-1))
    assert shares.find_share(engine, token) == made
    assert shares.find_share(engine, old) is None
    assert shares.find_share(engine, token[:-1]) is None


def test_only_the_hash_of_a_token_is_kept(engine: sa.Engine) -> None:
    token = uuid4().hex
    link(engine, token, timedelta(hours=1))
    with transaction(engine) as cursor:
        cursor.execute("SELECT count(*) FROM share_links s WHERE s::text LIKE %s", (f"%{token}%",))
        assert cursor.fetchone() == (0,)


def test_expired_links_are_deleted_and_no_others(engine: sa.Engine) -> None:
    token = uuid4().hex
    booking_id, _ = link(engine, token, timedelta(hours=1))
    gone, _ = link(engine, uuid4().hex, timedelta(seconds=-1))
    shares.delete_expired(engine)
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT booking_id FROM share_links WHERE booking_id = ANY(%s::uuid[])",
            ([str(booking_id), str(gone)],),
        )
        assert [str(row[0]) for row in cursor] == [str(booking_id)]
