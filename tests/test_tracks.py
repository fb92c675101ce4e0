"""handlers.api.tracks: a track and its route, as apps and maps read them."""

from datetime import datetime

import pytest

from tests.running import Platform, Server
from tests.served import API, owner, stored_trip, wait_seq


def test_the_apps_answer_is_as_they_decode_it(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 2)
    status, body, headers = server.get(f"{API}/{trip.booking_id}", owner(server, trip))
    assert status == 200
    assert body["success"] is True
    data = body["data"]
    assert data["total_distance_km"] == pytest.approx(0.011, abs=0.001)
    assert data["started_at"] == trip.start.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (data["status"], data["completed_at"]) == ("active", None)
    second = data["waypoints"][1]
    assert second["id"] == str(second["seq"])  # arrival, which Kafka's partitions do not order
    assert {name: value for name, value in second.items() if name not in ("id", "seq")} == {
        "latitude": -6.2,
        "longitude": 106.8001,
        "speed_kmh": 36.5,
        "heading_degrees": 90.0,
        "recorded_at": trip.at(1).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert headers["X-Track-Epoch"] == data["epoch"]


def test_a_route_is_geojson(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 3)
    path = f"{API}/{trip.booking_id}/route"
    status, route, headers = server.get(path, owner(server, trip))
    assert (status, headers["Content-Type"]) == (200, "application/geo+json")
    assert route["type"] == "Feature"
    assert route["bbox"] == [106.8, -6.2, 106.8002, -6.2]
    assert route["geometry"] == {
        "type": "LineString",
        "coordinates": [[106.8, -6.2], [106.8001, -6.2], [106.8002, -6.2]],
    }
    properties = route["properties"]
    assert properties["distance_m"] == pytest.approx(22.1, abs=0.2)
    assert len(properties["coordTimes"]) == 3
    assert datetime.fromisoformat(properties["coordTimes"][0]) == trip.start
    since = server.get(f"{path}?since_seq=2", owner(server, trip))[1]
    assert since["geometry"]["type"] == "Point"
    assert since["geometry"]["coordinates"] in route["geometry"]["coordinates"]
    nothing = server.get(f"{path}?since_seq=3", owner(server, trip))[1]
    assert nothing["geometry"] is None
    assert server.get(f"{path}?since_seq=4", owner(server, trip))[0] == 400
    assert server.get(f"{path}?since_seq=x", owner(server, trip))[0] == 400


def test_an_unchanged_track_is_not_sent_again(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    for path in (f"{API}/{trip.booking_id}", f"{API}/{trip.booking_id}/route"):
        etag = server.get(path, owner(server, trip))[2]["ETag"]
        assert server.get(path, owner(server, trip), **{"If-None-Match": etag})[0] == 304
    platform.update(trip, 9)
    wait_seq(server, trip, 2)
    assert server.get(path, owner(server, trip), **{"If-None-Match": etag})[0] == 200
