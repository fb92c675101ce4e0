"""tracking.wire.relay: what is written is read; what is none of ours is said to be so."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.changes import BookingChanges, Entry, Heard, TrackMove
from tracking.domain.tracks import TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.wire.relay import (
    MOST_BYTES,
    SHARDS,
    SignOfLife,
    Unreadable,
    bundles,
    by_partition,
    changes_in,
    shard_of,
    sign_of,
    sign_of_life,
)

NOW = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


def waypoint(booking_id: UUID, seq: int, **more: Any) -> StoredWaypoint:
    at = NOW + timedelta(seconds=seq)
    speed, heading = more.get("speed", 36.5), more.get("heading")
    return StoredWaypoint(
        booking_id, uuid4(), seq, uuid4(), 106.8, -6.2, speed, heading, at, at, seq % 2 == 0
    )


def changed(booking_id: UUID) -> TrackChange:
    return TrackChange(
        booking_id, uuid4(), None, None, None, "active", "to_pickup", uuid4(), None, "epoch", NOW,
        None, booking_number="BK-7",
    )  # fmt: skip


def everything(count: int = 3) -> list[BookingChanges]:
    found = []
    for number in range(count):
        one = uuid4()
        entries: list[Entry] = [changed(one), waypoint(one, 1), Heard(one, NOW, "duplicate")]
        entries.insert(2, waypoint(one, 2, speed=None, heading=0.0))
        found.append(BookingChanges(one, entries, TrackMove("epoch", number, number + 2, 1234)))
    return [
        *found,
        BookingChanges(uuid4(), []),
        BookingChanges(uuid4(), [], TrackMove("e", 1, 1, 0)),
    ]


def test_a_bundle_brings_everything_in_order() -> None:
    bookings = everything()
    ((count, bundle),) = bundles(bookings)
    assert count == len(bookings)
    assert list(changes_in(bundle, None)) == bookings


def test_only_what_is_watched_is_decoded() -> None:
    bookings = everything()
    ((_, bundle),) = bundles(bookings)
    watched = {bookings[1].booking_id.bytes, uuid4().bytes}
    assert list(changes_in(bundle, watched)) == [bookings[1]]
    assert list(changes_in(bundle, set())) == []


def test_too_much_for_one_record_becomes_several() -> None:
    one = uuid4()
    large = BookingChanges(
        one, [waypoint(one, seq) for seq in range(3_000)], TrackMove("e", 1, 2, 3)
    )
    found = list(bundles([large] * 4 + everything()))
    assert len(found) > 1
    assert all(len(bundle) < 2 * MOST_BYTES for _, bundle in found)
    assert sum(count for count, _ in found) == 4 + len(everything())
    read = [each for _, bundle in found for each in changes_in(bundle, None)]
    assert read[:4] == [large] * 4


def test_nothing_makes_no_bundle() -> None:
    assert list(bundles([])) == []


def test_a_booking_has_one_partition() -> None:
    bookings = [BookingChanges(uuid4(), []) for _ in range(2_000)]
    parts = by_partition(bookings, 16)
    assert sorted(parts) == list(range(16))
    assert sum(map(len, parts.values())) == 2_000
    for partition, part in parts.items():
        assert {shard_of(each.booking_id) % 16 for each in part} == {partition}
    assert {shard_of(each.booking_id) for each in bookings} <= set(range(SHARDS))
    assert shard_of(UUID("5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10")) == 0x10


def test_a_sign_of_life_comes_as_it_was_sent() -> None:
    for sign in (SignOfLife("host:7", 1.5), SignOfLife("host:7", float("inf"), leaves=True)):
        assert sign_of(sign_of_life(sign)) == sign


@given(st.binary(max_size=200))
def test_bytes_of_others_are_unreadable_and_never_an_error_of_ours(value: bytes) -> None:
    for read in (lambda: list(changes_in(b"T1" + value, None)), lambda: sign_of(value)):
        with suppress(Unreadable):
            read()
    with pytest.raises(Unreadable):
        list(changes_in(b"XX" + value, None))


@given(st.data())
def test_a_damaged_bundle_is_unreadable_or_decodes(data: st.DataObject) -> None:
    ((_, bundle),) = bundles(everything(2))
    at = data.draw(st.integers(0, len(bundle) - 1))
    damaged = bundle[:at] + bytes([data.draw(st.integers(0, 255))]) + bundle[at + 1 :]
    cut = data.draw(st.integers(0, len(bundle)))
    for value in (damaged, bundle[:cut]):
        with suppress(Unreadable):
            list(changes_in(value, None))
