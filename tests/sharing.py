"""Share links as an owner makes them, and who looks through them."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.running import Server, Trip
from tests.served import API, owner
from tests.test_protocol import Client
from tracking.wire.protocol import SUBPROTOCOL

Answer = tuple[int, Any]


def ask(
    server: Server, method: str, path: str, body: object = None, token: str | None = None
) -> Answer:
    """Status and JSON of a request with a JSON body; bytes go as they are."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{server.port}{path}", data=data, method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urlopen(request, timeout=30) as response:
            status, got = response.status, response.read()
    except HTTPError as error:
        status, got = error.code, error.read()
    return status, json.loads(got) if got else None


def share(server: Server, trip: Trip, **terms: object) -> dict[str, Any]:
    """A new link of the trip's owner."""
    path = f"{API}/{trip.booking_id}/share"
    status, body = ask(server, "POST", path, terms or None, owner(server, trip))
    assert status == 201, body
    data: dict[str, Any] = body["data"]
    return data


def shares(server: Server, trip: Trip) -> list[dict[str, Any]]:
    status, body = ask(server, "GET", f"{API}/{trip.booking_id}/shares", None, owner(server, trip))
    assert status == 200, body
    listed: list[dict[str, Any]] = body["data"]["shares"]
    return listed


def change(server: Server, trip: Trip, share_id: str, **changes: object) -> Answer:
    path = f"{API}/{trip.booking_id}/shares/{share_id}"
    return ask(server, "PATCH", path, changes, owner(server, trip))


def revoke(server: Server, trip: Trip, share_id: str) -> int:
    path = f"{API}/{trip.booking_id}/shares/{share_id}"
    return ask(server, "DELETE", path, None, owner(server, trip))[0]


def shared(server: Server, token: str) -> Answer:
    return ask(server, "GET", f"{API}/shared/{token}")


class SharedClient(Client):
    """Speaks tracking.v1 through a share link."""

    @classmethod
    async def look(cls, server: Server, token: str, **query: object) -> "SharedClient":
        parts = "&".join(f"{name}={value}" for name, value in query.items())
        url = f"ws://127.0.0.1:{server.port}/ws/shared/{token}?{parts}"
        socket = await websocket_connect(
            HTTPRequest(url), subprotocols=[SUBPROTOCOL], ping_interval=0
        )
        assert socket.selected_subprotocol == SUBPROTOCOL
        return cls(socket)

    async def until_seq(self, seq: int) -> None:
        while seq not in self.seqs():
            assert await self.next() is not None, self.socket.close_code
