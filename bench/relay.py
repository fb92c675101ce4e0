"""The relay: what an update costs on its way between processes, and how long it takes."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from kafka import KafkaProducer

from bench.floors import bare_poll, produce_to_poll
from bench.latency import Service, measured
from bench.producing import make_topics
from bench.relay_load import died
from bench.report import Quantiles, quantiles, table
from tests.running import fresh_database, running_server, wait_until
from tracking.domain.changes import BookingChanges
from tracking.domain.waypoints import StoredWaypoint
from tracking.live.fleet import Fleet
from tracking.live.rooms import Rooms
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.relay.receiving import RelayReceiver

BUNDLES: Final = (1, 10, 100)
UPDATES: Final = 20_000
# An update as a viewer gets it: what a relay of ready-made messages would send.
VALUE: Final = b"x" * 377
UNWATCHED_RATE: Final = 30_000
UNWATCHED_BUNDLE: Final = 9
UNWATCHED_S: Final = 10
HOPS: Final = {20: 10, 200: 10}
ROUNDS: Final = 3


def run(environ: dict[str, str]) -> str:
    """The tables; some five minutes."""
    return "\n\n".join([_costs(environ), _unwatched(environ), _hops(environ), _apart(environ)])


class Reader:
    """A receiver in this process; nobody watches anything but what `watch` names."""

    def __init__(self, settings: Settings) -> None:
        self.metrics, self.rooms, self.hops_ms = Metrics(), Rooms(), list[float]()
        fleet = Fleet(self.metrics)
        self.receiver = RelayReceiver(settings, self.metrics, self.rooms, fleet, self.publish, died)

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        now = datetime.now(UTC)
        for booking in bookings:
            for entry in booking.entries:
                if isinstance(entry, StoredWaypoint):
                    self.hops_ms.append((now - entry.received_at).total_seconds() * 1000)

    def bundles(self) -> float:
        value = self.metrics.registry.get_sample_value("tracking_relay_bundles_received_total")
        return value or 0.0


@contextmanager
def loading(environ: dict[str, str], **job: Any) -> Iterator["subprocess.Popen[str]"]:
    """The sender in a process of its own, ready to begin."""
    command = [sys.executable, "-m", "bench.relay_load"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as load:  # type: ignore[call-overload]
        load.stdin.write(json.dumps({"environ": environ, **job}) + "\n")
        load.stdin.flush()
        load.stdout.readline()
        yield load


async def transfer(environ: dict[str, str], **job: Any) -> tuple[dict[str, float], float, Reader]:
    """What the sender says, and the seconds of CPU of a process that reads."""
    own = {**environ, "KAFKA_TOPIC_PREFIX": f"bench-{uuid4().hex[:8]}"}
    with loading(own, **job) as load:
        reader = Reader(Settings.from_environment(own))
        if "booking" in job:
            reader.rooms.watched.add(UUID(job["booking"]).bytes)
        reader.receiver.start()
        await asyncio.to_thread(reader.receiver.connected.wait)
        load.stdin.write("\n")  # type: ignore[union-attr]
        load.stdin.flush()  # type: ignore[union-attr]
        cpu = time.process_time()
        said = json.loads(await asyncio.to_thread(load.stdout.readline))  # type: ignore[union-attr]
        there = said["sent"] // job["bundle"]
        await asyncio.to_thread(wait_until, lambda: reader.bundles() >= there, "read")
        used = time.process_time() - cpu
        reader.receiver.stop()
        await asyncio.to_thread(reader.receiver.wait, 10)
    return said, used, reader


def _single_sends(environ: dict[str, str]) -> tuple[float, float]:
    """CPU µs for one record of kafka-python: send, and bare poll (one core, by the clock)."""
    prefix = f"bench-{uuid4().hex[:8]}"
    make_topics(environ["KAFKA_BROKERS"], prefix)
    topic = f"{prefix}.runner.events"
    producer = KafkaProducer(bootstrap_servers=environ["KAFKA_BROKERS"])
    cpu = time.process_time()
    for _ in range(UPDATES):
        producer.send(topic, VALUE)
    producer.flush()
    send_us = (time.process_time() - cpu) / UPDATES * 1e6
    producer.close()
    return send_us, 1e6 / bare_poll(environ["KAFKA_BROKERS"], topic, UPDATES)


def _costs(environ: dict[str, str]) -> str:
    print("bench: relay, cost", file=sys.stderr)
    send_us, poll_us = _single_sends(environ)
    rows = [["peer: kafka-python, single records", f"{send_us:.1f}", "1", f"{poll_us:.1f}", "1"]]
    for bundle in BUNDLES:
        said, used, _ = asyncio.run(
            transfer(environ, bundle=bundle, rate=0 if bundle > 1 else 2_000, updates=UPDATES)
        )
        out, into = said["cpu_us"], used / UPDATES * 1e6
        dropped = f", {said['dropped']:.0f} dropped" if said["dropped"] else ""
        shares = f"{out / send_us:.2f}", f"{into / poll_us:.2f}"
        name = f"{bundle} in a bundle{dropped}"
        rows.append([name, f"{out:.1f}", shares[0], f"{into:.1f}", shares[1]])
    head = ["µs of CPU for an update that nobody watches", "out", "of a send", "in", "of a poll"]
    return table(head, rows)


def _unwatched(environ: dict[str, str]) -> str:
    print("bench: relay, unwatched", file=sys.stderr)
    updates = UNWATCHED_RATE * UNWATCHED_S
    began = time.perf_counter()
    said, used, _ = asyncio.run(
        transfer(environ, bundle=UNWATCHED_BUNDLE, rate=UNWATCHED_RATE, updates=updates)
    )
    share = used / (time.perf_counter() - began)
    return (
        f"{UNWATCHED_RATE:,} updates/s, {UNWATCHED_BUNDLE} in a bundle, that nobody watches:"
        f" {share:.3f} of a core in the process that reads ({said['dropped']:.0f} dropped)."
    )


def _hops(environ: dict[str, str]) -> str:
    rows = []
    for rate, seconds in HOPS.items():
        print(f"bench: relay, hop at {rate}/s", file=sys.stderr)
        booking = str(UUID(int=uuid4().int & ~0xFF | 7))
        _, _, reader = asyncio.run(
            transfer(environ, bundle=1, rate=rate, updates=rate * seconds, booking=booking)
        )
        trip = {"booking_id": booking, "runner_id": booking}
        job = {"brokers": environ["KAFKA_BROKERS"], "topic": "", "rate": rate, "seconds": seconds,
               "trips": [trip]}  # fmt: skip
        floor, ours = produce_to_poll(job), quantiles(reader.hops_ms)
        rows.append([str(rate), _ms(floor), _ms(ours), f"{ours[0] / floor[0]:.2f}"])
    head = ["updates/s", "peer: kafka-python, produce to poll, ms (p50 p90 p99)",
            "made to published in another process", "of the peer's p50"]  # fmt: skip
    return table(head, rows)


def _apart(environ: dict[str, str]) -> str:
    """From the producer to the viewer: one process with all roles, and two with one each."""
    rows = []
    with ExitStack() as stack:
        own = stack.enter_context(fresh_database(environ))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found: dict[tuple[int, str], list[Quantiles]] = {}
        services = {name: _services(stack, own, folder, name) for name in ("all", "apart")}
        for rate, trips in ((20, 20), (200, 100)):
            print(f"bench: relay, roles apart at {rate}/s", file=sys.stderr)
            subjects = {name: Service(server, trips) for name, server in services.items()}
            for _ in range(ROUNDS):
                for name, subject in subjects.items():
                    found.setdefault((rate, name), []).append(measured(subject, environ, rate).ms)
            pair = [_medians(found[rate, name]) for name in services]
            rows.append([str(rate), *map(_ms, pair), f"{pair[1][0] - pair[0][0]:+.1f}"])
    head = ["updates/s", "all in one process, ms (p50 p90 p99)", "roles apart", "p50 more"]
    return table(head, rows)


def _services(stack: ExitStack, environ: dict[str, str], folder: Path, name: str) -> Any:
    """The server that has the viewers."""
    prefix = f"bench-{uuid4().hex[:8]}"
    make_topics(environ["KAFKA_BROKERS"], prefix)
    own = {"KAFKA_TOPIC_PREFIX": prefix, "KAFKA_GROUP_ID": prefix, "MAX_VIEWERS_PER_USER": "0"}
    for role in ("all",) if name == "all" else ("ingest", "live"):
        program = ("server.py", "--role", role)
        server = stack.enter_context(running_server(environ, folder / role, program, **own))
    return server


def _ms(values: Sequence[float]) -> str:
    return " ".join(f"{ms:.1f}" for ms in values)


def _medians(rounds: Sequence[Quantiles]) -> list[float]:
    return [statistics.median(each[index] for each in rounds) for index in range(3)]
