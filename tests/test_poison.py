"""Whatever producers send: an event that the database takes, or a dead letter with its reason."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.running import Platform, Trip, envelope, running_server, stamp, wait_until
from tracking.domain.decoding import decode
from tracking.domain.envelopes import Headers
from tracking.domain.events import BOOKING_KINDS, BookingEvent, Event, LocationUpdate
from tracking.errors import InvalidEvent
from tracking.settings import Settings
from tracking.store.ingest.batch import store_batch
from workers.kafka.dead_letter_topic import kept_dead_letters

NOW = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
UPDATE = "runner.location_update"
# Stands in texts that a reason must never repeat.
SECRET = "Jalan-Mawar-12"

# JSON that is valid, nearly, or not at all, and that breaks something somewhere later.
PITFALLS = {
    "NUL": '"\\u0000"',
    "NUL inside": f'"{SECRET}\\u0000"',
    "lone surrogate": f'"{SECRET}\\ud800"',
    "reversed surrogates": '"\\udc00\\ud800"',
    "raw control character": '"\x01"',
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "beyond int64": "9223372036854775808",
    "far beyond int64": "-170141183460469231731687303715884105728",
    "5,000 digits": "9" * 5_000,
    "5,000 digits behind the point": "0." + "3" * 5_000,
    "infinite by its exponent": "1e400",
    "zero by its exponent": "1e-400",
    "less than float8 can say exactly": "5e-324",
    "less than float4 can say": "1e-300",
    "minus zero": "-0.0",
    "very deep": "[" * 100_000,
    "very deep and closed": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "year 9999": '"9999-12-31T23:59:59.999999999Z"',
    "year 9999 west": '"9999-12-31T23:59:59-14:00"',
    "year 1 east": '"0001-01-01T00:00:00+14:00"',
    "first time": '"2000-01-01T00:00:00Z"',
    "last time": '"2099-12-31T23:59:59.999999999Z"',
    "milliseconds": "1770373800000",
    "milliseconds as text": '"1770373800000"',
    "leap second": '"2026-02-06T10:30:60Z"',
    "no zone": '"2026-02-06T10:30:00"',
    "30 February": '"2026-02-30T10:30:00Z"',
    "true": "true",
    "null": "null",
    "list": "[]",
    "object": "{}",
    "empty text": '""',
    "text": f'"{SECRET}"',
    "huge text": f'"{SECRET * 20_000}"',
    "128 characters of four bytes": '"' + "\U0001f415" * 128 + '"',
    "nothing": "",
}


def data_of(type_: str, trip: Trip) -> dict[str, Any]:
    if type_ == UPDATE:
        return trip.update(0)
    own = {**trip.identity(), "booking_number": SECRET, "occurred_at": stamp(NOW)}
    place = ("pickup_lat", "pickup_lng", "dropoff_lat", "dropoff_lng")
    more: dict[str, dict[str, Any]] = {
        "booking.requested": dict.fromkeys(place, 6.25),
        "booking.pet_picked_up": {"picked_up_at": stamp(NOW)},
        "booking.delivery_confirmed": {"delivered_at": stamp(NOW)},
        "booking.cancelled": {"cancelled_by": "owner", "reason": SECRET},
    }
    return own | more.get(type_, {})


Form = tuple[str, bytes | None, list[tuple[str, bytes]]]
FORMS = ("structured", "bare", "binary")


def form_of(form: str, type_: str, data: bytes) -> Form:
    """Topic, value and headers of an event in one of its three forms."""
    topic = f"{type_.partition('.')[0]}.events"
    if form == "bare":
        return type_, data, []
    if form == "binary":
        headers = {"ce_id": "1", "ce_type": type_, "ce_time": stamp(NOW)}
        return topic, data, [(name, text.encode()) for name, text in headers.items()]
    whole = json.dumps(envelope(type_, {"here": 1})).encode()
    return topic, whole.replace(b'{"here": 1}', data), []


def outcome(record: Form) -> Event | None:
    """The event, if there is one; a reason must not tell what stood in the record."""
    topic, value, headers = record
    try:
        return decode(topic, value, headers, NOW).event
    except InvalidEvent as error:
        reason = str(error)
    assert 0 < len(reason) < 200
    assert SECRET not in reason
    return None


def assert_storable(engine: sa.Engine, events: Sequence[Event]) -> None:
    """On its own, and into a trip: what decode lets through is no poison for PostgreSQL."""
    trips = [
        BookingEvent(e.booking_id, "accepted", NOW, e.runner_id, uuid4())
        for e in events
        if isinstance(e, LocationUpdate) and e.booking_id is not None
    ]
    for batch in (events, trips, events):
        stored = store_batch(engine, batch)
        assert stored.update_outcomes.total() + stored.fact_outcomes.total() == len(batch)


def poisoned(data: dict[str, Any], field: str, fragment: str) -> bytes:
    """The data with raw text in the place of one value."""
    return json.dumps({**data, field: "HERE"}).replace('"HERE"', fragment).encode()


@pytest.mark.parametrize("type_", [UPDATE, *BOOKING_KINDS])
def test_every_pitfall_in_every_field_is_refused_or_can_be_stored(
    engine: sa.Engine, type_: str
) -> None:
    survivors: list[Event] = []
    refused = 0
    for fragment in PITFALLS.values():
        for field in data_of(type_, Trip(NOW)):
            for form in FORMS:
                value = poisoned(data_of(type_, Trip(NOW)), field, fragment)
                event = outcome(form_of(form, type_, value))
                refused += event is None
                survivors += [event] if event else []
    assert refused
    assert survivors
    assert_storable(engine, survivors)


@pytest.mark.parametrize("type_", [UPDATE, *BOOKING_KINDS])
@pytest.mark.parametrize("form", FORMS)
def test_an_event_without_one_of_its_fields_is_refused_or_can_be_stored(
    engine: sa.Engine, type_: str, form: str
) -> None:
    survivors: list[Event] = []
    for field in data_of(type_, Trip(NOW)):
        data = data_of(type_, Trip(NOW))
        del data[field]
        event = outcome(form_of(form, type_, json.dumps(data).encode()))
        survivors += [event] if event else []
    assert_storable(engine, survivors)


def good_update(trip: Trip) -> bytes:
    return json.dumps(envelope(UPDATE, trip.update(0))).encode()


def corpus() -> dict[str, Form]:
    """Records of which every one is dead; by name."""
    value = good_update(Trip(NOW))
    binary = [("ce_type", UPDATE.encode()), ("ce_time", b"yesterday")]
    values: dict[str, bytes | None] = {
        "tombstone": None,
        "empty value": b"",
        "blank": b" \n",
        "empty object": b"{}",
        "empty list": b"[]",
        "null": b"null",
        "a number": b"5",
        "list of an event": b"[" + value + b"]",
        "two events": value + b"\n" + value,
        "byte order mark": b"\xef\xbb\xbf" + value,
        "UTF-16": value.decode().encode("utf-16"),
        "not UTF-8": value.replace(b'"runner.', b'"runner\xff\xfe\xc0.'),
        "no type": value.replace(b'"type"', b'"kind"'),
        "type is a number": value.replace(f'"{UPDATE}"'.encode(), b"17"),
        "type is too long": value.replace(UPDATE.encode(), b"x" * 200),
        "no data": value.replace(b'"data"', b'"payload"'),
        "data is text": b'{"type": "runner.location_update", "data": "{}"}',
        "data is null": b'{"type": "runner.location_update", "data": null}',
        "comment": b"/* " + value + b" */",
        "single quotes": value.replace(b'"', b"'"),
        "trailing comma": value[:-1] + b",}",
    }
    cuts = {f"cut after {n} bytes": value[:n] for n in (1, 50, 200, len(value) - 1)}
    found: dict[str, Form] = {n: ("runner.events", v, []) for n, v in (values | cuts).items()}
    found["binary with a bad time"] = ("runner.events", value, binary)
    found["binary without a type"] = ("runner.events", value, [("ce_type", b"")])
    found["binary type is no text"] = ("runner.events", value, [("ce_type", b"\xff")])
    for name in ("very deep", "very deep and closed", "nothing"):
        data = poisoned(data_of("booking.accepted", Trip(NOW)), "booking_number", PITFALLS[name])
        found[f"{name} in a booking number"] = ("booking.accepted", data, [])
    for name in ("milliseconds", "year 9999", "Infinity", "infinite by its exponent", "no zone"):
        data = poisoned(Trip(NOW).update(0), "timestamp", PITFALLS[name])
        found[f"{name} for a time"] = form_of("structured", UPDATE, data)
    return found


def odd(trip: Trip) -> dict[str, Form]:
    """Records that are unusual and alive."""
    data = json.dumps(trip.update(0)).encode()
    unknown = json.dumps(envelope("booking.reviewed", {"stars": "\0"})).encode()
    return {
        "unknown fields": form_of("structured", UPDATE, data[:-1] + b', "x": {"y": [1, null]}}'),
        "a key twice": form_of("structured", UPDATE, b'{"latitude": 1e300,' + data[1:]),
        "not UTF-8 where nobody reads": (
            "runner.events",
            good_update(trip).replace(b"service-runner", b"\xff\xfe"),
            [],
        ),
        "half an emoji where nobody reads": form_of(
            "structured", UPDATE, data[:-1] + b', "pet_name": "\\ud83d"}'
        ),
        "unknown type": ("booking.events", unknown, []),
        "unused type": ("runner.online", b"not looked at", []),
        "other headers": ("runner.events", good_update(trip), [("trace", b"\xff\0")]),
        "white space": ("runner.events", b"\r\n\t " + good_update(trip) + b" \n", []),
    }


@pytest.mark.parametrize("name", corpus())
def test_what_is_malformed_is_refused_with_a_reason(name: str) -> None:
    topic, value, headers = corpus()[name]
    with pytest.raises(InvalidEvent, match=r"."):
        decode(topic, value, headers, NOW)


@pytest.mark.parametrize("name", odd(Trip(NOW)))
def test_what_is_only_odd_is_taken(engine: sa.Engine, name: str) -> None:
    event = outcome(odd(Trip(NOW))[name])
    assert (event is None) == (name in ("unknown type", "unused type"))
    assert_storable(engine, [event] if event else [])


def test_headers_without_a_value_are_no_surprise() -> None:
    headers: Headers = [("ce_type", None), ("ce_id", None), ("trace", None)]
    with pytest.raises(InvalidEvent, match="ce_type"):
        decode("runner.events", json.dumps(Trip(NOW).update(0)).encode(), headers, NOW)
    nameless: Headers = [("ce_type", UPDATE.encode()), ("ce_id", None), ("ce_time", None)]
    assert decode("x.y", json.dumps(Trip(NOW).update(0)).encode(), nameless, NOW).event is not None


EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "delete", "insert", "copy", "cut"]), st.integers(0, 700),
              st.integers(0, 255)),
    min_size=1, max_size=4,
)  # fmt: skip


def edited(value: bytes, edits: Sequence[tuple[str, int, int]]) -> bytes:
    for kind, place, byte in edits:
        at = place % (len(value) + 1)
        match kind:
            case "flip":
                value = value[:at] + bytes([byte]) + value[at + 1 :]
            case "delete":
                value = value[:at] + value[at + byte % 8 + 1 :]
            case "insert":
                value = value[:at] + bytes([byte]) + value[at:]
            case "copy":
                value = value[:at] + value[at : at + byte] + value[at:]
            case "cut":
                value = value[:at]
    return value


@given(st.sampled_from([UPDATE, *BOOKING_KINDS]), st.sampled_from(FORMS), EDITS)
def test_an_event_with_damaged_bytes_is_refused_or_can_be_stored(
    engine: sa.Engine, type_: str, form: str, edits: list[tuple[str, int, int]]
) -> None:
    topic, value, headers = form_of(form, type_, json.dumps(data_of(type_, Trip(NOW))).encode())
    event = outcome((topic, edited(value or b"", edits), headers))
    if event is not None:
        assert_storable(engine, [event])


NUMBERS = st.floats().map(repr) | st.integers(-(10**40), 10**40).map(str)
TIMES = st.datetimes().map(lambda t: f'"{t.isoformat()}Z"')
TEXTS = st.text(max_size=130).map(json.dumps)


@given(
    st.sampled_from([UPDATE, *BOOKING_KINDS]), st.sampled_from(FORMS), st.data(),
    NUMBERS | TIMES | TEXTS | st.sampled_from(sorted(PITFALLS.values())),
)  # fmt: skip
def test_any_value_in_any_field_is_refused_or_can_be_stored(
    engine: sa.Engine, type_: str, form: str, chosen: st.DataObject, fragment: str
) -> None:
    data = data_of(type_, Trip(NOW))
    field = chosen.draw(st.sampled_from(sorted(data)))
    event = outcome(form_of(form, type_, poisoned(data, field, fragment)))
    if event is not None:
        assert_storable(engine, [event])


@pytest.fixture
def running(database: dict[str, str], tmp_path: Path) -> Iterator[tuple[Any, Platform, Path]]:
    with running_server(database, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        yield server, platform, tmp_path / "log"
        platform.close()


def test_exactly_the_bad_ones_become_dead_letters_and_their_neighbours_are_stored(
    running: tuple[Any, Platform, Path],
) -> None:
    server, platform, log = running
    trip, bad = Trip(), corpus()
    platform.accept(trip)
    for second, (topic, value, headers) in enumerate(bad.values()):
        platform.send_raw(topic, value, headers)
        platform.update(trip, second)
    for topic, value, headers in odd(trip).values():
        platform.send_raw(topic, value, headers)

    def counts() -> Counter[str]:
        outcomes = ("applied", "dead", "duplicate", "ignored", "parked", "refused", "skipped")
        return Counter(
            {o: int(server.metric("tracking_events_total", outcome=o)) for o in outcomes}
        )

    sent = 1 + 2 * len(bad) + len(odd(trip))
    wait_until(lambda: counts().total() >= sent, "every record has its outcome")
    # The odd ones report the trip's first second once more.
    expected = {"applied": 1 + len(bad), "dead": len(bad), "ignored": 2, "duplicate": 6}
    assert +counts() == expected
    assert server.metric("tracking_waypoints_stored_total") == len(bad)

    settings = Settings.from_environment(server.environ)
    kept = wait_until(
        lambda: found if len(found := list(kept_dead_letters(settings))) >= len(bad) else [],
        "all letters",
    )
    assert Counter(x.value for x in kept) == Counter(value for _, value, _ in bad.values())
    assert all(x.reason for x in kept)
    lines = log.read_text().splitlines()
    for letter in kept:
        place = letter.source.replace("@", " at offset ")
        assert sum(f"malformed event in {place}: {letter.reason}" in x for x in lines) == 1
    assert not [line for line in lines if "Traceback" in line or SECRET in line]
