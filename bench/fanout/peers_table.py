"""The service beside a bare loop, Tornado, websockets and Bun: sending, and taking viewers in."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.fanout.measure import Joined, Offered, Watched, watched
from bench.fanout.subjects import Peer, Service, service
from bench.report import table
from bench.talk import Talk, cpu_seconds
from tests.running import CHECKOUT

VIEWERS: Final = 2_000
IDLE_VIEWERS: Final = 5_000
RATE: Final = 10.0  # messages a second: 20,000 deliveries
ROUNDS: Final = 5
SECONDS: Final = 3.0
SATURATED_S: Final = 3.0
# More than anybody can deliver: 600,000 a second.
TOO_FAST: Final = 300.0
OURS: Final = "floor"
BUN: Final = CHECKOUT / ".dev" / "bench-bun"
BUN_VERSION: Final = "1.4.5"
NAMES: Final = {
    "socket.send": "bare loop, `socket.send`",
    OURS: "bare loop, the service's own way of sending",
    "write_message": "Tornado `write_message`",
    "websockets": "`websockets.broadcast`",
    "bun": f"Bun {BUN_VERSION} `publish`",
}
FROM_KAFKA: Final = "**the service**, from Kafka, all threads"
OFFERED: Final = "the service, messages offered to its broadcast"

Offer = Callable[[float, float], int]


def _command(kind: str) -> list[str]:
    """Bun comes from npm, once."""
    if kind != "bun":
        return [sys.executable, "-m", "bench.fanout.peers", kind]
    binary = BUN / "node_modules" / ".bin" / "bun"
    npm = shutil.which("npm")
    if not binary.exists() and npm:
        BUN.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", f"bun@{BUN_VERSION}"]
        subprocess.run(install, cwd=BUN, timeout=300)
    return [str(binary), str(Path(__file__).with_name("bun.js"))] if binary.exists() else []


def _peers() -> dict[str, list[str]]:
    """The commands of those that are to be had here."""
    commands = {kind: _command(kind) for kind in NAMES}
    for kind in [kind for kind, command in commands.items() if not command]:
        print(f"bench: no {kind} here (npm is missing, or has no network)", file=sys.stderr)
        del commands[kind]
    return commands


class Subject:
    """What is measured in turn with the others."""

    def __init__(self, viewers: Watched, offer: Offer, fastest: float = 0.0) -> None:
        self._viewers, self._offer, self._fastest = viewers, offer, fastest
        self._paced: list[Offered] = []
        self._flat: list[Offered] = []

    def measure(self) -> None:
        """One round."""
        self._paced.append(self._viewers.offered(self._offer, RATE, SECONDS))
        self._flat.append(self._viewers.offered(self._offer, self._fastest, SATURATED_S))

    def medians(self) -> tuple[Offered, Offered]:
        """At the fixed load, and at saturation; of what is missing the most."""
        return _medians(self._paced), _medians(self._flat)


def _medians(rounds: list[Offered]) -> Offered:
    found = Offered(*(statistics.median(each) for each in zip(*rounds, strict=True)))
    return found._replace(missing=max(each.missing for each in rounds))


def cost(environ: dict[str, str]) -> str:
    """CPU for each delivery at a fixed load, and deliveries when there is no end of messages.

    Everything in turn, `ROUNDS` times: what the machine does meanwhile falls on all alike.
    """
    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for kind, command in _peers().items():
            peer = Peer(stack.enter_context(Talk(command)))
            viewers, _ = stack.enter_context(watched(peer, peer.targets(VIEWERS), first=False))
            subjects[NAMES[kind]] = Subject(viewers, peer.offer)
        ours, beside = (stack.enter_context(service(environ)) for _ in range(2))
        share = _unwatched(ours)
        viewers, _ = stack.enter_context(watched(ours, ours.targets(VIEWERS), first=True))
        subjects[FROM_KAFKA] = Subject(viewers, ours.produce, TOO_FAST)
        viewers, _ = stack.enter_context(watched(beside, beside.targets(VIEWERS), first=True))
        subjects[OFFERED] = Subject(viewers, beside.offer)
        for number in range(ROUNDS):
            print(f"bench: round {number + 1} of {ROUNDS}", file=sys.stderr)
            for subject in subjects.values():
                subject.measure()
    found = {name: subject.medians() for name, subject in subjects.items()}
    floors = found[NAMES[OURS]]
    rows = [_row(name, pair, floors) for name, pair in found.items()]
    paced, _ = found[FROM_KAFKA]
    less = paced.cpu_us - share
    rows.append(["the same, less what it costs without viewers", f"{less:.2f}",
                 f"{less / floors[0].cpu_us:.2f}", *[""] * 5])  # fmt: skip
    head = ["", "CPU µs a delivery", "of the floor", "p50, p99 ms", "missing",
            "saturated, 1/s", "CPU µs then", "of the floor"]  # fmt: skip
    return (
        f"{VIEWERS:,} viewers, {RATE:.0f} messages/s; the service's own message (about 330 bytes)"
        f" for all; medians of {ROUNDS} rounds, all subjects in turn.\n\n{table(head, rows)}"
    )


def _unwatched(ours: Service) -> float:
    """CPU of the same updates while nobody watches, in µs for each of the deliveries."""
    before = cpu_seconds(ours.pid)
    ours.produce(RATE, SECONDS)
    return (cpu_seconds(ours.pid) - before) / (RATE * SECONDS * VIEWERS) * 1e6


def _row(name: str, pair: tuple[Offered, Offered], floors: tuple[Offered, Offered]) -> list[str]:
    paced, flat = pair
    return [
        name, f"{paced.cpu_us:.2f}", f"{paced.cpu_us / floors[0].cpu_us:.2f}",
        f"{paced.p50_ms:.1f} {paced.p99_ms:.1f}", str(paced.missing + flat.missing),
        f"{flat.rate:,.0f}", f"{flat.cpu_us:.2f}", f"{flat.cpu_us / floors[1].cpu_us:.2f}",
    ]  # fmt: skip


def idle(environ: dict[str, str]) -> str:
    """Memory of a viewer who only listens, and what it costs to take one in."""
    found: dict[str, Joined] = {}
    commands = _peers()
    for kind in ("write_message", "websockets", "bun"):
        if kind in commands:
            with Talk(commands[kind]) as talk:
                peer = Peer(talk)
                with watched(peer, peer.targets(IDLE_VIEWERS), first=False) as (_, joined):
                    found[NAMES[kind]] = joined
    for name, trips in {"one room": 1, "1,000 rooms": 1_000}.items():
        with service(environ, trips) as ours:
            targets = ours.targets(IDLE_VIEWERS, trips)
            time.sleep(1)
            with watched(ours, targets, first=True) as (_, joined):
                found[f"**the service**, token and first position, {name}"] = joined
    rows = [[name, f"{each.kb:.1f}", f"{each.per_core:,.0f}"] for name, each in found.items()]
    head = [f"{IDLE_VIEWERS:,} viewers", "kB RSS each", "joins/s for a core of CPU"]
    return table(head, rows)
