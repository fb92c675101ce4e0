"""Trips that drive about a city, in a process of its own: `python -m bench.traffic`.

Told by JSON lines: the job (brokers, topic, trips, rate a second), then it answers when each trip
has been reported once, and goes on until it is killed. It takes a few percent of a core: what is
measured beside it shares the machine.
"""

import json
import math
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from uuid import uuid4

from kafka import KafkaProducer

from bench.driver import report

# The middle of Jakarta and what fits a map of 1280 by 800 at zoom 14, half of it each way.
LATITUDE, LONGITUDE = -6.2146, 106.8272
HALF_HIGH, HALF_WIDE = 0.012, 0.02
METRES_A_DEGREE: Final = 111_195.0
SPEEDS_MS: Final = (8.0, 17.0)
BATCHES_A_SECOND: Final = 10


@dataclass
class Vehicle:
    """Drives straight on; at the edge of the town it turns."""

    identity: dict[str, str]
    latitude: float
    longitude: float
    heading: float
    speed_ms: float
    at: float

    def drive(self, now: float) -> None:
        away = self.speed_ms * (now - self.at) / METRES_A_DEGREE
        self.at = now
        self.latitude += away * math.cos(self.heading)
        self.longitude += away * math.sin(self.heading)
        if abs(self.latitude - LATITUDE) > HALF_HIGH:
            self.heading = math.pi - self.heading
            self.latitude = min(max(self.latitude, LATITUDE - HALF_HIGH), LATITUDE + HALF_HIGH)
        if abs(self.longitude - LONGITUDE) > HALF_WIDE:
            self.heading = -self.heading
            self.longitude = min(max(self.longitude, LONGITUDE - HALF_WIDE), LONGITUDE + HALF_WIDE)


def vehicle(identity: dict[str, str], random: Random) -> Vehicle:
    """Somewhere in the town."""
    return Vehicle(
        identity, LATITUDE + random.uniform(-HALF_HIGH, HALF_HIGH),
        LONGITUDE + random.uniform(-HALF_WIDE, HALF_WIDE),
        random.uniform(0, 2 * math.pi), random.uniform(*SPEEDS_MS), time.monotonic(),
    )  # fmt: skip


def send(producer: KafkaProducer, topic: str, each: Vehicle) -> None:
    """Where it is now."""
    each.drive(time.monotonic())
    event_id = str(uuid4())
    value = report(each.identity, each.latitude, each.longitude, datetime.now(UTC), event_id)
    producer.send(topic, key=event_id.encode(), value=value)


def main() -> None:
    """Until it is killed."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    producer = KafkaProducer(bootstrap_servers=job["brokers"], linger_ms=20, batch_size=262_144)
    random = Random(7)
    vehicles = [vehicle(identity, random) for identity in job["trips"]]
    for each in vehicles:
        send(producer, job["topic"], each)
    producer.flush(timeout=60)
    print(json.dumps({"reported": len(vehicles)}), flush=True)
    number, due = 0, time.monotonic()
    while True:
        for _ in range(job["rate"] // BATCHES_A_SECOND):
            send(producer, job["topic"], vehicles[number % len(vehicles)])
            number += 1
        due += 1 / BATCHES_A_SECOND
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
