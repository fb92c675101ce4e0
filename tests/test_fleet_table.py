"""tracking.live.fleet_table: what has changed since a version, and when that is not known."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from tests.viewing import parse
from tracking.domain.changes import BookingChanges, Heard, TrackMove
from tracking.domain.legs import Leg
from tracking.domain.tracks import ActiveTrip, TrackChange
from tracking.domain.waypoints import StoredWaypoint
from tracking.live import fleet_table
from tracking.live.fleet_table import FleetTable
from tracking.wire.fleet_protocol import COLUMNS, milliseconds

NOW = datetime.now(UTC)


def payload(frame: bytes | None) -> dict[str, Any]:
    assert frame is not None
    (text,) = parse(bytearray(frame))
    message: dict[str, Any] = json.loads(text)
    message["rows"] = [dict(zip(COLUMNS, row, strict=True)) for row in message["rows"]]
    return message


def told(table: FleetTable, since: int) -> dict[str, Any]:
    table.settle()
    return payload(table.changes(since))


def pages(table: FleetTable) -> Iterator[dict[str, Any]]:
    table.settle()
    return map(payload, table.snapshot())


def waypoint(
    booking_id: UUID, seq: int, *, late: bool = False, at: datetime = NOW
) -> StoredWaypoint:
    return StoredWaypoint(
        booking_id, uuid4(), seq, uuid4(), 106.8 + seq / 1e4, -6.2, None, 90.0, at, at, late
    )


def move(distance_mm: int) -> TrackMove:
    """Of a track whose versions nobody counts."""
    return TrackMove("epoch", 0, 0, distance_mm)


def moved(booking_id: UUID, seq: int, **more: Any) -> BookingChanges:
    return BookingChanges(booking_id, [waypoint(booking_id, seq, **more)], move(seq * 1500))


def change(booking_id: UUID, status: str = "active", old: str | None = None) -> BookingChanges:
    entry = TrackChange(
        booking_id, uuid4(), old, None, None, status, "done" if status != "active" else "to_pickup",
        uuid4(), None, "epoch", NOW, None, booking_number="BK-7",
    )  # fmt: skip
    return BookingChanges(booking_id, [entry], move(0))


async def table_of(count: int) -> tuple[FleetTable, list[UUID]]:
    """Active trips that have no position yet."""
    table, ids = FleetTable(), [uuid4() for _ in range(count)]
    await table.begin(ActiveTrip(each, "BK-1", "to_pickup", NOW, 0, 0, None) for each in ids)
    await table.look(NOW, 0.0)
    return table, ids


@pytest.mark.gen_test
async def test_a_trip_that_was_taken_up_again_unheard_is_back() -> None:
    """Its change was lost: the table knows more."""
    table, (one,) = await table_of(1)
    table.apply(change(one, "completed", "active"))
    trip = table._trips[one.int]
    assert trip.ended_at is not None
    again = ActiveTrip(one, "BK-1", "to_pickup", NOW, 5, 0, None)
    table.read_again([again])
    assert trip.ended_at is not None  # what was read may be older than the end
    table.read_again([replace(again, version=9)])
    assert trip.ended_at is None


@pytest.mark.gen_test
async def test_a_snapshot_has_every_active_trip_in_pages() -> None:
    table, ids = await table_of(1001)
    table.apply(change(ids[0], "cancelled", "active"))
    found = list(pages(table))
    assert [(len(page["rows"]), page["more"]) for page in found] == [(500, True), (500, False)]
    assert {row["booking_id"] for page in found for row in page["rows"]} == set(map(str, ids[1:]))


@pytest.mark.gen_test
async def test_an_empty_snapshot_is_one_page() -> None:
    assert list(pages(FleetTable())) == [{"type": "snapshot", "rows": [], "more": False}]


@pytest.mark.gen_test
async def test_what_changes_before_its_page_comes_once_with_the_changes() -> None:
    table, ids = await table_of(501)
    found = pages(table)
    first, version = next(found), table.told
    table.apply(moved(ids[0], 1))  # was sent
    table.apply(moved(ids[500], 1))  # was not
    assert next(found) == {"type": "snapshot", "rows": [], "more": False}
    assert str(ids[500]) not in {row["booking_id"] for row in first["rows"]}
    after = told(table, version)["rows"]
    assert [(row["booking_id"], row["seq"]) for row in after] == [
        (str(ids[0]), 1), (str(ids[500]), 1)
    ]  # fmt: skip


@pytest.mark.gen_test
async def test_an_old_version_gets_the_newest_state_of_each_row_once() -> None:
    table, (one, two, _) = await table_of(3)
    table.settle()
    before = table.told
    for seq in (1, 2, 3):
        table.apply(moved(one, seq))
        table.settle()
    between = table.told
    table.apply(moved(two, 1))
    assert len(payload(table.changes(before))["rows"]) == 1  # the other waits for the next tick
    rows = told(table, before)["rows"]
    assert [(row["booking_id"], row["seq"], row["distance_m"]) for row in rows] == [
        (str(one), 3, 4.5), (str(two), 1, 1.5)
    ]  # fmt: skip
    assert (rows[0]["longitude"], rows[0]["speed_kmh"]) == (106.8003, None)
    assert [row["booking_id"] for row in told(table, between)["rows"]] == [str(two)]
    assert table.changes(table.told) is None


@pytest.mark.gen_test
async def test_all_at_one_version_get_the_very_same_frame() -> None:
    table, (one, _) = await table_of(2)
    table.settle()
    since = table.told
    table.apply(moved(one, 1))
    table.settle()
    frame = table.changes(since)
    table.apply(moved(one, 2))
    assert table.changes(since) is frame
    assert told(table, since)["rows"][0]["seq"] == 2


@pytest.mark.gen_test
async def test_what_is_known_already_changes_nothing() -> None:
    table, (one,) = await table_of(1)
    table.apply(moved(one, 2))
    version = table.version
    table.apply(moved(one, 2))
    table.apply(moved(one, 1))
    table.apply(BookingChanges(one, [Heard(one, NOW, "duplicate")], move(9)))
    assert table.version == version


@pytest.mark.gen_test
async def test_a_late_waypoint_counts_and_moves_no_marker() -> None:
    table, (one,) = await table_of(1)
    table.apply(moved(one, 1))
    table.apply(moved(one, 2, late=True))
    (row,) = told(table, 0)["rows"]
    assert (row["seq"], row["longitude"], row["distance_m"]) == (2, 106.8001, 3.0)


@pytest.mark.gen_test
async def test_a_trip_begins_and_ends_once_and_may_be_taken_up_again() -> None:
    table, _ = await table_of(0)
    one = uuid4()
    table.apply(change(one, "completed", "active"))
    assert table.version == 0
    table.apply(change(one))
    (row,) = told(table, 0)["rows"]
    assert (row["booking_number"], row["status"], row["latitude"]) == ("BK-7", "active", None)
    since = table.told
    table.apply(change(one, "cancelled", "active"))
    end = told(table, since)
    assert [(row["status"], row["freshness_state"]) for row in end["rows"]] == [("cancelled", None)]
    assert end["removed"] == [str(one)]
    table.apply(moved(one, 1))
    assert table.version == table.told  # nobody watches a runner after the end
    assert not table.outdated
    table.apply(change(one, "active", "cancelled"))
    again = told(table, end["version"])
    assert (again["rows"][0]["status"], again["removed"]) == ("active", [])
    assert table.outdated == {one}  # where its marker stands, only the database knows


@pytest.mark.gen_test
async def test_what_was_read_again_is_shown_unless_newer_has_come() -> None:
    table, (one,) = await table_of(1)
    table.apply(moved(one, 5))
    read = ActiveTrip(one, "BK-1", "to_pickup", NOW, 5, 300, waypoint(one, 3))
    table.read_again([read])
    (row,) = told(table, 0)["rows"]
    assert (row["seq"], row["longitude"], row["distance_m"]) == (5, 106.8003, 0.3)
    table.apply(moved(one, 6))
    table.read_again([read])
    assert told(table, 0)["rows"][0]["longitude"] == 106.8006


def said(booking_id: UUID, before: int, *legs: Leg) -> BookingChanges:
    """Maintenance tells of an arrival, with a version of the track's own."""
    return BookingChanges(booking_id, [], TrackMove("epoch", before, before + 1, 0), legs)


