"""tracking.wire.replay_protocol: what clients may say, and the frames of live viewers."""

from uuid import uuid4

import pytest

from tests.viewing import AT, stored_waypoint
from tracking.domain.playback import Shown
from tracking.errors import InvalidRequest
from tracking.wire.messages import location_update
from tracking.wire.protocol import late_waypoints
from tracking.wire.replay_protocol import (
    Pause,
    Resume,
    Seek,
    Speed,
    client_message,
    shown,
    sought,
)


def test_a_client_says_where_and_how_fast() -> None:
    seek = client_message('{"type": "seek", "to": "2026-02-06T10:30:00Z", "more": 1}')
    assert isinstance(seek, Seek)
    assert sought(seek) == AT.replace(microsecond=0)
    assert client_message('{"type": "speed", "speed": 60}') == Speed(60)
    assert client_message('{"type": "speed", "speed": 0.25}') == Speed(0.25)
    assert client_message('{"type": "pause"}') == Pause()
    assert client_message('{"type": "resume"}') == Resume()


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{", '{"type": "stop"}', '{"type": "seek"}', '{"type": "speed", "speed": 0}',
        '{"type": "speed", "speed": 60.1}', '{"type": "speed", "speed": "5"}',
        '{"type": "speed", "speed": NaN}', '{"type": "seek", "to": 5}',
    ],
)  # fmt: skip
def test_nothing_else_is_understood(text: str) -> None:
    with pytest.raises(InvalidRequest):
        client_message(text)


def test_what_is_sought_is_a_time() -> None:
    with pytest.raises(InvalidRequest):
        sought(Seek("yesterday"))


def test_what_is_shown_are_the_frames_of_live_viewers() -> None:
    booking = uuid4()
    waypoints = [stored_waypoint(booking, 1), stored_waypoint(booking, 2)]
    assert shown(Shown(AT, waypoints[:1])) == location_update(waypoints[0]).frame
    assert shown(Shown(AT, waypoints, is_late=True)) == late_waypoints(waypoints).frame
