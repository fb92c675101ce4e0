"""What the platform produces: topics of six partitions, record keys that are random event ids."""

import heapq
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError

from bench.driver import report
from tests.running import Trip

PARTITIONS: Final = 6
# A service runs in several processes, each with a producer of its own: what they send at the same
# moment reaches a partition in any order.
PRODUCERS: Final = 3


def make_topics(brokers: str, prefix: str, partitions: int = PARTITIONS) -> None:
    """The topics of the booking and runner services."""
    names = [f"{prefix}.booking.events", f"{prefix}.runner.events"]
    with (
        closing(KafkaAdminClient(bootstrap_servers=brokers)) as admin,
        suppress(TopicAlreadyExistsError),
    ):
        admin.create_topics([NewTopic(name, partitions, 1) for name in names])


def values(
    fleet: list[Trip], count: int, poison: float, *, jumps: float = 0.0, late: float = 0.0
) -> Iterator[bytes]:
    """Every trip's updates one second and 11 m apart, the trips in turn; evenly spread poison.

    `jumps`: the share that is on another island; `late`: that comes some ten of its trip later.
    """
    people = [trip.identity() for trip in fleet]
    chance, held = random.Random(7), list[tuple[int, bytes]]()
    for number in range(count):
        second, trip = divmod(number, len(fleet))
        latitude = -6.2 - (chance.random() < jumps) * 2.5
        place = latitude, round(106.8 + second * 1e-4, 6)
        value = report(people[trip], *place, fleet[trip].at(1 + second), None)
        if int(number * poison) != int((number + 1) * poison):
            value = value.replace(b'"latitude"', b'"attitude"')
        if chance.random() < late:
            heapq.heappush(held, (number + chance.randrange(5, 15) * len(fleet), value))
        else:
            yield value
        while held and held[0][0] <= number:
            yield heapq.heappop(held)[1]
    yield from (value for _, value in held)


def produce(
    brokers: str, topic: str, values: Iterable[bytes], *, keyed: bool = True,
    by_booking: bool = False,
) -> None:  # fmt: skip
    """As fast as they can; returns when all are acknowledged. Not keyed: by one producer."""
    key_of = booking_id if by_booking else event_id
    producers = [
        KafkaProducer(bootstrap_servers=brokers, linger_ms=20, batch_size=262_144)
        for _ in range(PRODUCERS if keyed else 1)
    ]
    for value in values:
        random.choice(producers).send(topic, key=key_of(value) if keyed else None, value=value)
    for producer in producers:
        producer.flush(timeout=120)
        producer.close(timeout=5)


def drive(job: dict[str, Any]) -> None:
    """Have `bench.driver` produce a paced load, until all of it is acknowledged.

    The job: brokers, topic, rate (updates a second), seconds, and the trips' identities.
    """
    driver = [sys.executable, "-m", "bench.driver"]
    subprocess.run(driver, input=json.dumps(job), text=True, check=True)


def event_id(value: bytes) -> bytes:
    """The `id` with which `update` begins, as the record key."""
    return str(UUID(value[8:44].decode())).encode()


def booking_id(value: bytes) -> bytes:
    """The other key that a platform may choose."""
    return str(json.loads(value)["data"]["booking_id"]).encode()