@pytest.mark.gen_test
async def test_an_arrival_is_a_change_of_the_row_and_so_is_its_withdrawal() -> None:
    table, (one,) = await table_of(1)
    near, there = NOW - timedelta(seconds=90), NOW - timedelta(seconds=60)
    approaching = Leg("pickup", "approaching", near)
    arrived = replace(approaching, state="arrived", arrived_at=there)
    steps = [
        ((approaching,), "approaching", near),
        ((arrived,), "arrived", there),
        ((replace(approaching, left_at=NOW),), "left", NOW),
        ((approaching,), "approaching", near),  # it was none
        ((), None, None),
        ((arrived,), "arrived", there),
    ]
    for version, (legs, word, at) in enumerate(steps, 1):
        since = table.told
        table.apply(said(one, version, *legs))
        (row,) = told(table, since)["rows"]
        assert (row["arrival"], row["arrival_at"]) == (word, at and milliseconds(at))
    since = table.told
    table.apply(said(one, 7, arrived))  # of the other way, perhaps
    assert table.version == since
    change_of_phase = change(one, "active", "active")
    (entry,) = change_of_phase.entries
    dropoff = BookingChanges(one, [replace(entry, phase="to_dropoff")], move(0))
    table.apply(dropoff)
    assert told(table, since)["rows"][0]["arrival"] is None
    table.apply(said(one, 8, arrived, replace(approaching, end="dropoff")))
    assert told(table, since)["rows"][0]["arrival"] == "approaching"
    table.apply(change(one, "completed", "active"))
    assert told(table, since)["rows"][0]["arrival"] is None


