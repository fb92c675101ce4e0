"""tracking.wire.messages: bytes as the apps and RFC 6455 want them."""

import json
from datetime import UTC, datetime
from uuid import uuid4

from tracking.domain.times import rfc3339
from tracking.domain.waypoints import StoredWaypoint
from tracking.wire.messages import location_update, text_frame, whole_seconds

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


def test_a_frame_is_what_rfc_6455_asks_for() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("810548656c6c6f")  # section 5.7
    assert text_frame(b"x" * 256)[:4] == bytes.fromhex("817e0100")
    assert text_frame(b"x" * 65536)[:10] == bytes.fromhex("817f0000000000010000")


def test_the_apps_find_no_null_and_no_fraction_of_a_second() -> None:
    stored = StoredWaypoint(uuid4(), uuid4(), 7, uuid4(), 106.81234567, -6.2, None, None, AT, AT,
                            late=False)  # fmt: skip
    message = location_update(stored)
    text = json.loads(message.frame[4:])
    assert message.seq == text["seq"] == 7
    assert (text["speed_kmh"], text["heading_degrees"]) == (0.0, 0.0)
    assert text["timestamp"] == "2026-02-06T10:30:00Z"
    assert text["recorded_at"] == "2026-02-06T10:30:00.999999Z"
    assert text["longitude"] == 106.812346
    assert (whole_seconds(AT), rfc3339(AT)) == (text["timestamp"], text["recorded_at"])
