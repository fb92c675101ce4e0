"""handlers.api.shared and handlers.link_handler: what is shown to whoever has the link."""

from datetime import UTC, datetime
from pathlib import Path

from tests.running import Platform, Server, running_server, wait_until
from tests.served import API, stored_trip, track, wait_seq
from tests.sharing import ask, share, shared, shares
from tests.test_websocket_shared import pick_up


def test_the_whole_answer_names_nobody(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 1)
    link = share(server, trip, expires_in_s=600)
    status, body = shared(server, link["share_token"])
    waypoint = {"id": "1", "latitude": -6.2, "longitude": 106.8, "speed_kmh": 36.5,
                "heading_degrees": 90.0, "recorded_at": trip.start.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "seq": 1}  # fmt: skip
    assert (status, body) == (200, {"success": True, "data": {
        "booking_id": str(trip.booking_id), "status": "active", "phase": "to_pickup",
        "expires_at": link["expires_at"], "waiting": False, "seq": 1,
        "epoch": track(server, trip)["epoch"], "flagged": [],
        "waypoints": [waypoint],
    }})  # fmt: skip


def test_from_the_pickup_on_it_shows_only_what_came_then(
    server: Server, platform: Platform
) -> None:
    trip = stored_trip(server, platform, 1)
    link = share(server, trip, **{"from": "pickup"})
    data = shared(server, link["share_token"])[1]["data"]
    assert (data["status"], data["waiting"], data["waypoints"]) == ("active", True, [])
    assert (data["epoch"], data["seq"]) == (None, 0)
    pick_up(platform, trip, 5)
    platform.update(trip, 10)
    wait_seq(server, trip, 2)
    wait_until(lambda: not shared(server, link["share_token"])[1]["data"]["waiting"], "picked up")
    data = shared(server, link["share_token"])[1]["data"]
    assert [each["seq"] for each in data["waypoints"]] == [2]


def test_unknown_expired_and_malformed_tokens_are_the_same(
    server: Server, platform: Platform
) -> None:
    trip = stored_trip(server, platform, 1)
    link = share(server, trip, expires_in_s=1)
    token = link["share_token"]
    wait_until(lambda: shared(server, token)[0] == 404, "expired")
    assert shares(server, trip)[0]["status"] == "expired"
    assert datetime.fromisoformat(link["expires_at"]) <= datetime.now(UTC)
    answers = [shared(server, each) for each in (token, token[:-1], "x", "x" * 10_000, "%00")]
    assert answers == [(404, {"success": False, "error": "unknown or expired share link"})] * 5
    assert ask(server, "POST", f"{API}/shared/{token}")[0] == 405


def test_guessing_is_limited_by_address(database: dict[str, str], tmp_path: Path) -> None:
    with running_server(database, tmp_path / "log", REQUESTS_PER_SECOND="1") as server:
        statuses = [shared(server, "x" * 43)[0] for _ in range(15)]
    assert statuses[0] == 404
    assert statuses[-1] == 429
