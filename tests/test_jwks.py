"""workers.jwks: the issuer's keys, from a real HTTPS server."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.issuer import Issuer
from tests.raw_sockets import TEXT, RawSocket, frame, handshake
from tests.running import Server, Trip, started_server, wait_until
from tests.test_keys import EC, ISSUERS, OTHER, USER, jwk, jwks, signed
from tests.test_store_ingest import accepted
from tracking import keys as keys_module
from tracking.errors import InvalidToken, KeysUnavailable
from tracking.keys import KeySet
from tracking.metrics import Metrics
from tracking.store.ingest.batch import store_batch
from tracking.tokens import Tokens
from tracking.wire.protocol import SUBPROTOCOL
from workers import jwks as jwks_module
from workers.jwks import MAX_JWKS_BYTES, KeyFetcher


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    with Issuer(tmp_path) as issuer:
        issuer.body = jwks(jwk(EC, kid="one"))
        yield issuer


def fetching(issuer: Issuer, ca_file: str | None = None) -> tuple[KeySet, KeyFetcher, Metrics]:
    keys, metrics = KeySet(), Metrics()
    return keys, KeyFetcher(issuer.url, ca_file or str(issuer.ca_file), keys, metrics), metrics


def fetches(metrics: Metrics, outcome: str) -> float:
    return (
        metrics.registry.get_sample_value("tracking_jwks_fetches_total", {"outcome": outcome})
        or 0.0
    )


@pytest.mark.gen_test
async def test_the_issuers_keys_verify_its_tokens(issuer: Issuer) -> None:
    keys, fetcher, metrics = fetching(issuer)
    assert await fetcher.fetch()
    Tokens(keys, ISSUERS).principal(signed(EC, "one"))
    assert fetches(metrics, "ok") == 1


@pytest.mark.gen_test
async def test_a_certificate_of_another_authority_is_not_believed(
    issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Issuer(tmp_path_factory.mktemp("other")) as other:
        keys, fetcher, metrics = fetching(issuer, str(other.ca_file))
        assert not await fetcher.fetch()
    assert keys.is_empty
    assert issuer.asked == []
    assert "CERTIFICATE_VERIFY_FAILED" in keys.status()
    assert fetches(metrics, "failed") == 1


@pytest.mark.gen_test
async def test_no_redirect_is_followed(issuer: Issuer) -> None:
    keys, fetcher, _ = fetching(issuer)
    issuer.status, issuer.headers = 302, {"Location": f"{issuer.url}/elsewhere"}
    assert not await fetcher.fetch()
    assert (keys.is_empty, issuer.asked) == (True, ["/jwks"])


@pytest.mark.gen_test
async def test_what_is_no_use_replaces_nothing(issuer: Issuer) -> None:
    keys, fetcher, metrics = fetching(issuer)
    tokens = Tokens(keys, ISSUERS)
    assert await fetcher.fetch()
    for body in (b"<html>sorry</html>", jwks(), jwks(jwk(EC, use="enc"))):
        issuer.body = body
        assert not await fetcher.fetch()
        tokens.principal(signed(EC, "one"))
    assert fetches(metrics, "unusable") == 3
    issuer.body = jwks(jwk(OTHER, kid="one")) + b" " * MAX_JWKS_BYTES
    assert not await fetcher.fetch()
    issuer.status, issuer.body = 500, jwks(jwk(OTHER, kid="one"))
    assert not await fetcher.fetch()
    tokens.principal(signed(EC, "one"))


@pytest.mark.gen_test
async def test_an_unknown_key_is_asked_for_once_and_then_believed(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated a moment ago: the next tokens wait for the new set, and ask for it only once."""
    for module in (keys_module, jwks_module):
        monkeypatch.setattr(module, "MIN_FETCH_INTERVAL_S", 0.2)
    keys, fetcher, _ = fetching(issuer)
    tokens = Tokens(keys, ISSUERS)
    task = asyncio.create_task(fetcher.run())
    assert await keys.renewed(15)
    issuer.body = jwks(jwk(OTHER, kid="two"), jwk(EC, kid="one"))
    for name in ("_fetched_at", "_tried_at"):  # while it is young, it is the truth
        monkeypatch.setattr(keys, name, time.monotonic() - 60)
    found = await asyncio.gather(
        *[tokens.principal_once_renewed(signed(OTHER, "two")) for _ in range(20)]
    )
    assert len(found) == 20
    assert len(issuer.asked) == 2
    task.cancel()