@pytest.mark.gen_test
async def test_an_arrival_whose_change_was_lost_is_read_again() -> None:
    table, (one,) = await table_of(1)
    leg = Leg("pickup", "approaching", NOW)
    table.reconcile({one: 4}, table.version)
    assert table.outdated == {one}
    read = ActiveTrip(one, "BK-1", "to_pickup", NOW, 0, 0, None, 4, (leg,))
    table.read_again([read])
    assert told(table, 0)["rows"][0]["arrival"] == "approaching"
    table.apply(said(one, 4, replace(leg, arrived_at=NOW)))
    table.read_again([read])  # what came meanwhile is newer
    assert told(table, 0)["rows"][0]["arrival"] == "arrived"


@pytest.mark.gen_test
async def test_a_trip_that_nobody_told_of_is_read() -> None:
    """Another process may have accepted it; one that is over is not found."""
    table, _ = await table_of(0)
    one, over = uuid4(), uuid4()
    table.apply(moved(over, 7, late=True))
    assert not table.outdated
    for booking_id in (one, over):
        table.apply(moved(booking_id, 1))
    assert (table.outdated, table.version) == ({one, over}, 0)
    table.read_again([ActiveTrip(one, "BK-1", "to_pickup", NOW, 1, 0, waypoint(one, 1))])
    assert [row["booking_id"] for row in told(table, 0)["rows"]] == [str(one)]


@pytest.mark.gen_test
async def test_time_changes_rows_and_a_report_makes_them_live_again() -> None:
    table, (one, two) = await table_of(2)
    table.apply(moved(one, 1))
    table.apply(moved(two, 1, at=NOW + timedelta(minutes=3)))
    table.settle()

    async def freshness_at(seconds: int, delay_s: float = 0.0) -> tuple[str, str | None] | None:
        since = table.told
        await table.look(NOW + timedelta(seconds=seconds), delay_s)
        table.settle()
        if table.changes(since) is None:
            return None
        (row,) = told(table, since)["rows"]
        assert row["booking_id"] == str(one)
        return row["freshness_state"], row["freshness_reason"]

    assert await freshness_at(29) is None
    assert await freshness_at(31) == ("stale", "no_points")
    assert await freshness_at(32, 11.0) == ("stale", "pipeline_delayed")
    table.apply(BookingChanges(one, [Heard(one, NOW + timedelta(seconds=100), "late")], None))
    assert await freshness_at(121) == ("lost", "no_usable_points")
    table.apply(moved(one, 2, at=NOW + timedelta(seconds=125)))
    assert await freshness_at(126) == ("live", None)


@pytest.mark.gen_test
async def test_trips_that_ended_are_forgotten_and_who_is_older_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, (one, two, three) = await table_of(3)
    table.settle()
    start = table.told
    table.apply(change(one, "completed", "active"))
    table.settle()
    middle = table.told
    await table.look(datetime.now(UTC), 0.0)
    assert (len(table), table.reaches(table.epoch, start)) == (3, True)
    assert not table.reaches("another", start)
    assert not table.reaches(None, start)
    assert not table.reaches(table.epoch, table.told + 1)
    await table.look(datetime.now(UTC) + fleet_table.ENDED_KEPT, 0.0)
    assert (len(table), table.reaches(table.epoch, start)) == (2, False)
    assert table.reaches(table.epoch, middle)
    monkeypatch.setattr(fleet_table, "MOST_ENDED", 1)
    table.apply(change(two, "completed", "active"))
    table.apply(change(three, "completed", "active"))
    await table.look(datetime.now(UTC), 0.0)
    table.settle()
    assert len(table) == 1
    assert not table.reaches(table.epoch, middle)
    assert told(table, table.floor)["removed"] == [str(three)]
