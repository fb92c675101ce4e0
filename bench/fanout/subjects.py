"""What is measured: the real service with its trips, and the peers that only send."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.talk import Talk
from tests.running import Platform, Server, Trip, fresh_database, running_server, wait_until

PROGRAM: Final = ("-m", "bench.fanout.serve")
ANSWER_S: Final = 120.0
LIMITS: Final = ("MAX_VIEWERS_PER_USER", "MAX_VIEWERS_PER_ADDRESS", "JOINS_PER_SECOND")


class Peer:
    """One of bench.fanout.peers, or Bun, whose command is given."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.pid = talk.pid
        self.port = int(talk.answer()["port"])

    def targets(self, viewers: int) -> list[str]:
        return ["/"] * viewers

    def offer(self, rate: float, seconds: float) -> int:
        """Publish on time, or at rate 0 as fast as it goes; how many."""
        return int(self._talk.ask(rate=rate, seconds=seconds)["published"])


class Service:
    """One server with its trips, each of which has a first position."""

    def __init__(self, server: Server, trips: int, offers: Path) -> None:
        self.server = server
        self.brokers = server.environ["KAFKA_BROKERS"]
        self.topic = f"{server.environ['KAFKA_TOPIC_PREFIX']}.runner.events"
        self._offers = str(offers)
        start = datetime.now(UTC) - timedelta(hours=6)  # a backlog of theirs is no future
        self.trips = [Trip(start) for _ in range(trips)]
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        for trip in self.trips:
            platform.accept(trip)
        wait_until(lambda: self.outcomes() >= trips, "trips accepted")
        for trip in self.trips:
            platform.update(trip, 0)
        platform.close()
        wait_until(lambda: self.outcomes() >= 2 * trips, "first positions")

        self._look_up()

    def start(self) -> None:
        """After a stop of the server."""
        self.server.start().wait_ready()
        self._look_up()

    def _look_up(self) -> None:
        assert self.server.process is not None
        self.pid, self.port = self.server.process.pid, self.server.port

    def outcomes(self) -> float:
        return self.server.metric("tracking_events_total")

    def targets(self, viewers: int, trips: int = 1) -> list[str]:
        """What each viewer asks for, every one with a token of his own."""
        paths = []
        for number in range(viewers):
            trip = self.trips[number % trips]
            token = self.server.token(trip.owner_id, "owner")
            paths.append(f"/ws/tracking/{trip.booking_id}?token={token}")
        return paths

    def offer(self, rate: float, seconds: float, trips: int = 1) -> int:
        """Publish beside Kafka, in the server's own process; how many."""
        job = {
            "rate": rate,
            "seconds": seconds,
            "bookings": [str(trip.booking_id) for trip in self.trips[:trips]],
        }
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(ANSWER_S)
            asked.connect(self._offers)
            asked.sendall(json.dumps(job).encode() + b"\n")
            with asked.makefile() as answers:
                return int(json.loads(answers.readline())["published"])

    def produce(self, rate: float, seconds: float, trips: int = 1) -> int:
        """Location updates through Kafka, by a process of its own; how many."""
        job = {**self.job(rate, seconds, trips), "keyed": True}
        subprocess.run(
            [sys.executable, "-m", "bench.driver"], input=json.dumps(job), text=True, check=True
        )
        return int(rate * seconds)

    def job(self, rate: float, seconds: float, trips: int) -> dict[str, Any]:
        return {
            "brokers": self.brokers,
            "topic": self.topic,
            "rate": rate,
            "seconds": seconds,
            "trips": [trip.identity() for trip in self.trips[:trips]],
        }


@contextmanager
def service(environ: Mapping[str, str], trips: int = 1, **settings: str) -> Iterator[Service]:
    """A server of our own; the log is shown when something fails."""
    with (
        fresh_database(dict(environ)) as own,
        tempfile.TemporaryDirectory() as folder,
    ):
        offers, log = Path(folder) / "offers", Path(folder) / "log"
        # Everybody comes from one address, and in the rooms of a few owners.
        own |= {"BENCH_OFFERS": str(offers), **dict.fromkeys(LIMITS, "0")}
        with running_server(own, log, PROGRAM, **settings) as server:
            yield Service(server, trips, offers)
