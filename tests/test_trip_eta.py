"""tracking.domain.trip_eta: an ETA only where there is an honest one, and else why not."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tracking.domain.arrivals import Way
from tracking.domain.eta import BANDS_M, Eta, History, NoEta, Sample
from tracking.domain.hops import Recorded
from tracking.domain.legs import Leg
from tracking.domain.trip_eta import FARTHEST_SOON_M, Ends, is_soon, soon_m, trip_eta
from tracking.domain.waypoints import StoredWaypoint

AT = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
LAST = StoredWaypoint(uuid4(), uuid4(), 7, uuid4(), 106.8, -6.2, None, None, AT, AT, False)
ENDS = Ends((106.81, -6.2), (106.82, -6.2))  # 1.1 and 2.2 km away


def history() -> History:
    """Ten metres a second."""
    known = History()
    for metres in (100.0, *(limit + 10 for limit in BANDS_M)):
        for _ in range(40):
            known.add(Sample("to_pickup", metres, metres / 10))
            known.add(Sample("to_dropoff", metres, metres / 5))
    return known


def asked(known: History | None = None, **changes: Any) -> Eta | NoEta:
    usual: dict[str, Any] = {
        "status": "active", "phase": "to_pickup", "ends": ENDS, "legs": (), "last": LAST,
        "is_live": True,
    }  # fmt: skip
    return trip_eta(history() if known is None else known, **(usual | changes))


@pytest.mark.parametrize(("phase", "seconds"), [("to_pickup", 110.5), ("to_dropoff", 442)])
def test_it_is_to_the_end_of_the_present_way(phase: str, seconds: float) -> None:
    eta = asked(phase=phase)
    assert isinstance(eta, Eta)
    assert eta.arrives_at - AT.timestamp() == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("ended", {"status": "completed", "phase": "done"}),
        ("ended", {"status": "cancelled", "phase": "done", "last": None}),
        ("no_destination", {"ends": Ends(None, (106.82, -6.2))}),
        ("no_destination", {"status": "requested", "phase": None}),
        ("arrived", {"legs": (Leg("pickup", "arrived"),)}),
        ("stale", {"is_live": False}),
        ("stale", {"last": None}),
        ("not_enough_history", {"known": History()}),
    ],
)
def test_without_an_honest_answer_there_is_a_reason(reason: str, changes: dict[str, Any]) -> None:
    assert asked(**changes) == NoEta(reason)  # type: ignore[arg-type]


def test_who_has_arrived_at_the_pickup_has_not_at_the_dropoff() -> None:
    assert isinstance(asked(phase="to_dropoff", legs=(Leg("pickup", "arrived"),)), Eta)


def test_three_minutes_are_soon() -> None:
    def soon(longitude: float) -> bool:
        return is_soon(
            history(), Way("pickup", longitude, -6.2, 0.0), Recorded(1, 0.0, 106.8, -6.2)
        )

    assert soon(106.8 + 1_790 / 110_500)  # 179 s away
    assert not soon(106.8 + 1_850 / 110_500)
    assert not is_soon(History(), Way("pickup", 106.8, -6.2, 0.0), Recorded(1, 0.0, 106.8, -6.2))


def test_soon_begins_as_far_away_as_runners_are_fast() -> None:
    """At ten metres a second 1,800 m, at five 900: and no step too near."""
    assert 1_800 < soon_m(history(), "pickup") <= 1_900
    assert 900 <= soon_m(history(), "dropoff") <= 1_000
    assert soon_m(History(), "pickup") == 0
    fast = History()
    for metres in (limit + 10 for limit in BANDS_M):
        for _ in range(40):
            fast.add(Sample("to_pickup", metres, metres / 40))
    assert soon_m(fast, "pickup") == FARTHEST_SOON_M + 100
