"""Payloads that can never be an event: what producers with a bug have sent, and will send."""

import json
from collections.abc import Iterator
from typing import Any, Final

from tests.running import envelope

UPDATE: Final[dict[str, Any]] = {
    "runner_id": "0a4ab6b4-30ae-4c5f-8b36-0d8f8d1b5a55",
    "booking_id": "5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10",
    "latitude": -6.2,
    "longitude": 106.8,
    "speed_kmh": 36.5,
    "heading_degrees": 90,
    "timestamp": "2026-02-06T10:30:59Z",
    "occurred_at": "2026-02-06T10:31:00Z",
}
ACCEPTED: Final[dict[str, Any]] = {
    "booking_id": "5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10",
    "booking_number": "BK-1",
    "runner_id": "0a4ab6b4-30ae-4c5f-8b36-0d8f8d1b5a55",
    "owner_id": "c1a0e5ce-8f6c-4b53-a9f6-1de26b2b7d3d",
    "occurred_at": "2026-02-06T10:30:00.12Z",
}

# None is a tombstone.
BYTES: Final[tuple[bytes | None, ...]] = (
    None,
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe\x00",
    b"\x00" * 40,
    b"<xml/>",
    b"{" * 5_000,
    b'{"type": "runner.location_update"}',
    b'{"type": 7, "data": {}}',
    b'{"type": "runner.location_update", "data": {"latitude": NaN}}',
    b'{"type": "runner.location_update", "data": {"latitude": ' + b"9" * 5_000 + b"}}",
    b'{"type": "runner.location_update", "data": ' + b"[" * 50_000 + b"}",
    b'{"type": "booking.accepted", "data": {"booking_id": "\\ud800"}}',
)
# What replaces one field each of a good update; a detail that cannot be used costs no event.
FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"latitude": "-6.2"},
    {"latitude": None},
    {"latitude": 91},
    {"longitude": -181},
    {"longitude": True},
    {"longitude": 10**400},
    {"timestamp": "2026-02-06T10:30:00"},
    {"timestamp": 1_770_373_800_000},
    {"timestamp": "9999-12-31T23:59:59Z"},
    {"timestamp": "yesterday"},
    {"runner_id": "runner-1"},
    {"runner_id": None},
    {"booking_id": ""},
    {"booking_id": ["5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10"]},
)
ACCEPTED_FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"owner_id": None},
    {"runner_id": 5},
    {"occurred_at": "2026-13-45T00:00:00Z"},
)


def corpus() -> Iterator[bytes | None]:
    """Values for the topics `booking.events` and `runner.events`, every one of them dead."""
    yield from BYTES
    for change in FIELDS:
        yield json.dumps(envelope("runner.location_update", {**UPDATE, **change})).encode()
    for field in ("runner_id", "latitude", "longitude", "timestamp"):
        data = {name: value for name, value in UPDATE.items() if name != field}
        yield json.dumps(envelope("runner.location_update", data)).encode()
    for change in ACCEPTED_FIELDS:
        yield json.dumps(envelope("booking.accepted", {**ACCEPTED, **change})).encode()
