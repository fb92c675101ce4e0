"""handlers.api.shares: an owner makes, lists, changes and revokes links; nobody else does."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.running import Platform, Server, Trip
from tests.served import API, owner, stored_trip
from tests.sharing import ask, change, revoke, share, shared, shares

HOUR_S = 3600


@pytest.fixture(scope="module")
def trip(server: Server, platform: Platform) -> Trip:
    return stored_trip(server, platform, 2)


def seconds_left(link: dict[str, Any]) -> float:
    return (datetime.fromisoformat(link["expires_at"]) - datetime.now(UTC)).total_seconds()


def test_a_share_link_opens_one_booking_to_the_public(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform, 2)
    link = share(server, trip)
    assert link["share_url"] == f"http://localhost:8005/s/{link['share_token']}"
    public = shared(server, link["share_token"])[1]["data"]
    assert (public["booking_id"], public["status"]) == (str(trip.booking_id), "active")
    assert sorted(w["id"] for w in public["waypoints"]) == ["1", "2"]
    assert link["share_token"] not in server.log.read_text()


def test_without_a_body_a_link_is_as_it_always_was(server: Server, trip: Trip) -> None:
    link = share(server, trip)
    assert set(link) == {"id", "booking_id", "share_token", "share_url", "expires_at", "label",
                         "from", "after_end_s"}  # fmt: skip
    assert (link["booking_id"], str(UUID(link["id"]))) == (str(trip.booking_id), link["id"])
    assert (link["label"], link["from"], link["after_end_s"]) == (None, "now", 24 * HOUR_S)
    assert 23.9 * HOUR_S < seconds_left(link) <= 24 * HOUR_S
    assert len(link["share_token"]) >= 43


def test_what_is_asked_for_is_what_is_listed(server: Server, platform: Platform) -> None:
    trip = stored_trip(server, platform)
    first = share(server, trip, expires_in_s=600, label="for Grandma", after_end_s=60)
    second = share(server, trip, **{"from": "pickup"})
    listed = shares(server, trip)
    made = datetime.fromisoformat(listed[1]["created_at"])
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60
    assert listed[1] == {
        "id": first["id"], "label": "for Grandma", "from": "now", "after_end_s": 60,
        "created_at": listed[1]["created_at"], "expires_at": first["expires_at"],
        "status": "active", "opens": 0, "last_opened_at": None, "viewers": 0,
    }  # fmt: skip
    assert (listed[0]["id"], listed[0]["status"]) == (second["id"], "waiting")
    assert len(listed) == 2
    assert first["share_token"] not in str(listed)


def test_a_link_is_extended_renamed_and_shortened(server: Server, trip: Trip) -> None:
    link = share(server, trip, expires_in_s=600, label="for Grandma")
    status, body = change(server, trip, link["id"], expires_in_s=7200)
    assert (status, body["data"]["label"]) == (200, "for Grandma")
    assert 7100 < seconds_left(body["data"]) <= 7200
    changed = change(server, trip, link["id"], label="for all", after_end_s=0)[1]["data"]
    assert (changed["label"], changed["after_end_s"]) == ("for all", 0)
    assert changed["expires_at"] == body["data"]["expires_at"]
    assert next(each for each in shares(server, trip) if each["id"] == link["id"]) == changed
    assert change(server, trip, link["id"], label=None)[1]["data"]["label"] is None


def test_a_revoked_link_opens_nothing_and_cannot_be_changed(server: Server, trip: Trip) -> None:
    link = share(server, trip)
    assert shared(server, link["share_token"])[0] == 200
    assert revoke(server, trip, link["id"]) == 204
    assert revoke(server, trip, link["id"]) == 204
    unknown = (404, {"success": False, "error": "unknown or expired share link"})
    assert shared(server, link["share_token"]) == shared(server, "x" * 43) == unknown
    assert next(e for e in shares(server, trip) if e["id"] == link["id"])["status"] == "revoked"
    status, body = change(server, trip, link["id"], expires_in_s=600)
    assert (status, "revoked" in body["error"]) == (400, True)


@pytest.mark.parametrize(
    ("terms", "said"),
    [({"forever": True}, "forever"), ({"expires_in_s": 7 * 24 * HOUR_S + 1}, "604800"),
     ({"after_end_s": -1}, "after_end_s"), ({"label": "x" * 81}, "label")],
)  # fmt: skip
def test_what_is_too_much_is_said(
    server: Server, trip: Trip, terms: dict[str, Any], said: str
) -> None:
    link = share(server, trip)
    path = f"{API}/{trip.booking_id}/share"
    for status, body in (
        ask(server, "POST", path, terms, owner(server, trip)),
        change(server, trip, link["id"], **terms),
    ):
        assert (status, body["success"]) == (400, False)
        assert said in body["error"]


def test_another_bookings_link_is_not_there(server: Server, platform: Platform, trip: Trip) -> None:
    other = stored_trip(server, platform)
    link = share(server, other)
    for share_id in (link["id"], str(uuid4())):
        assert revoke(server, trip, share_id) == 404
        assert change(server, trip, share_id, label="mine")[0] == 404
    assert revoke(server, trip, "nonsense") == 400
    assert change(server, trip, "nonsense")[0] == 400
    (untouched,) = shares(server, other)
    assert (untouched["status"], untouched["label"]) == ("active", None)


def test_only_the_owner_and_admins_have_links(server: Server, trip: Trip) -> None:
    link = share(server, trip)
    booking, item = f"{API}/{trip.booking_id}", f"/shares/{link['id']}"
    requests: list[tuple[str, str, object]] = [
        ("POST", "/share", {}), ("GET", "/shares", None), ("PATCH", item, {"label": "x"}),
        ("DELETE", item, None),
    ]  # fmt: skip
    strangers = [
        (404, server.token(trip.runner_id, "runner")), (404, server.token(uuid4(), "owner")),
        (404, server.token(trip.owner_id, "shop")), (401, link["share_token"]), (401, None),
    ]  # fmt: skip
    for method, path, body in requests:
        for expected, token in strangers:
            assert ask(server, method, booking + path, body, token)[0] == expected
    admin = server.token(uuid4(), "admin")
    found = [ask(server, method, booking + path, body, admin)[0] for method, path, body in requests]
    assert found == [201, 200, 200, 204]


def test_no_answer_is_kept_or_told_to_others(server: Server, trip: Trip) -> None:
    link = share(server, trip)
    token, booking = owner(server, trip), f"{API}/{trip.booking_id}"
    answers = [
        server.get(f"{booking}/share", token, "POST"), server.get(f"{booking}/shares", token),
        server.get(f"{booking}/shares/{link['id']}", token, "DELETE"),
        server.get(f"{booking}/shares"), server.get(f"{API}/shared/{link['share_token']}"),
        server.get(f"{API}/shared/{share(server, trip)['share_token']}"),
    ]  # fmt: skip
    assert [status for status, _, _ in answers] == [201, 200, 204, 401, 404, 200]
    for _, _, headers in answers:
        found = [headers[each] for each in ("Cache-Control", "Referrer-Policy", "X-Robots-Tag")]
        assert found == ["no-store", "no-referrer", "noindex"]
