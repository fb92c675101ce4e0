"""README.md: its examples are what the service takes and gives, its targets are there."""

import asyncio
import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.running import CHECKOUT, Platform, Server, Trip, wait_until
from tracking.domain.decoding import decode
from tracking.settings import Settings

README = (CHECKOUT / "README.md").read_text()
EXAMPLES: list[dict[str, Any]] = [
    json.loads(text) for text in re.findall(r"```json\n(.*?)```", README, re.DOTALL)
]
EVENTS = [example for example in EXAMPLES if "source" in example]
(ANSWER,) = (example for example in EXAMPLES if "success" in example)
(FRAME,) = (example for example in EXAMPLES if "timestamp" in example)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["type"]))
def test_an_example_event_is_one(event: dict[str, Any]) -> None:
    topic = f"{event['type'].partition('.')[0]}.events"
    decoded = decode(topic, json.dumps(event).encode(), [], datetime.now(UTC))
    assert decoded.event is not None


@pytest.mark.gen_test
async def test_the_example_answers_are_what_the_service_says(
    server: Server, platform: Platform
) -> None:
    trip = Trip()
    platform.accept(trip)
    platform.update(trip, 1)
    token = server.token(trip.owner_id, "owner")
    path = f"/api/v1/tracking/{trip.booking_id}"

    def stored() -> bool:
        status, body, _ = server.get(path, token)
        return status == 200 and body["data"]["seq"] == 1

    await asyncio.to_thread(wait_until, stored, "one waypoint")
    data = server.get(path, token)[1]["data"]
    assert set(data) == set(ANSWER["data"])
    assert set(data["waypoints"][0]) == set(ANSWER["data"]["waypoints"][0])
    socket = await server.watch(trip.booking_id, token)
    frame = await asyncio.wait_for(socket.read_message(), 50)
    socket.close()
    assert isinstance(frame, str)
    assert {k: type(v) for k, v in json.loads(frame).items()} == {
        k: type(v) for k, v in FRAME.items()
    }


def test_every_target_and_file_that_is_named_exists() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z-]+)", README):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (CHECKOUT / link).exists(), link


def test_every_setting_and_metric_is_in_the_operators_page(server: Server) -> None:
    page = (CHECKOUT / "docs" / "operations.md").read_text()
    for each in fields(Settings):
        assert f"`{each.name.upper()}`" in page
    metrics = page.partition("## Metrics")[2]
    text: str = server.get("/metrics")[1].decode()
    for name in re.findall(r"`(tracking_\w+?)(?:\{[a-z,]+\})?`", metrics):
        assert f"# HELP {name} " in text, name
