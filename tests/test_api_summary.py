"""handlers.api.summary: what a trip adds up to, from a real server."""

from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from tests.running import Server, Trip, wait_until
from tests.served import API, owner
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.store.ingest.batch import store_batch

STOOD_S = 180


def under_way(engine: sa.Engine) -> Trip:
    """It drives 100 s, stands for three minutes, is silent while it drives 2 km, and goes on."""
    trip = Trip()
    seconds = [*range(0, 105, 5), *range(105, 100 + STOOD_S, 5), *range(400, 455, 5)]
    updates = [update(trip, s, longitude=_longitude(s), latitude=-6.2) for s in seconds]
    store_batch(engine, [accepted(trip), *updates])
    return trip


def _longitude(second: int) -> float:
    if second <= 100:
        return 106.8 + second * 1e-4
    return 106.81 if second < 300 else 106.83 + (second - 400) * 1e-4


def summary(server: Server, trip: Trip) -> dict[str, Any]:
    status, body, _ = server.get(f"{API}/{trip.booking_id}/summary", owner(server, trip))
    assert (status, body["success"]) == (200, True)
    return dict(body["data"])


def settled(server: Server, trip: Trip) -> dict[str, Any]:
    def final() -> dict[str, Any]:
        found = summary(server, trip)
        return found if found["final"] else {}

    found: dict[str, Any] = wait_until(final, "settled")
    return found


def test_a_trip_under_way_and_when_it_has_ended(server: Server, engine: sa.Engine) -> None:
    trip = under_way(engine)
    found = summary(server, trip)
    assert (found["status"], found["final"], found["completed_at"]) == ("active", False, None)
    assert (found["duration_s"], found["recorded_s"]) == (450, 450)
    assert (found["standing_s"], found["unknown_s"]) == (175, 125)
    assert found["moving_s"] == 150
    (stop,) = found["stops"]
    assert (stop["longitude"], stop["latitude"], stop["at"]) == (106.81, -6.2, None)
    assert stop["from"] == trip.at(100).isoformat().replace("+00:00", "Z")
    (gap,) = found["gaps"]
    assert (gap["kind"], gap["seconds"], found["longest_gap_s"]) == ("moved", 125, 125)
    assert 2_200 < gap["metres"] < 2_220
    store_batch(engine, [delivered(trip, 460)])
    after = settled(server, trip)
    same = ("distance_m", "reported_distance_m", "recorded_s", "moving_s", "stops", "gaps")
    assert {name: after[name] for name in same} == {name: found[name] for name in same}
    assert (after["status"], after["duration_s"]) == ("completed", 460)


def test_there_is_one_duration_and_one_distance(server: Server, engine: sa.Engine) -> None:
    trip = under_way(engine)
    store_batch(engine, [update(trip, 460, longitude=107.5)])  # flagged, newest
    assert summary(server, trip)["counts"]["flagged"] == {"pending": 1}
    assert_agree(server, engine, trip, summary(server, trip))
    store_batch(engine, [delivered(trip, 470)])
    assert_agree(server, engine, trip, settled(server, trip))


def assert_agree(server: Server, engine: sa.Engine, trip: Trip, found: dict[str, Any]) -> None:
    token = owner(server, trip)
    _, track, _ = server.get(f"{API}/{trip.booking_id}", token)
    _, route, _ = server.get(f"{API}/{trip.booking_id}/route", token)
    _, export, _ = server.get(f"{API}/{trip.booking_id}/export.geojson", token)
    for properties in (route["properties"], export["trip"]):
        assert properties["duration_s"] == found["duration_s"]
        assert properties["distance_m"] == found["distance_m"]
        assert properties["reported_distance_m"] == found["reported_distance_m"]
    stored, data = track_of(engine, trip), track["data"]
    assert data["total_distance_km"] == stored.distance_mm / 1_000_000
    assert data["reported_distance_km"] == stored.reported_mm / 1_000_000
    assert (found["distance_m"], found["reported_distance_m"]) == (
        stored.distance_mm / 1000, stored.reported_mm / 1000
    )  # fmt: skip
    assert found["distance_m"] < found["reported_distance_m"]


def test_late_data_change_what_was_settled(server: Server, engine: sa.Engine) -> None:
    trip = under_way(engine)
    store_batch(engine, [delivered(trip, 460)])
    path, token = f"{API}/{trip.booking_id}/summary", owner(server, trip)
    settled(server, trip)
    _, before, headers = server.get(path, token)
    assert before["data"]["unknown_s"] == 125
    known = {"If-None-Match": headers["ETag"]}
    assert server.get(path, token, **known)[:2] == (304, b"")
    store_batch(engine, [update(trip, 350, longitude=106.82, latitude=-6.2)])
    status, changed, _ = server.get(path, token, **known)
    assert (status, changed["data"]["unknown_s"]) == (200, 75)  # the rest is shorter than a gap
    after = settled(server, trip)
    assert (after["unknown_s"], after["seq"]) == (75, before["data"]["seq"] + 1)


def test_owner_runner_and_admin_may_see_it_and_nobody_else(
    server: Server, engine: sa.Engine
) -> None:
    trip = under_way(engine)
    path = f"{API}/{trip.booking_id}/summary"
    tokens = {
        server.token(trip.owner_id, "owner"): 200,
        server.token(trip.runner_id, "runner"): 200,
        server.token(uuid4(), "admin"): 200,
        server.token(uuid4(), "owner"): 404,
        server.token(uuid4(), "runner"): 404,
        server.token(trip.owner_id, "shop"): 404,
    }
    assert {token: server.get(path, token)[0] for token in tokens} == tokens
    assert server.get(path)[0] == 401
    assert server.get(f"{API}/nonsense/summary", owner(server, trip))[0] == 400
