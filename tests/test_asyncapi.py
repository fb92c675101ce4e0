"""docs/asyncapi.yaml and docs/protocol.md: what they say is what the server sends."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import yaml
from jsonschema import Draft7Validator

from tests.running import CHECKOUT, Platform, Server, Trip
from tests.sharing import SharedClient, share
from tests.test_protocol import Client, owner
from tracking.domain.events import BookingEvent, LocationUpdate
from tracking.store.ingest.batch import store_batch
from tracking.wire import close_codes, fleet_protocol, protocol, replay_protocol, shared
from tracking.wire.arrival_message import ArrivalMessage, ArrivalPart, ArrivalsPart
from tracking.wire.close_codes import CloseCode
from tracking.wire.eta_message import EtaMessage, EtaPart
from tracking.wire.messages import LocationUpdateMessage

DOCUMENT: dict[str, Any] = yaml.safe_load((CHECKOUT / "docs" / "asyncapi.yaml").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
PAGE = (CHECKOUT / "docs" / "protocol.md").read_text()
OF_A_BOOKING, _, _of_all = PAGE.partition("\n## All trips")
# REST follows behind it.
OF_ALL = _of_all.partition("\n## ")[0]


def examples(page: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


EXAMPLES = examples(OF_A_BOOKING)
FLEET_EXAMPLES = examples(OF_ALL)
# The official schema of such documents; `make web` gets it.
META = CHECKOUT / "web" / "node_modules" / "@asyncapi" / "specs" / "schemas"

SERVER_MESSAGES: dict[str, Any] = {
    "welcome": protocol.Welcome,
    "location_update": LocationUpdateMessage,
    "backfill": protocol.Backfill,
    "track_update": protocol.TrackUpdate,
    "flagged": protocol.Flagged,
    "freshness": protocol.FreshnessUpdate,
    "arrival": ArrivalMessage,
    "eta": EtaMessage,
    "heartbeat": protocol.Heartbeat,
    "token_expiring": protocol.TokenExpiring,
}
SHARED_MESSAGES: dict[str, Any] = {
    "shared_welcome": shared.SharedWelcome,
    "shared_location_update": shared.SharedPosition,
    "shared_track_update": shared.SharedTrackUpdate,
}
FLEET_MESSAGES: dict[str, Any] = {
    "welcome": fleet_protocol.Welcome,
    "snapshot": fleet_protocol.Snapshot,
    "changes": fleet_protocol.Changes,
}
REPLAY_MESSAGES: dict[str, Any] = {
    "replay_welcome": replay_protocol.ReplayWelcome,
    "gap": replay_protocol.Gap,
    "replay": replay_protocol.ReplayState,
}
# Their schemas are named otherwise than the messages, where the name is taken.
REPLAY_SCHEMAS = {"welcome": "replay_welcome", "speed": "speed_message"}
REPLAY_CLIENT_MESSAGES: dict[str, Any] = {
    "seek": replay_protocol.Seek,
    "speed": replay_protocol.Speed,
    "pause": replay_protocol.Pause,
    "resume": replay_protocol.Resume,
}
CLIENT_MESSAGES: dict[str, Any] = {"catch_up": protocol.CatchUp, "refresh": protocol.Refresh}
PARTS: dict[str, Any] = {
    "freshness_part": protocol.FreshnessPart,
    "backfill_point": protocol.BackfillPoint,
    "arrival_part": ArrivalPart,
    "arrivals_part": ArrivalsPart,
    "eta_part": EtaPart,
}


def test_the_page_counts_the_messages_of_tracking_v1() -> None:
    """Those of a replay are more."""
    words = {2: "two", 3: "three", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    server, client = words[len(SERVER_MESSAGES)], words[len(CLIENT_MESSAGES)]
    assert f"| {server} from the server, {client} from the client;" in PAGE


def check(message: Any, name: str) -> None:
    """Valid, and without a field that the document doesn't know."""
    Draft7Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}"}).validate(message)
    assert set(message) == set(SCHEMAS[name]["properties"])


