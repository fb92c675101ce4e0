"""handlers.api.ops: an operator finds a trip and sees how it went."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.running import Platform, Server, Trip, stamp, wait_until
from tests.served import track, wait_seq
from tracking.store.read.trip_records import LateSeqs
from tracking.wire.fleet_protocol import milliseconds

OPS = "/api/v1/ops/trips"


def admin(server: Server) -> str:
    return server.token(uuid4(), "admin")


def accept(server: Server, platform: Platform, number: str, start: datetime) -> Trip:
    trip = Trip(start)
    platform.accept(trip, booking_number=number)
    wait_until(lambda: track(server, trip), "accepted")
    return trip


def test_a_trip_is_shown_with_its_events_and_points(server: Server, platform: Platform) -> None:
    start = datetime.now(UTC).replace(microsecond=123_000) - timedelta(hours=2)
    trip = Trip(start)
    platform.send(
        "booking.requested", booking_id=str(trip.booking_id), booking_number="OP-1",
        owner_id=str(trip.owner_id), pickup_lat=-6.2, pickup_lng=106.8, dropoff_lat=-6.3,
        dropoff_lng=106.9, occurred_at=stamp(trip.at(-60)),
    )  # fmt: skip
    platform.accept(trip, booking_number="OP-1")
    platform.update(trip, 0)
    wait_seq(server, trip, 1)
    # 20 is known before 10 and 15 come: those are late; 30 is not.
    for seq, second in enumerate((20, 10, 15, 30), 2):
        platform.update(trip, second, speed_kmh=-1 if second == 30 else 36.5)
        wait_seq(server, trip, seq)
    platform.deliver(trip, trip.at(60))
    wait_until(lambda: track(server, trip)["status"] == "completed", "completed")
    summary = f"/api/v1/tracking/{trip.booking_id}/summary"
    # What is said of its arrivals is another version; the last word is said before this.
    wait_until(lambda: server.get(summary, admin(server))[1]["data"]["final"], "settled")
    status, body, headers = server.get(f"{OPS}/{trip.booking_id}", admin(server))
    assert (status, body["success"]) == (200, True)
    data = body["data"]
    assert data["columns"] == [
        "seq", "recorded_at", "received_at", "longitude", "latitude", "speed_kmh", "late",
        "verdict",
    ]  # fmt: skip
    points = [dict(zip(data["columns"], point, strict=True)) for point in data["points"]]
    assert [(p["seq"], p["late"]) for p in points] == [(1, 0), (3, 1), (4, 1), (2, 0), (5, 0)]
    assert [p["recorded_at"] for p in points] == [
        milliseconds(trip.at(second)) for second in (0, 10, 15, 20, 30)
    ]
    assert (points[0]["longitude"], points[0]["latitude"], points[0]["speed_kmh"]) == (
        106.8, -6.2, 36.5
    )  # fmt: skip
    assert points[-1]["speed_kmh"] is None
    assert points[-1]["received_at"] > points[-1]["recorded_at"]
    assert [event["kind"] for event in data["events"]] == ["requested", "accepted", "delivered"]
    assert data["events"][1]["occurred_at"] == data["started_at"] == milliseconds(trip.start)
    assert data["events"][1]["runner_id"] == data["runner_id"] == str(trip.runner_id)
    assert data["events"][1]["heard_at"] > data["started_at"]
    assert (data["pickup"], data["dropoff"]) == ([106.8, -6.2], [106.9, -6.3])
    assert data["arrivals"]["dropoff"]["state"] == "en_route"
    shown = ("booking_number", "status", "phase", "end_reason", "seq", "owner_id", "picked_up_at")
    assert [data[name] for name in shown] == [
        "OP-1", "completed", "done", "delivered", 5, str(trip.owner_id), None
    ]  # fmt: skip
    assert data["completed_at"] == milliseconds(trip.at(60))
    assert data["distance_m"] == pytest.approx(333, rel=0.01)
    again = {"If-None-Match": headers["ETag"]}
    assert server.get(f"{OPS}/{trip.booking_id}", admin(server), **again)[:2] == (304, b"")


def test_a_trip_of_several_pages_is_whole(server: Server, platform: Platform) -> None:
    trip = Trip()
    platform.accept(trip)
    for second in range(1_203):
        platform._producer.send(
            f"{platform.prefix}.runner.location_update", value=encoded(trip, second)
        )
    wait_seq(server, trip, 1_203)
    data = server.get(f"{OPS}/{trip.booking_id}", admin(server))[1]["data"]
    times = [point[1] for point in data["points"]]
    assert times == [milliseconds(trip.at(second)) for second in range(1_203)]
    assert len({point[0] for point in data["points"]}) == 1_203


def encoded(trip: Trip, second: int) -> bytes:
    return json.dumps(trip.update(second)).encode()


def test_late_seqs_are_found_in_their_ranges() -> None:
    late = LateSeqs([(3, 5), (9, 10)])
    assert [seq for seq in range(12) if seq in late] == [3, 4, 9]
    assert 1 not in LateSeqs([])


def test_trips_are_found_by_a_part_of_their_number(server: Server, platform: Platform) -> None:
    mark, start = uuid4().hex[:8].upper(), datetime.now(UTC) - timedelta(hours=3)
    numbers = (f"{mark}-1", f"X{mark}-2", f"{mark}%3", f"{mark}_4", f"{mark}\\5")
    trips = [
        accept(server, platform, number, start + timedelta(seconds=second))
        for second, number in enumerate(numbers)
    ]
    platform.deliver(trips[1], start + timedelta(minutes=5))
    wait_until(lambda: track(server, trips[1])["status"] == "completed", "completed")

    def found(search: str, **more: object) -> list[str]:
        query = "".join(f"&{name}={value}" for name, value in more.items())
        status, body, headers = server.get(f"{OPS}?search={search}{query}", admin(server))
        assert (status, headers["Cache-Control"]) == (200, "no-store")
        return [trip["booking_number"] for trip in body["data"]["trips"]]

    assert found(mark) == [*reversed(numbers)]
    assert found(mark.lower(), limit=2) == [*reversed(numbers)][:2]
    assert found(f"{mark}-") == [numbers[1], numbers[0]]
    assert found(f"{mark}%25") == [numbers[2]]
    assert found(f"{mark}_") == [numbers[3]]
    assert found(f"{mark}%5C") == [numbers[4]]
    assert found(mark, status="completed") == [numbers[1]]
    assert found(mark, status="cancelled") == []
    assert len(found("", limit=3)) == 3


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "status=requested", f"search={'x' * 101}"]
)
def test_a_bad_query_is_rejected(server: Server, query: str) -> None:
    assert server.get(f"{OPS}?{query}", admin(server))[0] == 400


def test_what_is_not_there_is_not_found(server: Server) -> None:
    assert server.get(f"{OPS}/{uuid4()}", admin(server))[0] == 404
    assert server.get(f"{OPS}/nonsense", admin(server))[0] == 400
