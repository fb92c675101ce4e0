"""Five processes on hosts of their own: links cut, clocks off, processes stopped and killed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import pytest

from dev.private_server import CHECKOUT
from faults import rows
from faults.hosts import Host, Network, NoNetwork, as_hosts_see, clock_off, networked_world
from faults.scenario import EVENTS, RATE, WATCHED, Scenario, pause
from faults.server import SupervisedServer
from faults.trips import WATCHABLE
from faults.world import World
from tests.resuming import Crowd, Viewer
from tests.running import wait_until

# A guard against hanging, beside whatever takes the machine.
READY_S: Final = 90.0
# While one host is away the others go on: its partitions are theirs when its session is over.
GOES_ON_S: Final = 25.0
LIVES, INGESTS = 3, 2
LOOK_S: Final = 0.5
CLOCK_OFF_S: Final = 300
OPEN: Final = dict.fromkeys(("JOINS_PER_SECOND", "MAX_VIEWERS_PER_USER"), "0")


@pytest.fixture(scope="module")
def networked() -> Iterator[tuple[World, Network]]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    try:
        with networked_world(CHECKOUT / ".dev" / f"hosts-{worker}") as made:
            yield made
    except NoNetwork as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def world(networked: tuple[World, Network]) -> World:
    """In place of the one that only this machine reaches."""
    return networked[0]


class Company:
    """Who serves and who stores, each on its host; the same trips are watched at each."""

    def __init__(self, scenario: Scenario, network: Network, clocks: dict[str, int]) -> None:
        self.hosts: dict[str, Host] = {}
        self.servers: dict[str, SupervisedServer] = {}
        self._scenario, self._network, self._clocks = scenario, network, clocks
        self.lives = [self._start(f"live-{n + 1}", "live") for n in range(LIVES)]
        self.ingests = [self._start(f"ingest-{n + 1}", "ingest") for n in range(INGESTS)]
        scenario.server = self.lives[0]
        for each in self.servers.values():
            wait_until(each.is_ready, "ready", READY_S)

    def _start(self, name: str, role: str) -> SupervisedServer:
        scenario = self._scenario
        host = self.hosts[name] = self._network.host()
        clock = clock_off(scenario.log.parent, self._clocks[name]) if name in self._clocks else {}
        if clock is None:
            pytest.skip("no C compiler, and so no clock that is off")
        environ = {
            **scenario.environ, **as_hosts_see(scenario.world, self._network), **OPEN, **clock,
            "SERVICE_ADDRESS": "0.0.0.0", "SERVICE_PORT": "8005", "RELAY_PARTITIONS": "4",
            "DB_POOL_SIZE": "2", "KAFKA_INSTANCE_ID": name if role == "ingest" else "",
        }  # fmt: skip
        log = scenario.log.with_name(f"{name}.log")
        made = self.servers[name] = SupervisedServer(environ, log, role=role, host=host)
        scenario.stack.callback(scenario.stop_server, made)
        made.start()
        return made

    def crowd(self) -> Crowd:
        names = {kind.__name__ for kind in WATCHABLE}
        trips = [trip for name, trip in self._scenario.expected.load.trips if name in names]
        return Crowd([
            Viewer(
                (live.address, live.port), UUID(trip.booking_id),
                live.token(UUID(trip.owner_id), "owner"),
            )
            for live in self.lives for trip in trips[:WATCHED]
        ])  # fmt: skip


@contextmanager
def played(
    scenario: Scenario, network: Network, seconds: float, **clocks: int
) -> Iterator[tuple[Company, Crowd]]:
    """A load of so many seconds; then the drain and the proof, on every process that serves."""
    names = {name.replace("_", "-"): off for name, off in clocks.items()}
    load = scenario.declare(min(round(seconds * RATE), EVENTS))
    company = Company(scenario, network, names)
    with company.crowd() as crowd:
        scenario.send(len(load.records) / seconds)
        wait_until(lambda: len(rows.read(scenario.environ).tracks) > 0, "the first track", 60)
        yield company, crowd
        scenario.drain()
        end = time.monotonic() + READY_S
        while (found := lies(scenario, crowd)) and time.monotonic() < end:
            pause(LOOK_S)
        assert found == {}
        scenario.prove(counters=False)
        assert crowd.problems() == []


def difference(viewer: Viewer, stored: dict[int, tuple[float, float]], route: set[int]) -> str:
    """What keeps a view from being the table; nothing, if it is."""
    if not viewer.is_right:
        return f"not told all of {viewer.last}"
    if missing := route - viewer.points.keys():
        return f"missing {sorted(missing)[:5]}"
    wrong = [
        seq
        for seq, place in viewer.points.items()
        if seq not in stored or place != pytest.approx(stored[seq], abs=1e-6)
    ]
    return f"not stored {wrong[:5]}" if wrong else ""


def lies(scenario: Scenario, crowd: Crowd) -> dict[tuple[str, UUID], str]:
    """Of those who do not see all that belongs to the route, or see what is not stored."""
    stored: dict[UUID, dict[int, tuple[float, float]]] = {}
    route: dict[UUID, set[int]] = {}
    for row in rows.read(scenario.environ).waypoints:
        booking_id, place = UUID(row.booking_id), (row.longitude, row.latitude)
        stored.setdefault(booking_id, {})[row.seq] = place
        if row.in_route:
            route.setdefault(booking_id, set()).add(row.seq)
    found = {
        (viewer.address[0], viewer.booking_id): difference(
            viewer, stored.get(viewer.booking_id, {}), route.get(viewer.booking_id, set())
        )
        for viewer in crowd.viewers
    }
    return {who: what for who, what in found.items() if what}


def test_links_of_hosts_are_cut(
    scenario: Scenario, networked: tuple[World, Network], outage_s: float
) -> None:
    """Of one that stores, then of one that serves; nobody is told."""
    with played(scenario, networked[1], 2 * outage_s + 12) as (company, _):
        for name in ("ingest-1", "live-1"):
            host = company.hosts[name]
            host.cut()
            try:
                began = time.monotonic()
                scenario.goes_on_within(GOES_ON_S)
                pause(max(outage_s - (time.monotonic() - began), 0))
            finally:
                host.join()
            wait_until(company.servers[name].is_ready, "ready again", READY_S)


def test_hosts_whose_clocks_are_off(
    scenario: Scenario, networked: tuple[World, Network], outage_s: float
) -> None:
    """One that serves is ahead, one that stores is behind; others stand still and die."""
    off = {"live_3": CLOCK_OFF_S, "ingest_2": -CLOCK_OFF_S}
    with played(scenario, networked[1], 2 * outage_s + 12, **off) as (company, _):
        standing = company.servers["live-2"]
        standing.send_signal(signal.SIGSTOP)
        pause(outage_s)
        standing.send_signal(signal.SIGCONT)
        for name in scenario.random.sample(sorted(company.servers), len(company.servers)):
            victim = company.servers[name]
            victim.send_signal(signal.SIGKILL)
            before = victim.outages
            wait_until(lambda v=victim, b=before: v.outages > b, "dead")  # type: ignore[misc]
            wait_until(victim.is_ready, "ready again", READY_S)