def schema_of(message: dict[str, Any]) -> str:
    """Messages of a share link have their own, where others name a runner."""
    name: str = message["type"]
    if "replay" in message or name in REPLAY_CLIENT_MESSAGES:
        return REPLAY_SCHEMAS.get(name, name)
    is_shared = f"shared_{name}" in SHARED_MESSAGES and "runner_id" not in message
    return f"shared_{name}" if is_shared else name


def operation(*names: str) -> set[str]:
    """The messages of these operations, as the channel calls them."""
    references = [r["$ref"] for name in names for r in DOCUMENT["operations"][name]["messages"]]
    return {reference.rpartition("/")[2] for reference in references}


@pytest.mark.parametrize(
    ("name", "struct"), [*(SERVER_MESSAGES | SHARED_MESSAGES | CLIENT_MESSAGES | PARTS).items()]
)
def test_a_schema_has_the_fields_of_its_struct(name: str, struct: Any) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(struct)}
    if struct.__struct_config__.tag_field:
        fields.add("type")
        assert struct.__struct_config__.tag == name.removeprefix("shared_")
    schema = SCHEMAS[name]
    assert set(schema["properties"]) == set(schema["required"]) == fields
    if name not in PARTS:
        assert schema["properties"]["type"] == {"const": name.removeprefix("shared_")}


def test_every_message_has_its_operation() -> None:
    assert operation("tell") == set(SERVER_MESSAGES)
    assert operation("sendPositions") == {"location_update"}
    assert operation("catchUp", "refresh") == set(CLIENT_MESSAGES)
    channels = DOCUMENT["channels"]
    assert set(channels["v1"]["messages"]) == {*SERVER_MESSAGES, *CLIENT_MESSAGES}
    through_links = set(SERVER_MESSAGES) - {"token_expiring"}
    assert operation("tellShared") == through_links
    assert operation("catchUpShared") == {"catch_up"}
    assert set(channels["shared"]["messages"]) == through_links | {"catch_up"}
    steering = {*REPLAY_CLIENT_MESSAGES}
    assert operation("steerReplay") == steering
    told = {
        "welcome",
        "gap",
        "replay",
        "location_update",
        "backfill",
        "heartbeat",
        "token_expiring",
    }
    assert operation("tellReplay") == told
    assert {*channels["replay"]["messages"]} == told | steering | {*CLIENT_MESSAGES}
    for name in SHARED_MESSAGES:
        reference = channels["shared"]["messages"][name.removeprefix("shared_")]["$ref"]
        assert reference == f"#/components/messages/{name}"


def test_every_schema_is_one_and_its_examples_are_valid() -> None:
    for name, schema in SCHEMAS.items():
        Draft7Validator.check_schema(schema)
        for example in schema.get("examples", []):
            Draft7Validator({**DOCUMENT, "$ref": f"#/components/schemas/{name}"}).validate(example)


def test_the_document_is_asyncapi_3() -> None:
    meta = json.loads((META / "3.0.0-without-$id.json").read_text())
    errors = [error.message for error in Draft7Validator(meta).iter_errors(DOCUMENT)]
    assert errors == []


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        return found + [each for part in value.values() for each in references(part)]
    if isinstance(value, list):
        return [each for part in value for each in references(part)]
    return []


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        target: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


@pytest.mark.parametrize(("name", "struct"), FLEET_MESSAGES.items())
def test_a_schema_of_the_fleet_has_the_fields_of_its_struct(name: str, struct: Any) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(struct)} | {"type"}
    schema = SCHEMAS[f"fleet_{name}"]
    assert set(schema["properties"]) == set(schema["required"]) == fields
    assert (
        schema["properties"]["type"] == {"const": struct.__struct_config__.tag} == {"const": name}
    )
    section = OF_ALL.partition(f"**`{name}`**")[2].partition("\n**`")[0]
    for field in fields - {"type"}:
        assert f"`{field}`" in section, field


