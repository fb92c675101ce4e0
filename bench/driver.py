"""Produces location updates, in a process of its own: `python -m bench.driver` reads a job."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from kafka import KafkaProducer


def update(trip: dict[str, str], number: int, at: datetime, event_id: str | None = None) -> bytes:
    """One `runner.location_update` in its envelope; `timestamp` is when it was sent."""
    latitude = -6.2 + (number % 100) * 1e-4
    return report(trip, latitude, round(106.8 + (number % 7919) * 1e-5, 6), at, event_id)


def report(
    trip: dict[str, str], latitude: float, longitude: float, at: datetime, event_id: str | None
) -> bytes:
    """The same of a certain place."""
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    return json.dumps(
        {
            "id": event_id or str(uuid4()),
            "source": "service-runner",
            "type": "runner.location_update",
            "time": stamp,
            "datacontenttype": "application/json",
            "data": {
                "runner_id": trip["runner_id"],
                "booking_id": trip["booking_id"],
                "latitude": latitude,
                "longitude": longitude,
                "speed_kmh": 36.5,
                "heading_degrees": 90.0,
                "timestamp": stamp,
                "occurred_at": stamp,
            },
        }
    ).encode()


def paced(producer: KafkaProducer, job: dict[str, Any]) -> None:
    """Open loop: an update is due at its time, whether or not the one before has arrived."""
    start = time.perf_counter()
    for number in range(int(job["rate"] * job["seconds"])):
        due = start + number / job["rate"]
        while (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        trip = job["trips"][number % len(job["trips"])]
        event_id = str(uuid4())
        # The platform's key is the event's id. One partition for each trip, where it is asked for:
        # what overtakes is stored, but is no live position.
        key = trip["booking_id"] if job.get("keyed") else event_id
        value = update(trip, number, datetime.now(UTC), event_id)
        producer.send(job["topic"], key=key.encode(), value=value)


def main() -> None:
    """The job is one JSON object on standard input."""
    job = json.load(sys.stdin)
    producer = KafkaProducer(bootstrap_servers=job["brokers"])
    paced(producer, job)
    producer.flush(timeout=60)
    producer.close(timeout=5)


if __name__ == "__main__":
    main()
