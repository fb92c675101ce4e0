"""handlers.base: what all requests have in common."""

import json
from uuid import uuid4

import pytest

from tests.running import Platform, Server
from tests.served import API, stored_trip

BOOKING_PATHS = ["", "/route", "/share", "/shares"]


@pytest.mark.parametrize("path", BOOKING_PATHS)
def test_an_absent_booking_and_anothers_are_the_same(
    server: Server, platform: Platform, path: str
) -> None:
    trip = stored_trip(server, platform)
    method = "POST" if path == "/share" else "GET"
    strangers = [(uuid4(), "owner"), (uuid4(), "runner"), (trip.owner_id, "shop"),
                 (trip.runner_id, "owner"), (trip.owner_id, "runner")]  # fmt: skip
    answers = {
        json.dumps(server.get(f"{API}/{booking}{path}", server.token(*who), method)[:2])
        for booking in (trip.booking_id, uuid4())
        for who in strangers
    }
    assert answers == {'[404, {"success": false, "error": "no such booking"}]'}
    for who in ((trip.owner_id, "owner"), (uuid4(), "admin")):
        status = server.get(f"{API}/{trip.booking_id}{path}", server.token(*who), method)[0]
        assert status in (200, 201)


@pytest.mark.parametrize("path", BOOKING_PATHS)
def test_the_token_is_checked_before_the_id(server: Server, path: str) -> None:
    method = "POST" if path == "/share" else "GET"
    status, body, headers = server.get(f"{API}/nonsense{path}", None, method)
    assert (status, body["success"]) == (401, False)
    assert headers["WWW-Authenticate"].startswith("Bearer")
    token = server.token(uuid4(), "owner")
    assert server.get(f"{API}/nonsense{path}", token, method)[0] == 400


def test_refusals_have_the_apps_error_body(server: Server) -> None:
    for path, method, status in (
        ("/nowhere", "GET", 404),
        ("/health", "POST", 405),
        (f"{API}/{uuid4()}", "PUT", 405),
    ):
        given = {"X-Request-ID": "from-the-gateway"}
        found, body, headers = server.get(path, None, method, **given)
        assert (found, body["success"]) == (status, False)
        assert body["error"]
        assert headers["X-Request-ID"] == "from-the-gateway"


def test_browsers_of_allowed_origins_may_read(server: Server) -> None:
    allowed = server.get("/health", Origin="https://app.example")[2]
    assert allowed["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Access-Control-Allow-Origin" not in server.get("/health", Origin="https://x.y")[2]
    status, _, headers = server.get(
        f"{API}/{uuid4()}", None, "OPTIONS", Origin="https://app.example"
    )
    assert status == 204
    assert "Authorization" in headers["Access-Control-Allow-Headers"]


def test_a_token_never_reaches_the_log(server: Server) -> None:
    token = server.token(uuid4(), "owner")
    server.get(f"{API}/{uuid4()}?token={token}")
    server.get(f"/nowhere/{token}")
    assert token.rsplit(".", 1)[1] not in server.log.read_text()