def test_the_columns_of_the_fleet_are_on_the_page_and_in_the_schema() -> None:
    row = SCHEMAS["fleet_row"]
    assert len(row["items"]) == row["minItems"] == len(fleet_protocol.COLUMNS)
    assert row["description"].replace("\n", " ").rstrip(". ").split(", ") == [
        *fleet_protocol.COLUMNS
    ]
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", OF_ALL, re.MULTILINE)))
    assert [name for name in named if name in fleet_protocol.COLUMNS] == [*fleet_protocol.COLUMNS]
    shared = {"heartbeat", "token_expiring"}
    assert operation("tellFleet") == {*FLEET_MESSAGES, *shared}
    assert set(DOCUMENT["channels"]["fleet"]["messages"]) == {*FLEET_MESSAGES, *shared, "refresh"}


def test_an_example_of_the_fleet_is_a_message() -> None:
    assert [message["type"] for message in FLEET_EXAMPLES] == list(FLEET_MESSAGES)
    for message in FLEET_EXAMPLES:
        check(message, f"fleet_{message['type']}")
    assert FLEET_EXAMPLES[0]["columns"] == [*fleet_protocol.COLUMNS]


@pytest.mark.parametrize(("name", "struct"), [*(REPLAY_MESSAGES | REPLAY_CLIENT_MESSAGES).items()])
def test_a_schema_of_a_replay_has_the_fields_of_its_struct(name: str, struct: Any) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(struct)} | {"type"}
    schema = SCHEMAS[REPLAY_SCHEMAS.get(name, name)]
    assert set(schema["properties"]) == set(schema["required"]) == fields
    assert schema["properties"]["type"] == {"const": struct.__struct_config__.tag}


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: str(m["type"]))
def test_an_example_of_the_page_is_a_message(message: dict[str, Any]) -> None:
    check(message, schema_of(message))
    if message["type"] in CLIENT_MESSAGES:
        protocol.client_message(json.dumps(message))
    if message["type"] in REPLAY_CLIENT_MESSAGES:
        replay_protocol.client_message(json.dumps(message))


def test_the_page_shows_every_message() -> None:
    everything = {*SERVER_MESSAGES, *SHARED_MESSAGES, *CLIENT_MESSAGES, *REPLAY_MESSAGES}
    everything |= {REPLAY_SCHEMAS.get(name, name) for name in REPLAY_CLIENT_MESSAGES}
    assert {schema_of(message) for message in EXAMPLES} == everything


@pytest.mark.parametrize(
    "name", ["welcome", "backfill", "track_update", "freshness", "arrival", "eta"]
)
def test_the_page_names_every_field(name: str) -> None:
    section = PAGE.partition(f"**`{name}`**")[2].partition("\n**`")[0]
    for field in set(SCHEMAS[name]["properties"]) - {"type"}:
        assert f"`{field}`" in section, field


def test_the_table_of_close_codes_is_the_codes() -> None:
    table = re.findall(r"^\| (\d{4}) \| ([^|]+?) \|", PAGE, re.MULTILINE)
    known = [code for code in vars(close_codes).values() if isinstance(code, CloseCode)]
    assert [(int(code), reason) for code, reason in table] == [tuple(code) for code in known]


def silent_trip(engine: sa.Engine) -> Trip:
    """Its only report came 24 s ago: in six seconds it is stale."""
    trip, then = Trip(), datetime.now(UTC) - timedelta(seconds=24)
    accepted = BookingEvent(trip.booking_id, "accepted", trip.start, trip.runner_id, trip.owner_id)
    report = LocationUpdate(
        trip.runner_id, trip.booking_id, 106.8 + (then - trip.start).total_seconds() * 1e-4, -6.2,
        None, None, then, then, then,
    )  # fmt: skip
    store_batch(engine, [accepted])
    store_batch(engine, [report])
    return trip


