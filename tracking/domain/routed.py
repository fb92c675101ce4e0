"""What a router said of the way from a waypoint, and for how long that is worth something. Pure."""

from typing import Final

from msgspec import Struct

from tracking.domain.arrivals import Way
from tracking.domain.hops import Recorded, is_within, metres_between

# It is asked again after 200 m or a minute; twice that is when nobody answers any more.
USABLE_M: Final = 400.0
USABLE_S: Final = 120.0


class Answer(Struct, frozen=True):
    """From `start` to the end of `way` it takes `seconds`, says the router; it knows no traffic."""

    way: Way
    start: Recorded
    seconds: float

    @property
    def metres(self) -> float:
        """From there in a straight line: it tells the distance band."""
        return metres_between(self.way.longitude, self.way.latitude, self.start)


def is_usable(answer: Answer, way: Way, last: Recorded) -> bool:
    """For a runner on this way whose newest waypoint is `last`."""
    is_recent = 0 <= last.at_s - answer.start.at_s <= USABLE_S
    return answer.way == way and is_recent and is_within(answer.start, last, USABLE_M)
