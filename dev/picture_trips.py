"""The trips of dev.pictures: each in a state of its own, from one seed, told to Kafka as it was."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from kafka import KafkaProducer

from dev.events import Event, Form, LocationUpdate, encoder
from dev.faults import SECOND_NS
from dev.trip_events import events_of
from dev.trips import Plan, Trip, trips_of

INTERVAL_S: Final = 2.0
FLEET: Final = 60
# Of the gap: seconds before now.
GAP_S: Final = (170.0, 50.0)
# The silent phone was heard last so many seconds ago.
SILENT_S: Final = 40.0
# None that is shown under way ends before its picture is taken.
LONG_S: Final = 1500.0
SLOW: Final = 0.6

Keep = Callable[[float], bool]  # a position of so many seconds ago


class Stage:
    """Sends what lies in the past at once, and the rest when it is due, from its own thread."""

    def __init__(self, brokers: str, prefix: str, seed: int) -> None:
        self._now_ns = time.time_ns()
        self._producer = KafkaProducer(bootstrap_servers=brokers.split(","), linger_ms=20)
        self._encode = encoder(Form.STRUCTURED, prefix)
        self._due: list[Iterator[Event]] = []
        self._withheld: list[Event] = []
        self._stop = threading.Event()
        self.live = self._trip(seed, 420)
        self.early = self._trip(seed + 1, 60, lambda _: False)
        self.gap = self._trip(seed + 2, 420, self._outside_gap)
        self.silent = self._trip(seed + 3, 420, lambda ago_s: ago_s > SILENT_S)
        self.over = self._trip(seed + 4, 3000, speed=1.0, least_s=0)
        self.fleet = [self._trip(seed + 10 + n, 200 + 7 * n, least_s=0) for n in range(FLEET)]
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self) -> "Stage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close(timeout=5)

    def fill(self, share: float) -> None:
        """Send so large a part of what the gap's phone has kept."""
        count = max(2, round(len(self._withheld) * share))
        chosen, self._withheld = self._withheld[:count], self._withheld[count:]
        self._send(chosen)

    @property
    def over_number(self) -> str:
        """The finished booking's number, to be searched for."""
        return str(next(events_of(self.over)).data.booking_number)  # type: ignore[union-attr]

    def _trip(
        self, seed: int, ago_s: float, keep: Keep = lambda _: True, speed: float = SLOW,
        least_s: float = LONG_S,
    ) -> Trip:  # fmt: skip
        start_ns = self._now_ns - round(ago_s * SECOND_NS)
        trip = _first(seed, start_ns, speed)
        while least_s and trip.course.delivered_s < least_s:
            seed += 1000
            trip = _first(seed, start_ns, speed)
        self._due.append(self._kept(trip, keep))
        return trip

    def _kept(self, trip: Trip, keep: Keep) -> Iterator[Event]:
        for event in events_of(trip):
            ago_s = (self._now_ns - event.due_ns) / SECOND_NS
            if not isinstance(event.data, LocationUpdate) or keep(ago_s):
                yield event
            elif GAP_S[1] < ago_s < GAP_S[0] and trip is self.gap:
                self._withheld.append(event)

    @staticmethod
    def _outside_gap(ago_s: float) -> bool:
        return not GAP_S[1] < ago_s < GAP_S[0]

    def _drive(self) -> None:
        """Until it is stopped, twice a second."""
        waiting = {index: next(events) for index, events in enumerate(self._due)}
        while True:
            now_ns, chosen = time.time_ns(), []
            for index, event in list(waiting.items()):
                following: Event | None = event
                while following is not None and following.due_ns <= now_ns:
                    chosen.append(following)
                    following = next(self._due[index], None)
                if following is None:
                    del waiting[index]
                else:
                    waiting[index] = following
            self._send(chosen)
            if self._stop.wait(0.5):
                return

    def _send(self, events: list[Event]) -> None:
        for event in events:
            topic, key, value, headers = self._encode(event)
            self._producer.send(topic, key=key, value=value, headers=headers)
        self._producer.flush(timeout=30)


def _first(seed: int, start_ns: int, speed: float) -> Trip:
    plan = Plan(seed=seed, runners=1, interval_s=INTERVAL_S, start_ns=start_ns, speed=speed)
    return next(trips_of(plan, 0))
