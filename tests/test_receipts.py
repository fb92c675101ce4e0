"""Receipts of trips: issued by a real server, checked offline by verify_receipt.py."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
import numpy as np
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from handlers.api.receipts import without_sums
from tests.issuer import Issuer
from tests.programs import run_program
from tests.running import Server, Trip, running_server, wait_until
from tests.served import API, owner
from tests.test_api_summary import settled, under_way
from tests.test_judging import ended, place
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.canonical import canonical_rows
from tracking.domain.points import Points
from tracking.errors import SettingsError
from tracking.receipts import ReceiptKeys, public_keys, signing_key, state_of
from tracking.settings import Settings
from tracking.store import receipts
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import digest, expiry
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read import points
from tracking.store.receipts import Issued, keep_receipt, newest_receipt, settled_trip
from tracking.store.statements import transaction

KEY, OLD_KEY = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
SECRET = {"JWT_SECRET": "x" * 32}


def private(key: ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public(key: ed25519.Ed25519PrivateKey) -> str:
    wanted = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*wanted).decode()


@pytest.fixture(scope="module")
def signing(database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, and one that it had before."""
    folder = tmp_path_factory.mktemp("signing")
    (folder / "key").write_text(private(KEY))
    with running_server(
        database, folder / "server.log", RECEIPT_KEY_FILE=str(folder / "key"),
        RECEIPT_OLD_KEYS=public(OLD_KEY) + public(KEY), REQUESTS_PER_SECOND="0",
    ) as server:  # fmt: skip
        yield server


class Files(NamedTuple):
    """What a person saves."""

    receipt: Path
    jwks: Path
    route: Path

    def verify(self, *more: str) -> tuple[int, str]:
        arguments = (str(self.receipt), "--jwks", str(self.jwks), *more)
        done = run_program("verify_receipt.py", *arguments, environ={})
        return done.returncode, done.stdout + done.stderr


def asked(server: Server, trip: Trip, what: str = "receipt") -> tuple[int, Any]:
    status, body, _ = server.get(f"{API}/{trip.booking_id}/{what}", owner(server, trip))
    return status, body.decode() if isinstance(body, bytes) else body


def receipt_of(server: Server, trip: Trip) -> str:
    settled(server, trip)
    status, body = asked(server, trip)
    assert status == 200, body
    return str(body)


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, KEY.public_key(), ["EdDSA"])
    return found


def saved(server: Server, trip: Trip, folder: Path) -> Files:
    files = Files(folder / "receipt.jws", folder / "jwks.json", folder / "route.csv")
    files.receipt.write_text(receipt_of(server, trip))
    files.jwks.write_text(json.dumps(server.get("/.well-known/jwks.json")[1]))
    files.route.write_bytes(asked(server, trip, "export.csv?canonical=1")[1].encode())
    return files


def test_a_receipt_is_checked_offline_with_the_canonical_csv(
    signing: Server, engine: sa.Engine, tmp_path: Path
) -> None:
    trip = ended(engine, {7: 1.0})
    files = saved(signing, trip, tmp_path)
    status, said = files.verify("--csv", str(files.route))
    assert status == 0, said
    assert "is the route of this receipt" in said
    claims = claims_of(files.receipt.read_text())
    track, summary = track_of(engine, trip), settled(signing, trip)
    assert claims["booking_id"] == str(trip.booking_id)
    assert (claims["track_id"], claims["epoch"], claims["seq"]) == (
        str(track.id), track.epoch, track.head_seq,
    )  # fmt: skip
    for name in ("distance_m", "reported_distance_m", "duration_s", "started_at", "completed_at",
                 "status", "route_sha256", "implausible", "recorded_s", "moving_s", "standing_s",
                 "unknown_s", "coverage", "longest_gap_s"):  # fmt: skip
        assert claims[name] == summary[name], name
    assert (claims["waypoints"], claims["flagged"], claims["replaces"]) == (20, 1, None)
    assert claims["iss"] == "http://localhost:8005"
    people = {str(trip.owner_id), str(trip.runner_id)}
    assert not people & set(map(str, claims.values()))
    header = jwt.get_unverified_header(files.receipt.read_text())
    assert (header["typ"], header["alg"]) == ("trip-receipt+jwt", "EdDSA")
    assert sha256(files.route.read_bytes()).hexdigest() == claims["route_sha256"]


