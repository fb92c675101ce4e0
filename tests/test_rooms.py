"""tracking.rooms and tracking.messages: who watches, and what they get."""

import json
from datetime import UTC, datetime
from uuid import uuid4

from tracking.messages import Message, location_update, rfc3339, text_frame, whole_seconds
from tracking.rooms import Rooms
from tracking.store.rows import StoredWaypoint, TrackChange

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


class Viewer:
    """Takes everything."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def take(self, message: Message) -> int | None:
        self.messages.append(message)
        return None

    def sent(self, message: Message, count: int) -> None:
        """Never told: nothing is sent."""

    def track_changed(self, change: TrackChange) -> None:
        """Nothing to do."""


def test_memory_follows_the_viewers() -> None:
    rooms, booking_id, viewers = Rooms(), uuid4(), [Viewer(), Viewer()]
    for viewer in viewers * 2:
        rooms.join(booking_id, viewer)
    assert (len(rooms), rooms.subscribers) == (1, 2)
    for viewer in viewers * 2:
        rooms.leave(booking_id, viewer)
    assert (len(rooms), rooms.subscribers) == (0, 0)
    assert rooms.room(booking_id) is None


def test_everybody_may_leave_while_they_are_counted() -> None:
    rooms, viewers = Rooms(), [Viewer() for _ in range(10)]
    places = {viewer: uuid4() for viewer in viewers}
    for viewer, booking_id in places.items():
        rooms.join(booking_id, viewer)
    left = 0
    for subscriber in rooms.everybody():
        assert isinstance(subscriber, Viewer)
        rooms.leave(places[subscriber], subscriber)
        left += 1
    assert left == 10
    assert len(rooms) == 0


def test_a_frame_is_what_rfc_6455_asks_for() -> None:
    assert text_frame(b"Hello") == bytes.fromhex("810548656c6c6f")  # section 5.7
    assert text_frame(b"x" * 256)[:4] == bytes.fromhex("817e0100")
    assert text_frame(b"x" * 65536)[:10] == bytes.fromhex("817f0000000000010000")


def test_the_apps_find_no_null_and_no_fraction_of_a_second() -> None:
    waypoint = StoredWaypoint(uuid4(), uuid4(), 7, uuid4(), 106.81234567, -6.2, None, None, AT, AT,
                              late=False)  # fmt: skip
    message = location_update(waypoint)
    text = json.loads(message.frame[4:])
    assert message.seq == text["seq"] == 7
    assert (text["speed_kmh"], text["heading_degrees"]) == (0.0, 0.0)
    assert text["timestamp"] == "2026-02-06T10:30:00Z"
    assert text["recorded_at"] == "2026-02-06T10:30:00.999999Z"
    assert text["longitude"] == 106.812346
    assert (whole_seconds(AT), rfc3339(AT)) == (text["timestamp"], text["recorded_at"])
