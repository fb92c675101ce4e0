"""tracking.store.shares on a real PostGIS."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from tests.running import Trip
from tests.test_store_ingest import accepted, delivered
from tracking.domain.events import BookingEvent
from tracking.domain.shares import Share, ShareTerms
from tracking.errors import InvalidRequest
from tracking.store import shares
from tracking.store.ingest.batch import store_batch
from tracking.store.ingest.bookings import ensure_bookings
from tracking.store.statements import transaction

HOUR = ShareTerms(3600, "for Grandma", False, 600)
PICKUP = ShareTerms(3600, None, True, 600)


def booking(engine: sa.Engine) -> UUID:
    booking_id = uuid4()
    ensure_bookings(engine, {booking_id})
    return booking_id


def link(
    engine: sa.Engine, booking_id: UUID, terms: ShareTerms = HOUR, token: str | None = None
) -> Share:
    return shares.create_share(engine, booking_id, token or uuid4().hex, uuid4(), terms)


def shift(engine: sa.Engine, share: Share, column: str, seconds: float) -> None:
    """Time passes for one column."""
    with transaction(engine) as cursor:
        cursor.execute(
            f"UPDATE share_links SET {column} = now() + %s * interval '1 second' WHERE id = %s",
            (seconds, share.id),
        )


def statuses(engine: sa.Engine, booking_id: UUID) -> list[str]:
    return [share.status for share in shares.list_shares(engine, booking_id)]


def test_a_token_opens_its_booking_until_it_expires(engine: sa.Engine) -> None:
    booking_id, token = booking(engine), uuid4().hex
    made = link(engine, booking_id, token=token)
    found = shares.find_share(engine, token)
    assert found is not None
    assert (found.id, found.booking_id, found.expires_at) == (made.id, booking_id, made.expires_at)
    assert shares.find_share(engine, token[:-1]) is None
    shift(engine, made, "expires_at", 0)
    assert shares.find_share(engine, token) is None
    assert statuses(engine, booking_id) == ["expired"]


def test_only_the_hash_of_a_token_is_kept(engine: sa.Engine) -> None:
    token = uuid4().hex
    link(engine, booking(engine), token=token)
    with transaction(engine) as cursor:
        cursor.execute("SELECT count(*) FROM share_links s WHERE s::text LIKE %s", (f"%{token}%",))
        assert cursor.fetchone() == (0,)


def test_a_list_has_the_newest_first_and_only_those_of_the_booking(engine: sa.Engine) -> None:
    booking_id = booking(engine)
    first, second = link(engine, booking_id), link(engine, booking_id, PICKUP)
    link(engine, booking(engine))
    assert shares.list_shares(engine, booking_id) == [second, first]
    assert (first.label, first.from_pickup, first.after_end_s) == ("for Grandma", False, 600)
    assert (second.label, second.from_pickup) == (None, True)
    assert (first.opens, first.last_opened_at) == (0, None)


def test_revoking_is_for_good_and_may_be_repeated(engine: sa.Engine) -> None:
    booking_id, token = booking(engine), uuid4().hex
    made, other = link(engine, booking_id, token=token), link(engine, booking_id)
    assert not shares.revoke_share(engine, booking(engine), made.id)
    assert shares.find_share(engine, token) is not None
    assert shares.revoke_share(engine, booking_id, made.id)
    assert shares.revoke_share(engine, booking_id, made.id)
    assert shares.find_share(engine, token) is None
    assert statuses(engine, booking_id) == ["active", "revoked"]
    assert set(shares.still_open(engine, [made.id, other.id, uuid4()])) == {other.id}
    with pytest.raises(InvalidRequest, match="revoked"):
        shares.change_share(engine, booking_id, made.id, {"expires_in_s": 60})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, {}), ({"label": None}, {"label": None}), ({"after_end_s": 5}, {"after_end_s": 5})],
)
def test_a_change_touches_what_it_names(
    engine: sa.Engine, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    booking_id = booking(engine)
    made = link(engine, booking_id)
    changed = shares.change_share(engine, booking_id, made.id, changes)
    assert changed is not None
    for name in Share.__struct_fields__:
        assert getattr(changed, name) == expected.get(name, getattr(made, name))


def test_extending_counts_from_now_and_opens_an_expired_link_again(engine: sa.Engine) -> None:
    booking_id, token = booking(engine), uuid4().hex
    made = link(engine, booking_id, token=token)
    shift(engine, made, "expires_at", -60)
    changed = shares.change_share(engine, booking_id, made.id, {"expires_in_s": 7200})
    assert changed is not None
    left = (changed.expires_at - datetime.now(UTC)).total_seconds()
    assert 7100 < left <= 7200
    assert shares.find_share(engine, token) is not None
    assert shares.change_share(engine, booking(engine), made.id, {"label": "theirs"}) is None


def picked_up(trip: Trip, second: float) -> BookingEvent:
    return BookingEvent(trip.booking_id, "picked_up", trip.at(second), trip.runner_id)


def test_a_link_from_the_pickup_waits_for_it(engine: sa.Engine) -> None:
    trip, token = Trip(), uuid4().hex
    ensure_bookings(engine, {trip.booking_id})
    link(engine, trip.booking_id, PICKUP, token)
    assert statuses(engine, trip.booking_id) == ["waiting"]
    store_batch(engine, [accepted(trip)])
    assert statuses(engine, trip.booking_id) == ["waiting"]
    assert shares.find_share(engine, token) is not None
    store_batch(engine, [picked_up(trip, 10)])
    assert statuses(engine, trip.booking_id) == ["active"]


def test_a_link_is_over_when_its_trip_has_been_for_so_long(engine: sa.Engine) -> None:
    trip, token = Trip(), uuid4().hex
    store_batch(engine, [accepted(trip)])
    made = link(engine, trip.booking_id, token=token)
    store_batch(engine, [delivered(trip, 60)])  # most of an hour ago: the link is younger
    assert statuses(engine, trip.booking_id) == ["active"]
    shift(engine, made, "created_at", -599)
    assert statuses(engine, trip.booking_id) == ["active"]
    shift(engine, made, "created_at", -601)
    assert statuses(engine, trip.booking_id) == ["ended"]
    assert shares.find_share(engine, token) is None
    assert shares.still_open(engine, [made.id]) == {}
    shares.change_share(engine, trip.booking_id, made.id, {"after_end_s": 3600})
    assert shares.find_share(engine, token) is not None


def test_openings_are_counted(engine: sa.Engine) -> None:
    booking_id = booking(engine)
    made = link(engine, booking_id)
    for _ in range(2):
        shares.count_opening(engine, made.id)
    (counted,) = shares.list_shares(engine, booking_id)
    assert counted.opens == 2
    assert counted.last_opened_at is not None
    assert datetime.now(UTC) - counted.last_opened_at < timedelta(minutes=1)


def test_a_booking_has_only_so_many_open_links(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "MOST_OPEN", 2)
    booking_id = booking(engine)
    first, _ = link(engine, booking_id), link(engine, booking_id)
    with pytest.raises(InvalidRequest, match="2 open share links"):
        link(engine, booking_id)
    shares.revoke_share(engine, booking_id, first.id)
    link(engine, booking_id)


def test_links_that_are_over_are_listed_for_a_week(engine: sa.Engine) -> None:
    booking_id, day = booking(engine), 24 * 3600
    for column in ("expires_at", "revoked_at"):
        for days in (-6, -8):
            shift(engine, link(engine, booking_id), column, days * day)
    kept = link(engine, booking_id)
    shares.delete_closed(engine)
    listed = shares.list_shares(engine, booking_id)
    assert [share.status for share in listed] == ["active", "revoked", "expired"]
    assert listed[0] == kept
