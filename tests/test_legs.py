"""tracking.domain.legs: which ways a trip has, and when the event that ends one is an arrival."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from tracking.domain.arrivals import Arrival, Visit
from tracking.domain.legs import Course, Leg, current, is_same_visit, standing, ways_of

PICKUP, DROPOFF = (106.8, -6.2), (106.9, -6.3)
ACCEPTED = Course(100.0, None, None, False, PICKUP, DROPOFF)


def ends(course: Course) -> list[tuple[str, float, float | None]]:
    return [(way.end, way.from_s, way.to_s) for way in ways_of(course)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("pickup", 100, None)]),
        ({"picked_up_s": 200.0}, [("pickup", 100, 200), ("dropoff", 200, None)]),
        ({"picked_up_s": 200.0, "ended_s": 300.0, "is_delivered": True},
         [("pickup", 100, 200), ("dropoff", 200, 300)]),
        ({"ended_s": 300.0, "is_delivered": True}, [("pickup", 100, 300), ("dropoff", 100, 300)]),
        ({"ended_s": 300.0}, [("pickup", 100, None)]),
        ({"picked_up_s": 200.0, "ended_s": 300.0}, [("pickup", 100, 200), ("dropoff", 200, None)]),
        ({"pickup": None, "dropoff": None, "picked_up_s": 200.0}, []),
    ],
    ids=["accepted", "picked up", "delivered", "nobody said when it was picked up", "cancelled",
         "cancelled on the way", "no places"],
)  # fmt: skip
def test_a_way_ends_with_the_event_that_says_so(
    changes: dict[str, float], expected: object
) -> None:
    assert ends(replace(ACCEPTED, **changes)) == expected


def test_the_current_way_is_the_phases() -> None:
    legs = [Leg("pickup", "arrived"), Leg("dropoff", "approaching")]
    assert [current(legs, phase) for phase in ("to_pickup", "to_dropoff", "done", None)] == [
        *legs, None, None,
    ]  # fmt: skip
    assert current(legs[:1], "to_dropoff") is None


def test_how_somebody_stands_is_one_word_and_since_when() -> None:
    near, there, gone = (datetime.fromtimestamp(second, UTC) for second in (400, 500, 600))
    approaching = Leg("pickup", "approaching", near)
    assert standing(None) is standing(Leg("pickup")) is None
    assert standing(approaching) == ("approaching", near)
    assert standing(replace(approaching, left_at=gone)) == ("left", gone)
    arrived = replace(approaching, state="arrived", arrived_at=there, detected_at=gone)
    assert standing(arrived) == ("arrived", there)


def test_a_visit_that_was_left_was_one_and_another_was_not() -> None:
    told = Leg("pickup", "arrived", arrived_at=datetime.fromtimestamp(500, UTC))
    assert is_same_visit(told, Arrival(before=Visit(7, 500.0, 9, 540.0)))
    assert not is_same_visit(told, Arrival(before=Visit(7, 510.0, 9, 540.0)))
    assert not is_same_visit(told, Arrival())
