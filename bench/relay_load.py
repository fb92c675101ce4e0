"""Sends bundles for `bench.relay`, at a rate, in a process of its own."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from tests.running import wait_until
from tracking.domain.changes import BookingChanges, TrackMove
from tracking.domain.waypoints import StoredWaypoint
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.relay.sending import RelaySender


def died(error: BaseException) -> None:
    """A thread of the relay has."""
    raise error


def changes(ids: list[UUID], seq: int) -> list[BookingChanges]:
    """One new position of each booking, as one transaction tells it."""
    now = datetime.now(UTC)
    return [
        BookingChanges(
            one,
            [StoredWaypoint(one, one, seq, one, 106.8, -6.2, 36.5, 90.0, now, now, False)],
            TrackMove("0123456789abcdef", seq - 1, seq, 1234),
        )
        for one in ids
    ]


async def load(settings: Settings, job: dict[str, Any]) -> dict[str, float]:
    """`bundle` updates of one partition at once; `rate` a second, or as fast as it goes if 0."""
    metrics = Metrics()
    sender = RelaySender(settings, metrics, "bench", died)
    sender.start(lambda: 0.0)
    await asyncio.to_thread(wait_until, lambda: sender.is_ready, "ready")
    # Ids with one last byte fall into one partition, whatever their number.
    ids = [UUID(int=uuid4().int & ~0xFF | 7) for _ in range(job["bundle"])]
    if "booking" in job:
        ids[0] = UUID(job["booking"])
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    rounds = job["updates"] // job["bundle"]
    for number in range(rounds):
        if job["rate"]:
            due = began + number * job["bundle"] / job["rate"]
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
        await sender.publish(changes(ids, number + 1))
        if not job["rate"] and number % 50 == 0:
            await asyncio.sleep(0.001)  # the queue is bounded: what it does not take is dropped
    sender.stop()
    sender.wait(30)
    return {
        "cpu_us": (time.process_time() - cpu) / (rounds * job["bundle"]) * 1e6,
        "sent": metrics.registry.get_sample_value("tracking_relay_changes_sent_total") or 0.0,
        "dropped": float(sender.dropped),
    }


def main() -> None:
    """The first line of standard input is the job, the second one starts it."""
    job = json.loads(sys.stdin.readline())
    settings = Settings.from_environment(job["environ"])
    print(json.dumps(asyncio.run(load(settings, job))), flush=True)


if __name__ == "__main__":
    main()