@pytest.mark.gen_test
async def test_every_message_that_the_server_sends_is_as_documented(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(silent_trip, engine)
    soon = datetime.now(UTC) + timedelta(seconds=20)
    client = await Client.join(server, trip.booking_id, owner(server, trip, exp=soon))
    await client.next_of("token_expiring")
    await client.say(type="refresh", token=owner(server, trip))
    await client.next_of("heartbeat")
    await client.next_of("freshness")
    await client.say(type="catch_up", since_seq=0)
    await client.next_of("backfill")
    now = (datetime.now(UTC) - trip.start).total_seconds()
    platform.update(trip, now)
    await client.next_of("location_update")
    platform.update(trip, now + 0.001, latitude=-8.7)
    await client.next_of("flagged")
    await client.next_of("backfill")
    platform.update(trip, now - 60, speed_kmh=-1, heading_degrees=-1)
    await client.next_of("backfill")
    platform.deliver(trip, datetime.now(UTC))
    await client.next_of("track_update")
    assert await client.closed() == close_codes.TRIP_OVER.code
    # tests/test_arrival_stream.py checks the others.
    told = {message["type"] for message in client.told}
    assert told == set(SERVER_MESSAGES) - {"arrival", "eta"}
    for message in client.told:
        check(message, message["type"])


@pytest.mark.gen_test
async def test_before_the_acceptance_the_nulls_are_as_documented(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = Trip()
    requested = BookingEvent(trip.booking_id, "requested", trip.start, None, trip.owner_id)
    await asyncio.to_thread(store_batch, engine, [requested])
    client = await Client.join(server, trip.booking_id, owner(server, trip))
    welcome = await client.next_of("welcome")
    platform.accept(trip)
    began = await client.next_of("track_update")
    client.socket.close()
    for message in (welcome, began):
        check(message, message["type"])
    nullable = ("epoch", "phase", "runner_id", "freshness", "last_position", "recovered")
    assert [welcome[name] for name in nullable] == [None] * 6


@pytest.mark.gen_test
async def test_every_message_through_a_share_link_is_as_documented(
    server: Server, platform: Platform, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(silent_trip, engine)
    links = [share(server, trip), share(server, trip, **{"from": "pickup"})]
    clients = [await SharedClient.look(server, link["share_token"]) for link in links]
    await clients[0].next_of("freshness")
    now = datetime.now(UTC)
    occurred = (now - timedelta(seconds=1)).isoformat()
    platform.send("booking.pet_picked_up", **trip.identity(), occurred_at=occurred)
    platform.update(trip, (now - trip.start).total_seconds())
    for client in clients:
        await client.next_of("location_update")
    platform.deliver(trip, datetime.now(UTC))
    for client in clients:
        assert await client.closed() == close_codes.TRIP_OVER.code
        for message in client.told:
            check(message, schema_of(message))
    told = {schema_of(message) for client in clients for message in client.told}
    assert told == {*SHARED_MESSAGES, "backfill", "freshness"}


@pytest.mark.gen_test
async def test_every_message_of_a_replay_is_as_documented(
    server: Server, engine: sa.Engine
) -> None:
    trip = await asyncio.to_thread(silent_trip, engine)
    then, came = trip.start + timedelta(seconds=1), datetime.now(UTC) + timedelta(hours=1)
    late = LocationUpdate(
        trip.runner_id, trip.booking_id, 106.8, -6.2, None, None, then, then, came
    )
    await asyncio.to_thread(store_batch, engine, [late])
    client = await Client.join(
        server, trip.booking_id, owner(server, trip), replay=1, order="arrival"
    )
    await client.next_of("location_update")
    await client.say(type="seek", to="2020-01-01T00:00:00Z")
    await client.say(type="refresh", token=owner(server, trip))
    assert await client.closed() == close_codes.TRIP_OVER.code
    told = {message["type"] for message in client.told}
    assert told == {"welcome", "location_update", "gap", "backfill", "replay", "heartbeat"}
    for message in client.told:
        check(message, schema_of(message))
