"""Kafka to viewer: from the producer's send() to the frame at a WebSocket client."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from bench.cpu import cpu_seconds, stages
from bench.floors import produce_to_poll
from bench.producing import PARTITIONS, drive, make_topics
from bench.report import Quantiles, quantiles, table
from bench.talk import Talk
from bench.talk import cpu_seconds as cpu_seconds_of
from tests.running import (
    Platform,
    Server,
    Trip,
    connect,
    fresh_database,
    running_server,
    wait_until,
)

SECONDS: Final = 10
# Rounds of all subjects in turn: the machine's speed drifts, the ratio within a round less.
ROUNDS: Final = 3
# Updates a second -> how many trips (and viewers) share them.
RATES: Final = {20: 20, 200: 100, 2000: 200}
# A broker that has just started compiles for as long, and takes twice the time for everything.
WARM_UP_RATE: Final = 1000
WARM_UP_S: Final = 15
# After the last update was acknowledged, for those that are still on their way.
QUIET_S: Final = 2.0
COMMITS: Final = 300


class Measured(NamedTuple):
    """One subject at one rate."""

    ms: Quantiles  # p50, p90, p99
    cpu_ms: float  # of its process, for an update
    stages: dict[str, float]  # the same by stage, milliseconds; of the service only


class Subject:
    """A server with its trips, which `bench.driver` produces for."""

    def __init__(self, topic: str, fleet: list[Trip], port: int, targets: list[str]) -> None:
        self.topic = topic
        self.trips = [trip.identity() for trip in fleet]
        self.port = port
        self.targets = targets

    def cpu(self) -> dict[str, float]:
        """Seconds so far, by stage; "" is the whole process."""
        raise NotImplementedError


class Service(Subject):
    """This service, whose trips have begun."""

    def __init__(self, server: Server, trips: int) -> None:
        self._server = server
        environ = server.environ
        platform = Platform(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"])
        fleet = [Trip(datetime.now(UTC)) for _ in range(trips)]
        for trip in fleet:
            platform.accept(trip)
            platform.update(trip, 0)
        platform.close()
        token = server.token(fleet[0].owner_id, "admin")
        for trip in fleet:
            path = f"/api/v1/tracking/{trip.booking_id}"
            wait_until(lambda path=path: self._seq(path, token), "every trip has begun")  # type: ignore[misc]
        super().__init__(
            f"{environ['KAFKA_TOPIC_PREFIX']}.runner.events", fleet, server.port,
            [f"/ws/tracking/{trip.booking_id}?token={token}" for trip in fleet],
        )  # fmt: skip

    def _seq(self, path: str, token: str) -> int:
        status, body, _ = self._server.get(path, token)
        return int(body["data"]["seq"]) if status == 200 else 0

    def cpu(self) -> dict[str, float]:
        found = cpu_seconds(self._server)
        return found | {"": sum(s for name, s in found.items() if name.startswith("server: "))}


class Simple(Subject):
    """The peer, `bench.simple`."""

    def __init__(self, stack: ExitStack, environ: dict[str, str], trips: int) -> None:
        topic = f"simple-{uuid4().hex[:12]}.runner.events"
        make_topics(environ["KAFKA_BROKERS"], topic.removesuffix(".runner.events"))
        self._talk = stack.enter_context(Talk([sys.executable, "-m", "bench.simple"]))
        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD",
                 "dbname": "NAME"}  # fmt: skip
        database = {ours: environ[f"DB_{theirs}"] for ours, theirs in names.items()}
        answer = self._talk.ask(brokers=environ["KAFKA_BROKERS"], topic=topic, database=database)
        fleet = [Trip(datetime.now(UTC)) for _ in range(trips)]
        targets = [f"/ws/{trip.booking_id}" for trip in fleet]
        super().__init__(topic, fleet, answer["port"], targets)

    def cpu(self) -> dict[str, float]:
        return {"": cpu_seconds_of(self._talk.pid)}


def run(environ: dict[str, str]) -> str:
    """The tables; some eight minutes."""
    rows, costs = list[list[str]](), dict[str, dict[str, float]]()
    with ExitStack() as stack:
        own = stack.enter_context(fresh_database(environ))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        commit_ms = _commit_ms(own)
        prefix = f"bench-{uuid4().hex[:12]}"
        make_topics(environ["KAFKA_BROKERS"], prefix)
        settings = {"KAFKA_TOPIC_PREFIX": prefix, "MAX_VIEWERS_PER_USER": "0"}
        server = stack.enter_context(running_server(own, Path(folder) / "log", **settings))
        for rate, trips in RATES.items():
            print(f"bench: latency at {rate}/s", file=sys.stderr)
            with ExitStack() as peers:
                simple = Simple(peers, own, trips)
                if not rows:
                    produce_to_poll(_job(environ, simple, WARM_UP_RATE, WARM_UP_S))
                found = _rounds(Service(server, trips), simple, environ, rate)
            rows.append(_row(rate, *found))
            costs[f"{rate}/s"] = found[0][-1].stages
    head = ["updates/s", "floor: bare produce to poll, ms (p50 p90 p99)", "simple peer",
            "this service", "p50 above the floor: peer, this", "of the peer's p50",
            "CPU for an update, ms: peer, this"]  # fmt: skip
    return "\n\n".join(
        [
            f"{PARTITIONS} partitions, the key is the event's id, tracking.updated on; a warm"
            f" broker; {ROUNDS} rounds of {SECONDS} s in turn, medians."
            f" One durable commit: {commit_ms:.2f} ms.",
            table(head, rows),
            "CPU of the service for each update by stage, ms:",
            stages(costs, 2),
        ]
    )


def _rounds(
    service: Service, simple: Simple, environ: dict[str, str], rate: int
) -> tuple[list[Measured], list[Measured], list[Quantiles]]:
    ours, peers, floors = [], [], []
    for _ in range(ROUNDS):
        floors.append(produce_to_poll(_job(environ, service, rate, SECONDS)))
        peers.append(measured(simple, environ, rate))
        ours.append(measured(service, environ, rate))
        print(f"bench: floor {_ms(floors[-1])}, peer {_ms(peers[-1].ms)}, this {_ms(ours[-1].ms)}",
              file=sys.stderr)  # fmt: skip
    return ours, peers, floors


def _row(
    rate: int, ours: list[Measured], peers: list[Measured], floors: list[Quantiles]
) -> list[str]:
    above = [
        statistics.median(m.ms[0] - f[0] for m, f in zip(each, floors, strict=True))
        for each in (peers, ours)
    ]
    ratio = statistics.median(m.ms[0] / p.ms[0] for m, p in zip(ours, peers, strict=True))
    cpu = [statistics.median(m.cpu_ms for m in each) for each in (peers, ours)]
    return [
        str(rate), _ms(_medians(floors)), _ms(_medians([m.ms for m in peers])),
        _ms(_medians([m.ms for m in ours])), f"{above[0]:.1f}, {above[1]:.1f}", f"{ratio:.2f}",
        f"{cpu[0]:.2f}, {cpu[1]:.2f}",
    ]  # fmt: skip


def _ms(values: Sequence[float]) -> str:
    return " ".join(f"{ms:.1f}" for ms in values)


def _medians(rounds: Sequence[Quantiles]) -> list[float]:
    return [statistics.median(each[index] for each in rounds) for index in range(3)]


def measured(subject: Subject, environ: dict[str, str], rate: int) -> Measured:
    """What its viewers see of the load."""
    job = _job(environ, subject, rate, SECONDS)
    with Talk([sys.executable, "-m", "bench.viewers"]) as viewers:
        viewers.ask(port=subject.port, targets=subject.targets, every=1, stalled=0, first=False)
        before = subject.cpu()
        viewers.ask(reset=True)
        drive(job)
        time.sleep(QUIET_S)
        after, updates = subject.cpu(), rate * SECONDS
        # A point that an older partition overtook is no live position; it is stored all the same.
        report = viewers.ask(report=True)
    found = report["ms"]
    if len(found) < updates:
        print(f"bench: {len(found)} of {updates} updates seen live", file=sys.stderr)
    cost = {name: (after[name] - before.get(name, 0.0)) / updates * 1e3 for name in after}
    return Measured(quantiles(found), cost.pop(""), cost)


def _job(environ: dict[str, str], subject: Subject, rate: int, seconds: int) -> dict[str, Any]:
    return {"brokers": environ["KAFKA_BROKERS"], "topic": subject.topic, "rate": rate,
            "seconds": seconds, "trips": subject.trips}  # fmt: skip


def _commit_ms(environ: dict[str, str]) -> float:
    connection = connect(environ)
    times = []
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE commits (number int)")
        connection.commit()
        for number in range(COMMITS):
            started = time.perf_counter()
            cursor.execute("INSERT INTO commits VALUES (%s)", (number,))
            connection.commit()
            times.append((time.perf_counter() - started) * 1000)
    connection.close()
    return statistics.median(times)
