"""handlers.api.exports: a route as a file, from a real server."""

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from tests.proxy import Proxy
from tests.reading import csv_rows, read
from tests.running import Server, Trip, running_server, wait_until
from tests.served import API, owner
from tests.test_judging import ended
from tests.test_store_ingest import delivered, track_of, update
from tracking.domain.events import BookingEvent
from tracking.store.erasing.bookings import erase_booking
from tracking.store.erasing.runners import erase_from_booking
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read.points import FIRST_PAGE, PAGE
from tracking.store.read.routes import PAGE as ROWS
from tracking.wire.exports import FORMATS

ENDINGS = [*FORMATS]


def stored(engine: sa.Engine, seconds: list[int], number: str | None = "BK/1 ä") -> Trip:
    """A trip with a waypoint at each of these seconds."""
    trip = Trip()
    event = BookingEvent(
        trip.booking_id, "accepted", trip.start, trip.runner_id, trip.owner_id, number
    )
    store_batch(engine, [event, *[update(trip, second) for second in seconds]])
    return trip


def export(
    server: Server, trip: Trip, ending: str, query: str = "", **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    path = f"{API}/{trip.booking_id}/export.{ending}{query}"
    status, body, answered = server.get(path, owner(server, trip), **headers)
    return status, body if isinstance(body, bytes) else json.dumps(body).encode(), answered


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_export_is_a_file_of_the_whole_route(
    server: Server, engine: sa.Engine, ending: str
) -> None:
    trip = stored(engine, [0, 5, 10, 300, 305])
    status, document, headers = export(server, trip, ending)
    assert status == 200
    assert headers["Content-Type"] == FORMATS[ending].content_type
    assert headers["Content-Disposition"] == f'attachment; filename="BK_1.{ending}"'
    assert headers["X-Track-Seq"] == "5"
    found = read(ending, document)
    assert [len(segment) for segment in found.segments] == [3, 2]
    assert [time for *_, time in found.points] == [trip.at(s) for s in (0, 5, 10, 300, 305)]
    token = server.token(trip.runner_id, "runner")
    path = f"{API}/{trip.booking_id}/export.{ending}"
    assert server.get(path, token)[0] == 200


def test_pages_of_a_long_route_make_one_document(server: Server, engine: sa.Engine) -> None:
    trip = stored(engine, [*range(2 * FIRST_PAGE + 7)])
    documents = {ending: read(ending, export(server, trip, ending)[1]) for ending in ENDINGS}
    for found in documents.values():
        assert [len(segment) for segment in found.segments] == [2 * FIRST_PAGE + 7]
        assert found == documents["csv"]


def test_a_part_is_chosen_by_time_and_by_seq(server: Server, engine: sa.Engine) -> None:
    trip = stored(engine, [0, 10, 20, 30, 40])

    def seconds(query: str) -> list[float]:
        rows = csv_rows(export(server, trip, "csv", query)[1])
        assert len(read("gpx", export(server, trip, "gpx", query)[1]).points) == len(rows)
        text = [row["recorded_at"] for row in rows]
        return [s for s in (0, 10, 20, 30, 40) if trip.at(s).strftime("%H:%M:%S") in str(text)]

    begin, end = (quote(trip.at(second).isoformat()) for second in (10, 30))
    assert seconds(f"?from={begin}") == [10, 20, 30, 40]
    assert seconds(f"?to={end}") == [0, 10, 20]
    assert seconds(f"?from={begin}&to={end}") == [10, 20]
    assert seconds(f"?from={end}&to={begin}") == []
    assert seconds("?since_seq=3") == [30, 40]
    assert seconds("?since_seq=5") == []


@pytest.mark.parametrize(
    "query",
    ["from=noon", "to=2026-02-06T10:30:00", "since_seq=-1", "since_seq=9", "simplify_m=-1",
     "simplify_m=1000.5", "simplify_m=nan", "simplify_m=1_0", "gap_s=0", "gap_s=inf", "gap_s=",
     "flagged=", "flagged=yes"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(server: Server, engine: sa.Engine, query: str) -> None:
    trip = stored(engine, [0, 5])
    status, body, _ = export(server, trip, "gpx", f"?{query}")
    assert (status, json.loads(body)["success"]) == (400, False)


def test_gaps_follow_the_tracks_own_interval(server: Server, engine: sa.Engine) -> None:
    slow = stored(engine, [0, 60, 120, 180, 400, 800])  # each minute: a gap is above five minutes
    found = read("geojson", export(server, slow, "geojson")[1])
    assert [len(segment) for segment in found.segments] == [5, 1]
    found = read("geojson", export(server, slow, "geojson", "?gap_s=100")[1])
    assert [len(segment) for segment in found.segments] == [4, 1, 1]


def test_an_unchanged_export_is_not_sent_again(server: Server, engine: sa.Engine) -> None:
    trip = stored(engine, [0, 5])
    etag = export(server, trip, "gpx")[2]["ETag"]
    assert export(server, trip, "gpx", **{"If-None-Match": etag})[0] == 304
    assert export(server, trip, "gpx", "?gap_s=9", **{"If-None-Match": etag})[0] == 200
    assert export(server, trip, "kml", **{"If-None-Match": etag})[0] == 200
    store_batch(engine, [update(trip, 9)])
    assert export(server, trip, "gpx", **{"If-None-Match": etag})[0] == 200


def test_a_simplified_export_keeps_the_ends_and_the_times(
    server: Server, engine: sa.Engine
) -> None:
    trip = stored(engine, [*range(50), *range(200, 250)])  # all within 70 m of a line
    for ending in ENDINGS:
        found = read(ending, export(server, trip, ending, "?simplify_m=100")[1])
        times = [[time for *_, time in segment] for segment in found.segments]
        assert times == [[trip.at(0), trip.at(49)], [trip.at(200), trip.at(249)]]


def test_waypoints_that_cannot_be_true_are_left_out_until_they_are_asked_for(
    server: Server, engine: sa.Engine
) -> None:
    trip = ended(engine, {10: 0.1})  # judged while it was stored
    etag = export(server, trip, "gpx")[2]["ETag"]
    update_metadata(engine, track_of(engine, trip).id)  # judged again: it might be another rule
    for ending in ("geojson", "gpx", "kml"):
        status, document, _ = export(server, trip, ending, **{"If-None-Match": etag})
        assert status == 200
        assert len(read(ending, document).points) == 19
        included = export(server, trip, ending, "?flagged=include")[1]
        assert len(read(ending, included).points) == 20
        # The line without it is straight; with it, it is not.
        assert len(read(ending, export(server, trip, ending, "?simplify_m=5")[1]).points) == 2
        kept = export(server, trip, ending, "?simplify_m=5&flagged=include")[1]
        assert len(read(ending, kept).points) == 5
    rows = csv_rows(export(server, trip, "csv")[1])
    assert [row["seq"] for row in rows if row["verdict"] != "0"] == ["10"]
    assert len(rows) == 20


@pytest.fixture
def proxy(database: dict[str, str]) -> Iterator[Proxy]:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, database: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server whose statements can be held."""
    own = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    with running_server(own, tmp_path / "log", DB_POOL_SIZE="2") as server:
        yield server


def raw(server: Server, target: str, token: str, version: str = "1.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    ask(connection, target, token, version)
    return connection


def ask(connection: socket.socket, target: str, token: str, version: str = "1.1") -> None:
    head = f"GET {target} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    connection.sendall(head.encode())


def rest(connection: socket.socket) -> tuple[bytes, bool]:
    """What comes, and whether the connection was reset."""
    text = b""
    with connection:
        try:
            while piece := connection.recv(1 << 16):
                text += piece
        except ConnectionResetError:
            return text, True
    return text, False


def page_from(trip: Trip, second: float) -> bytes:
    """A part of the statement that reads it."""
    return f"AND recorded_at >= '{trip.at(second).isoformat()}".encode()


def erase_above(engine: sa.Engine, trip: Trip, seq: int) -> None:
    """As erasure and retention do."""
    with engine.begin() as database:
        database.execute(
            sa.text("DELETE FROM waypoints WHERE seq > :seq AND track_id = "
                    "(SELECT id FROM tracks WHERE booking_id = :id)"),
            {"id": trip.booking_id, "seq": seq},
        )  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.gen_test
async def test_rows_that_vanish_while_an_export_leaves_break_it_off_visibly(
    behind: Server, proxy: Proxy, engine: sa.Engine, ending: str
) -> None:
    pages = FIRST_PAGE + PAGE
    trip = stored(engine, [*range(pages + 500)])
    proxy.hold(page_from(trip, pages))
    target = f"{API}/{trip.booking_id}/export.{ending}"
    # The end of a connection is the end of an answer to HTTP/1.0, unless it is reset.
    version = "1.0" if ending == "csv" else "1.1"
    connection = raw(behind, target, owner(behind, trip), version)
    await asyncio.to_thread(wait_until, lambda: proxy.held > 0, "the third page is asked for")
    erase_above(engine, trip, pages + 200)
    proxy.heal()
    text, was_reset = await asyncio.to_thread(rest, connection)
    assert b" 200 OK" in text[:20]
    assert was_reset
    assert not text.endswith(b"0\r\n\r\n")
    counted = behind.metric("tracking_exports_total", format=ending, outcome="broken_off")
    assert counted == 1
    assert "broke off: 300 waypoints left the route" in behind.log.read_text()


@pytest.mark.gen_test
async def test_a_small_export_that_cannot_be_finished_is_an_error_with_a_status(
    behind: Server, proxy: Proxy, engine: sa.Engine
) -> None:
    trip = stored(engine, [*range(FIRST_PAGE + 9)])
    proxy.hold(page_from(trip, FIRST_PAGE))
    fetch = asyncio.create_task(asyncio.to_thread(export, behind, trip, "csv"))
    await asyncio.to_thread(wait_until, lambda: proxy.held > 0, "the second page is asked for")
    erase_above(engine, trip, FIRST_PAGE)
    proxy.heal()
    status, body, headers = await fetch
    assert (status, json.loads(body)["success"]) == (503, False)
    assert headers["Content-Type"].startswith("application/json")
    assert "Content-Disposition" not in headers
    assert (await asyncio.to_thread(export, behind, trip, "gpx"))[0] == 503  # its count says more


@pytest.mark.gen_test
async def test_a_slow_reader_holds_no_transaction_and_no_more_than_a_page_is_read_ahead(
    server: Server, engine: sa.Engine
) -> None:
    count = FIRST_PAGE + 6 * PAGE
    trip = stored(engine, [])
    for first in range(0, count, PAGE):
        store_batch(engine, [update(trip, n) for n in range(first, min(first + PAGE, count))])
    before = server.metric("tracking_database_calls_total", function="page")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    ask(connection, f"{API}/{trip.booking_id}/export.csv", owner(server, trip))

    def pages() -> float:
        return server.metric("tracking_database_calls_total", function="page") - before

    await asyncio.to_thread(wait_until, lambda: pages() >= 2, "one page is read ahead")
    with engine.connect() as database:
        held = database.scalar(
            sa.text("SELECT count(*) FROM pg_stat_activity WHERE xact_start < now() - interval"
                    " '2 seconds' AND application_name LIKE 'service-tracking reads%'")
        )  # fmt: skip
    assert held == 0
    assert pages() < 7, "the rest of the route waits for the reader"
    text = await asyncio.to_thread(whole, connection)
    assert text.count(b"\n") > count


def whole(connection: socket.socket) -> bytes:
    """Until the last chunk."""
    text = bytearray()
    with connection:
        while not text.endswith(b"\r\n0\r\n\r\n"):
            piece = connection.recv(1 << 16)
            assert piece, "it broke off"
            text += piece
    return bytes(text)


@pytest.mark.parametrize("who", ["the booking", "its runner"])
@pytest.mark.parametrize(("what", "pages"), [("", ROWS), ("/route", FIRST_PAGE)])
@pytest.mark.gen_test
async def test_what_is_erased_while_its_pages_leave_does_not_look_whole(
    behind: Server, proxy: Proxy, engine: sa.Engine, what: str, pages: int, who: str
) -> None:
    trip = stored(engine, [*range(pages + 500)])
    store_batch(engine, [delivered(trip, pages + 600)])
    proxy.hold(b"AND recorded_at >= '")  # not the first page
    connection = raw(behind, f"{API}/{trip.booking_id}{what}", owner(behind, trip), "1.1")
    await asyncio.to_thread(wait_until, lambda: proxy.held > 0, "the second page is asked for")
    if who == "the booking":
        erase_booking(engine, trip.booking_id)
    else:
        erase_from_booking(engine, trip.runner_id, trip.booking_id)
    proxy.heal()
    text, was_reset = await asyncio.to_thread(rest, connection)
    assert was_reset or b" 503 " in text[:20]
    assert not text.endswith(b"0\r\n\r\n") or b" 503 " in text[:20]