def test_the_canonical_csv_has_every_waypoint_and_every_digit(
    signing: Server, engine: sa.Engine
) -> None:
    trip = ended(engine, {7: 1.0})
    longitude, latitude = 106.123456789012345, 1.5e-07
    report = update(trip, 3, longitude=longitude, latitude=latitude, speed_kmh=None)
    store_batch(engine, [report])
    settled(signing, trip)
    text = asked(signing, trip, "export.csv?canonical=1")[1]
    rows = [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    assert [row["seq"] for row in rows] == ["21", *map(str, range(1, 21))]
    assert (float(rows[0]["longitude"]), float(rows[0]["latitude"])) == (longitude, latitude)
    assert (rows[0]["speed_kmh"], rows[0]["heading_degrees"]) == ("", "")
    assert {row["seq"] for row in rows if row["verdict"] != "0"} >= {"7"}
    assert "runner" not in text.splitlines()[0]


def test_the_canonical_csv_is_whole_whatever_else_is_asked_for(
    signing: Server, engine: sa.Engine
) -> None:
    trip = ended(engine, {7: 1.0})
    settled(signing, trip)
    whole = asked(signing, trip, "export.csv?canonical=1")
    query = "canonical=1&since_seq=3&from=2100-01-01T00:00:00Z&simplify_m=9&gap_s=1"
    assert asked(signing, trip, f"export.csv?{query}") == whole
    assert asked(signing, trip, "export.csv?canonical=0")[0] == 400


def test_its_bytes_are_for_ever() -> None:
    """Whoever has to change this test breaks every receipt."""
    columns = {
        "seq": np.array([1, 20], "i8"),
        "longitude": np.array([106.8, -179.99999999999997]),
        "latitude": np.array([-6.2, 1e-7]),
        "recorded_at": np.array([1_770_373_800_000_000, 1_770_373_800_500_000], "i8"),
        "speed_kmh": np.array([36.1, np.nan], "f4"),
        "heading_degrees": np.array([90, np.nan], "f4"),
        "received_at": np.array([1_770_373_801_000_001, 1_770_373_802_000_000], "i8"),
        "verdict": np.array([0, 1], "i2"),
    }
    assert canonical_rows(Points(**columns)).decode().split("\r\n") == [
        "1,2026-02-06T10:30:00Z,2026-02-06T10:30:01.000001Z,106.8,-6.2,36.1,90.0,0",
        "20,2026-02-06T10:30:00.500000Z,2026-02-06T10:30:02Z,-179.99999999999997,1e-7,,,1",
        "",
    ]


def test_the_sha256_is_of_all_pages(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = ended(engine, {})
    track = track_of(engine, trip)
    whole = digest.route_sha256(engine, track)
    monkeypatch.setattr(points, "FIRST_PAGE", 3)
    monkeypatch.setattr(points, "PAGE", 5)
    assert digest.route_sha256(engine, track) == whole
    with transaction(engine) as cursor:
        cursor.execute("DELETE FROM waypoints WHERE track_id = %s AND seq = 9", (track.id,))
    assert digest.route_sha256(engine, track) is None


def test_whatever_is_changed_is_noticed(signing: Server, engine: sa.Engine, tmp_path: Path) -> None:
    files = saved(signing, ended(engine, {}), tmp_path)
    token, route = files.receipt.read_text(), files.route.read_bytes()
    files.route.write_bytes(route.replace(b",106.8", b",106.9", 1))
    assert files.verify("--csv", str(files.route))[0] == 1
    head, claims, signature = token.split(".")
    other = claims_of(token) | {"distance_m": 1.0}
    forged = jwt.encode(other, OLD_KEY, "EdDSA", jwt.get_unverified_header(token))
    untyped = ReceiptKeys(private(KEY), "")
    for bad in (
        f"{head}.{forged.split('.')[1]}.{signature}",
        forged,
        jwt.encode(other, KEY, "EdDSA", {"kid": untyped.jwks["keys"][0]["kid"]}),
        jwt.encode(other, "s" * 32, "HS256", {"typ": "trip-receipt+jwt"}),
        jwt.encode(other, KEY, "EdDSA", {"typ": "trip-receipt+jwt", "kid": "unknown"}),
        "nothing",
    ):
        files.receipt.write_text(bad)
        status, said = files.verify()
        assert (status, "NOT VALID" in said) == (1, True), bad
    files.receipt.write_text(f"{head}.{claims}.{signature}\n")
    assert files.verify()[0] == 0
    files.jwks.write_text("[]")
    assert files.verify()[0] == 2
    assert Files(tmp_path / "none", files.jwks, files.route).verify()[0] == 2


def test_keys_come_from_an_address_too(signing: Server, engine: sa.Engine, tmp_path: Path) -> None:
    files = saved(signing, ended(engine, {}), tmp_path)
    address = f"http://127.0.0.1:{signing.port}/.well-known/jwks.json"
    arguments = (str(files.receipt), "--jwks", address)
    assert run_program("verify_receipt.py", *arguments, environ={}).returncode == 0
    plain = (str(files.receipt), "--jwks", "http://example.com/jwks.json")
    done = run_program("verify_receipt.py", *plain, environ={})
    assert (done.returncode, "https" in done.stderr) == (2, True)


def test_the_same_state_has_the_same_receipt_and_late_data_replace_it(
    signing: Server, engine: sa.Engine
) -> None:
    trip = ended(engine, {})
    first = receipt_of(signing, trip)
    assert receipt_of(signing, trip) == first
    update_metadata(engine, track_of(engine, trip).id)  # settled again, with the same end
    assert receipt_of(signing, trip) == first
    store_batch(engine, [update(trip, 51, **place(51))])
    second = receipt_of(signing, trip)
    old, new = claims_of(first), claims_of(second)
    assert new["replaces"] == sha256(first.encode()).hexdigest()
    assert (new["seq"], new["waypoints"]) == (old["seq"] + 1, 21)
    assert new["route_sha256"] != old["route_sha256"]
    assert new["jti"] != old["jti"]
    assert receipt_of(signing, trip) == second


def test_a_receipt_has_the_sums_of_the_summary_and_stays_when_the_route_has_gone(
    signing: Server, engine: sa.Engine
) -> None:
    trip = under_way(engine)
    store_batch(engine, [delivered(trip, 460)])
    claims, summary = claims_of(first := receipt_of(signing, trip)), settled(signing, trip)
    parts = [claims[name] for name in ("moving_s", "standing_s", "unknown_s")]
    assert parts == [150, 175, 125]
    assert sum(parts) == claims["recorded_s"] == 450
    assert (
        (claims["stops"], claims["gaps"]) == (1, 1) == (len(summary["stops"]), len(summary["gaps"]))
    )
    now, floor = datetime.now(UTC), trip.start - timedelta(days=1)
    with transaction(engine) as cursor:  # as the release before settles it
        cursor.execute("UPDATE route_metadata SET stops = NULL WHERE track_id = %s",
                       (track_of(engine, trip).id,))  # fmt: skip
    for _ in range(2):
        expiry.expire(engine, [trip.booking_id], now, floor)
        assert receipt_of(signing, trip) == first
    assert settled(signing, trip)["stops"] == []


def test_a_receipt_from_before_there_were_sums_stays_until_the_trip_changes(
    signing: Server, engine: sa.Engine
) -> None:
    trip = ended(engine, {})
    settled(signing, trip)
    track = track_of(engine, trip)
    found = settled_trip(engine, track.id)
    assert found is not None
    assert keep_receipt(engine, track.id, Issued(1, state_of(without_sums(found)), "of before"))
    assert [receipt_of(signing, trip) for _ in range(2)] == ["of before"] * 2
    store_batch(engine, [update(trip, 51, **place(51))])
    claims = claims_of(token := receipt_of(signing, trip))
    assert claims["replaces"] == sha256(b"of before").hexdigest()
    assert claims["moving_s"] is not None
    assert receipt_of(signing, trip) == token


def test_there_is_none_of_a_trip_that_is_not_over_or_not_settled(
    signing: Server, engine: sa.Engine
) -> None:
    trip = Trip()
    store_batch(engine, [accepted(trip), update(trip, 1)])
    status, body = asked(signing, trip)
    assert (status, body["error"]) == (409, "the trip is not over, or not settled yet")
    over = ended(engine, {})
    receipt_of(signing, over)
    with transaction(engine) as cursor:  # as the release before settles it
        cursor.execute(
            "UPDATE route_metadata SET updated_at = now() WHERE track_id = %s",
            (track_of(engine, over).id,),
        )
    assert asked(signing, over)[0] == 409
    assert settled(signing, over)["route_sha256"] is None
    assert asked(signing, Trip())[0] == 404
    token = signing.token(uuid4(), "owner")
    assert signing.get(f"{API}/{over.booking_id}/receipt", token)[0] == 404


def test_without_a_key_there_are_none(server: Server, engine: sa.Engine) -> None:
    trip = ended(engine, {})
    settled(server, trip)
    status, body = asked(server, trip)
    assert (status, body["error"]) == (404, "this service issues no receipts")
    assert server.get("/.well-known/jwks.json")[:2] == (200, {"keys": []})


def test_an_older_key_is_shown_and_each_key_once(signing: Server) -> None:
    status, jwks, _ = signing.get("/.well-known/jwks.json")
    assert status == 200
    assert len(jwks["keys"]) == 2
    names = {each["kid"] for each in jwks["keys"]}
    assert names == {ReceiptKeys(private(key), "").jwks["keys"][0]["kid"] for key in (KEY, OLD_KEY)}
    assert all("d" not in each for each in jwks["keys"])


def test_two_that_are_issued_at_once_are_one(engine: sa.Engine) -> None:
    track = track_of(engine, ended(engine, {}))
    assert keep_receipt(engine, track.id, Issued(1, "a", "first"))
    assert not keep_receipt(engine, track.id, Issued(1, "b", "second"))
    assert newest_receipt(engine, track.id) == Issued(1, "a", "first")
    assert not keep_receipt(engine, uuid4(), Issued(1, "a", "of nothing"))


def is_waited_for(engine: sa.Engine) -> bool:
    """Does somebody wait for a lock in order to keep a receipt?"""
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%INSERT INTO receipts%'"
        )
        return cursor.fetchone() is not None


def test_an_older_state_does_not_replace_the_receipt_of_a_newer_one(
    signing: Server, engine: sa.Engine
) -> None:
    """The trip is settled anew, and another process issues a receipt, while one is being made."""
    trip = ended(engine, {})
    settled(signing, trip)
    track = track_of(engine, trip)
    with ThreadPoolExecutor(1) as executor:
        with transaction(engine, whole=True) as cursor:
            cursor.execute("SELECT FROM tracks WHERE id = %s FOR UPDATE", (track.id,))
            answer = executor.submit(asked, signing, trip)
            wait_until(lambda: is_waited_for(engine), "it waits")
            cursor.execute(
                "UPDATE route_metadata SET distance_m = 4711 WHERE track_id = %s", (track.id,)
            )
            cursor.execute(
                "INSERT INTO receipts (track_id, number, state, token)"
                " VALUES (%s, 1, 'another', 'first')", (track.id,),
            )  # fmt: skip
        status, token = answer.result(30)
    assert status == 200, token
    claims = claims_of(token)
    assert claims["distance_m"] == 4711
    assert claims["replaces"] == sha256(b"first").hexdigest()


def test_a_receipt_of_a_trip_that_is_being_erased_is_not_kept(engine: sa.Engine) -> None:
    trip = ended(engine, {})
    track = track_of(engine, trip)
    with ThreadPoolExecutor(1) as executor:
        with transaction(engine, whole=True) as cursor:
            cursor.execute("DELETE FROM tracks WHERE id = %s", (track.id,))
            kept = executor.submit(keep_receipt, engine, track.id, Issued(1, "a", "late"))
            wait_until(lambda: is_waited_for(engine), "it waits")
        assert kept.result(30) is False


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    with Issuer(tmp_path) as issuer:
        yield issuer


def test_keys_do_not_come_from_where_https_leads_to_http(
    signing: Server, engine: sa.Engine, tmp_path: Path, issuer: Issuer
) -> None:
    files = saved(signing, ended(engine, {}), tmp_path)
    arguments = ("verify_receipt.py", str(files.receipt), "--jwks", issuer.url)
    environ = {"SSL_CERT_FILE": str(issuer.ca_file)}
    issuer.status = 302
    issuer.headers["Location"] = f"http://127.0.0.1:{signing.port}/.well-known/jwks.json"
    done = run_program(*arguments, environ=environ)
    assert (done.returncode, "keys have to come over https" in done.stderr) == (2, True)
    issuer.status, issuer.headers, issuer.body = 200, {}, files.jwks.read_bytes()
    assert run_program(*arguments, environ=environ).returncode == 0
    here = ThreadingHTTPServer(("127.0.0.1", 0), redirecting_to(issuer.url))
    threading.Thread(target=here.serve_forever, daemon=True).start()
    arguments = (*arguments[:-1], f"http://127.0.0.1:{here.server_address[1]}/")
    assert run_program(*arguments, environ=environ).returncode == 0  # from http here to https
    here.shutdown()
    here.server_close()


def redirecting_to(url: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", url)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def test_a_receipt_goes_with_its_trip(engine: sa.Engine) -> None:
    trip = ended(engine, {})
    track = track_of(engine, trip)
    keep_receipt(engine, track.id, Issued(1, "a", "first"))
    assert erase_booking(engine, trip.booking_id).rows["receipts"] == 1
    assert receipts.newest_receipt(engine, track.id) is None


def test_a_bad_key_is_told_by_its_setting() -> None:
    rsa_like = public(KEY)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(
            {**SECRET, "RECEIPT_KEY": rsa_like, "RECEIPT_OLD_KEYS": "nothing"}
        )
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("RECEIPT_KEY: found")
    assert "an Ed25519 private key as PEM" in lines[0]
    assert lines[1].startswith("RECEIPT_OLD_KEYS: found")
    assert "BEGIN" not in str(caught.value)
    good = Settings.from_environment({**SECRET, "RECEIPT_KEY": private(KEY)})
    assert good.masked()["receipt_key"] == "***"


def test_a_key_may_be_one_line() -> None:
    assert signing_key(private(KEY).replace("\n", "\\n")) == private(KEY)
    assert public_keys(public(KEY).replace("\n", "\\n")) == public(KEY)
