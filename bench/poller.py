"""Bare kafka-python: the floor under everything. A process of its own, prints JSON."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition


def consumer_of(job: dict[str, Any]) -> KafkaConsumer:
    options = job.get("options", {"max_poll_records": 500})
    consumer = KafkaConsumer(bootstrap_servers=job["brokers"], group_id=None, **options)
    parts = consumer.partitions_for_topic(job["topic"]) or ()
    consumer.assign([TopicPartition(job["topic"], number) for number in sorted(parts)])
    return consumer


def latencies(job: dict[str, Any]) -> list[float]:
    """Milliseconds from send() to poll(), of the next `count` records."""
    consumer = consumer_of(job)
    consumer.seek_to_end()
    for place in consumer.assignment():
        consumer.position(place)
    print("ready", flush=True)
    found: list[float] = []
    while len(found) < job["count"]:
        for records in consumer.poll(timeout_ms=100).values():
            now = datetime.now(UTC)
            for record in records:
                sent = json.loads(record.value)["data"]["timestamp"]
                found.append((now - datetime.fromisoformat(sent)).total_seconds() * 1000)
    return found


def rate(job: dict[str, Any]) -> float:
    """Records a second of a loop that only counts."""
    consumer = consumer_of(job)
    consumer.seek_to_beginning()
    count, started = 0, 0.0
    while count < job["count"]:
        polled = sum(len(records) for records in consumer.poll(timeout_ms=1000).values())
        started = started or time.perf_counter()
        count += polled
    return count / (time.perf_counter() - started)


def main() -> None:
    """The job is one JSON object on standard input."""
    job = json.load(sys.stdin)
    print(json.dumps(latencies(job) if job["kind"] == "latencies" else rate(job)), flush=True)


if __name__ == "__main__":
    main()
