"""The trips of a load: what booking and runner services would say of them. Pure, from a seed.

Every number and id comes from the given Random, every time counts from the given start: the same
seed gives the same load again.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from tests.running import stamp

# Between two reports of a phone.
INTERVAL_S: Final = 5


class Said(NamedTuple):
    """An event, and when its producer comes to say it: seconds since the load's first one."""

    order: float
    type: str
    data: dict[str, Any]


class Trip:
    """One booking, its people, and everything that is said of it."""

    def __init__(self, random: Random, start: datetime, reports: int) -> None:
        self.random = random
        self.start = start
        self.reports = reports
        self.booking_id, self.owner_id, self.runner_id = (self.id() for _ in range(3))
        self.place = [random.uniform(106, 107), random.uniform(-7, -6)]
        self.said: list[Said] = []

    @property
    def end(self) -> float:
        return self.reports * INTERVAL_S

    def id(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def at(self, second: float) -> str:
        return stamp(self.start + timedelta(seconds=second))

    def booking(self, word: str, second: float, order: float | None = None, **more: Any) -> None:
        data = {
            "booking_id": self.booking_id,
            "booking_number": f"BK-{self.booking_id[:8]}",
            "runner_id": self.runner_id,
            "owner_id": self.owner_id,
            "occurred_at": self.at(second),
            **more,
        }
        self.said.append(Said(second if order is None else order, f"booking.{word}", data))

    def update(self, second: float, order: float | None = None, **more: Any) -> None:
        """A phone's report; one that comes late was sent late, and says so."""
        order = second if order is None else order
        # So slow that no verdict leaves it out, in whatever order it comes: tests have that.
        self.place = [p + self.random.gauss(0, 3e-5) for p in self.place]
        data = {
            "runner_id": self.runner_id,
            "booking_id": self.booking_id,
            "latitude": round(self.place[1], 6),
            "longitude": round(self.place[0], 6),
            "speed_kmh": self.random.choice([-1, round(self.random.uniform(0, 60), 2)]),
            "heading_degrees": self.random.choice([-1, round(self.random.uniform(0, 360), 1)]),
            "timestamp": self.at(second),
            "occurred_at": self.at(max(second, order)),
            **more,
        }
        self.said.append(
            Said(order, "runner.location_update", {k: v for k, v in data.items() if v is not None})
        )

    def drive(self, first: int = 1, last: int | None = None, **more: Any) -> None:
        for number in range(first, (self.reports if last is None else last) + 1):
            self.update(number * INTERVAL_S, **more)

    def finish(self) -> None:
        self.booking("delivery_confirmed", self.end + 1, delivered_at=self.at(self.end + 1))
        self.booking("completed", self.end + 3, final_price_cents=1200, currency="IDR")


def plain(trip: Trip) -> None:
    """As it is planned."""
    trip.booking("accepted", 0)
    trip.booking("pet_picked_up", trip.end / 3, picked_up_at=trip.at(trip.end / 3))
    trip.drive()
    trip.finish()


def early(trip: Trip) -> None:
    """The updates come before the acceptance, which lags."""
    trip.booking("accepted", 0, order=trip.end * 0.7)
    trip.drive()
    trip.finish()


def unnamed(trip: Trip) -> None:
    """The phone does not know its booking; the acceptance comes in the middle."""
    trip.booking("accepted", 0, order=trip.end * 0.4)
    trip.drive(booking_id=None)
    trip.finish()


def tunnels(trip: Trip) -> None:
    """Two buffers come late, the second one after the delivery was told."""
    trip.booking("accepted", 0)
    out = dict.fromkeys(range(trip.reports // 4, trip.reports // 3), trip.end * 0.6)
    out |= dict.fromkeys(range(trip.reports * 5 // 6, trip.reports), trip.end + 60)
    for number in range(1, trip.reports + 1):
        trip.update(number * INTERVAL_S, out.get(number))
    trip.finish()


def handed_over(trip: Trip) -> None:
    """The first runner gives up; another one accepts. The first one's phone goes on for a while."""
    half = trip.reports // 2
    first, second = trip.runner_id, trip.id()
    trip.booking("accepted", 0)
    trip.drive(1, half + trip.reports // 4)
    trip.runner_id = second
    trip.booking("accepted", half * INTERVAL_S + 2)
    trip.drive(half + 1)
    trip.finish()
    trip.runner_id = first


def cancelled(trip: Trip) -> None:
    """Cancelled halfway, told late: updates from after it are stored by then."""
    half = trip.end / 2
    trip.booking("accepted", 0)
    trip.drive()
    trip.booking("cancelled", half, order=half + 90, cancelled_by="owner", reason="changed plans")


def future(trip: Trip) -> None:
    """The phone's clock is a year ahead now and then."""
    trip.booking("accepted", 0)
    for number in range(1, trip.reports + 1):
        second = number * INTERVAL_S
        wrong = trip.random.random() < 0.2
        trip.update(second, timestamp=trip.at(second + wrong * 365 * 86_400))
    trip.finish()


def two_phones(trip: Trip) -> None:
    """The runner carries two phones, which see different places at times of their own."""
    trip.booking("accepted", 0)
    trip.drive()
    for number in range(1, trip.reports + 1):
        trip.update(number * INTERVAL_S + 1.5)
    trip.finish()


def night(trip: Trip) -> None:
    """Across midnight and into a new month, long enough ago that nobody made its partition."""
    this_month = trip.start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    trip.start = last_month - timedelta(seconds=trip.end / 2)
    plain(trip)


def too_late(trip: Trip) -> None:
    """Reports from well after the delivery are nobody's."""
    plain(trip)
    for number in range(5):
        trip.update(trip.end + 120 + number)


KINDS: Final[tuple[Callable[[Trip], None], ...]] = (
    plain, early, unnamed, tunnels, handed_over, cancelled, future, two_phones, night, too_late,
)  # fmt: skip
# Trips whose marker only ever goes forward: nothing that was shown leaves their route.
WATCHABLE: Final = (plain, tunnels, two_phones)


def trips(
    random: Random, start: datetime, events: int, reports: int = 40,
    kinds: tuple[Callable[[Trip], None], ...] = KINDS,
) -> Iterator[tuple[str, Trip]]:  # fmt: skip
    """Trips of all kinds in turn, with about so many events in all."""
    left, number = events, 0
    while left > 0:
        tell = kinds[number % len(kinds)]
        trip = Trip(random, start + timedelta(seconds=random.uniform(0, 20)), reports)
        tell(trip)
        yield tell.__name__, trip
        left, number = left - len(trip.said), number + 1