@pytest.mark.gen_test
async def test_a_flood_of_unknown_keys_is_one_fetch(issuer: Issuer) -> None:
    keys, fetcher, _ = fetching(issuer)
    tokens = Tokens(keys, ISSUERS)
    task = asyncio.create_task(fetcher.run())
    assert await keys.renewed(15)
    for number in range(500):
        with pytest.raises(InvalidToken):  # the set is young: the issuer does not know this one
            await tokens.principal_once_renewed(signed(OTHER, f"unknown {number}"))
    assert len(issuer.asked) == 1
    task.cancel()


@pytest.mark.gen_test
async def test_an_unknown_key_while_the_issuer_is_away_cannot_be_judged(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, fetcher, _ = fetching(issuer)
    tokens = Tokens(keys, ISSUERS)
    assert await fetcher.fetch()
    issuer.stop()
    assert not await fetcher.fetch()
    monkeypatch.setattr(keys, "_fetched_at", keys._fetched_at - 60)
    with pytest.raises(KeysUnavailable):
        await tokens.principal_once_renewed(signed(OTHER, "two"))
    await tokens.principal_once_renewed(signed(EC, "one"))
    issuer.start_again()


def test_a_server_whose_issuer_is_away_says_so_and_stops_nobody(
    database: dict[str, str], issuer: Issuer, tmp_path: Path
) -> None:
    issuer.stop()
    environ = {name: value for name, value in database.items() if name != "JWT_SECRET"}
    settings = {"JWT_JWKS_URL": issuer.url, "JWT_JWKS_CA": str(issuer.ca_file)}
    with started_server({**environ, "JWT_SECRET": ""}, tmp_path / "log", **settings) as server:
        assert_unavailable(server)
        issuer.start_again()
        server.wait_ready()
        path = f"/api/v1/tracking/{uuid4()}"
        assert server.get(path, signed(EC, "one"))[0] == 404
        assert server.get(path, signed(OTHER, "one"))[0] == 401


def refreshed(server: Server, trip: Trip, token: str) -> int | None:
    """The close code of a viewer who refreshes with this token."""
    with RawSocket.joined(server, trip.booking_id, signed(EC, "one"), v1=True) as raw:
        assert raw.next(TEXT)
        raw.send(frame(TEXT, json.dumps({"type": "refresh", "token": token}).encode()))
        return raw.end()


def test_a_refresh_that_cannot_be_judged_means_come_back(
    database: dict[str, str], engine: sa.Engine, issuer: Issuer, tmp_path: Path
) -> None:
    """Signed with a newer key while the issuer is away: 4501 would sign the user out."""
    trip = Trip()
    trip.owner_id = USER
    store_batch(engine, [accepted(trip)])
    environ = {**database, "JWT_SECRET": ""}
    settings = {"JWT_JWKS_URL": issuer.url, "JWT_JWKS_CA": str(issuer.ca_file)}
    with started_server(environ, tmp_path / "log", **settings) as server:
        server.wait_ready()
        issuer.stop()
        assert refreshed(server, trip, signed(OTHER, "two")) == 1013
        assert refreshed(server, trip, signed(OTHER, "one")) == 4501
    issuer.start_again()


def assert_unavailable(server: Server) -> None:
    """503 with Retry-After, 1013, and not ready with the reason."""
    token, booking = signed(EC, "one"), uuid4()
    status, _, headers = server.get(f"/api/v1/tracking/{booking}", token)
    assert (status, headers["Retry-After"]) == (503, "2")
    path = f"/ws/tracking/{booking}?token={token}"
    with RawSocket(server) as raw:
        assert raw.shake(handshake(path, {})) == 503
    with RawSocket(server) as raw:
        assert raw.shake(handshake(path, {"Sec-WebSocket-Protocol": SUBPROTOCOL})) == 101
        assert raw.end() == 1013

    def told() -> bool:
        status, body, _ = server.get("/readiness")
        return status == 503 and "Connection refused" in body["checks"]["keys"]

    wait_until(told, "not ready, with the reason")
