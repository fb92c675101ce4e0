"""handlers.api.shares: links that open one booking to the public."""

from tests.running import Platform, Server
from tests.served import API, owner, stored_trip


def test_a_share_link_opens_one_booking_to_the_public(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 2)
    path = f"{API}/{trip.booking_id}/share"
    assert server.get(path, server.token(trip.runner_id, "runner"), "POST")[0] == 404
    status, body, _ = server.get(path, owner(server, trip), "POST")
    assert status == 201
    shared = body["data"]
    assert shared["share_url"].endswith(shared["share_token"])
    public = server.get(f"{API}/shared/{shared['share_token']}")[1]["data"]
    assert (public["booking_id"], public["status"]) == (str(trip.booking_id), "active")
    assert sorted(w["id"] for w in public["waypoints"]) == ["1", "2"]
    for unknown in ("x", "x" * 10_000, shared["share_token"][:-1]):
        assert server.get(f"{API}/shared/{unknown}")[0] == 404
    assert shared["share_token"] not in server.log.read_text()
