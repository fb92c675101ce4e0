"""The service beside a bare loop, Tornado, websockets and Bun: sending, and taking viewers in."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.fanout.measure import Joined, Offered, watched
from bench.fanout.subjects import Peer, service
from bench.fanout.talk import Talk, cpu_seconds
from bench.report import table
from tests.running import CHECKOUT

VIEWERS: Final = 2_000
IDLE_VIEWERS: Final = 5_000
RATE: Final = 10.0  # messages a second: 20,000 deliveries
SECONDS: Final = 5.0
SATURATED_S: Final = 4.0
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


@contextmanager
def _peers() -> Iterator[dict[str, list[str]]]:
    commands = {kind: _command(kind) for kind in NAMES}
    for kind in [kind for kind, command in commands.items() if not command]:
        print(f"bench: no {kind} here (npm is missing, or has no network)", file=sys.stderr)
        del commands[kind]
    yield commands


def cost(environ: dict[str, str]) -> str:
    """CPU for each delivery at a fixed load, and deliveries when there is no end of messages."""
    found: dict[str, tuple[Offered, Offered]] = {}
    with _peers() as commands:
        for kind, command in commands.items():
            with Talk(command) as talk:
                peer = Peer(talk)
                with watched(peer, peer.targets(VIEWERS), first=False) as (viewers, _):
                    paced = viewers.offered(peer.offer, RATE, SECONDS)
                    found[kind] = paced, viewers.offered(peer.offer, 0, SATURATED_S)
    with service(environ) as ours:
        before = cpu_seconds(ours.pid)
        ours.produce(RATE, SECONDS)
        unwatched = cpu_seconds(ours.pid) - before
        with watched(ours, ours.targets(VIEWERS), first=True) as (viewers, _):
            paced = viewers.offered(ours.produce, RATE, SECONDS)
            flat = viewers.offered(ours.produce, TOO_FAST, SATURATED_S)
            beside = viewers.offered(ours.offer, RATE, SECONDS)
    share = unwatched / (RATE * SECONDS * VIEWERS) * 1e6
    floor = found[OURS][0].cpu_us
    rows = [_row(NAMES[kind], *pair, floor) for kind, pair in found.items()]
    rows += [
        _row("**the service**, from Kafka, all threads", paced, flat, floor),
        _row("the same, less what it costs without viewers",
             paced._replace(cpu_us=paced.cpu_us - share), flat, floor),
        _row("the service, messages offered to its relay", beside, None, floor),
    ]  # fmt: skip
    head = ["", "CPU µs a delivery", "of the floor", "p50, p99 ms", "missing", "saturated, 1/s"]
    return (
        f"{VIEWERS:,} viewers, {RATE:.0f} messages/s; the service's own message (about 330 bytes)"
        f" for all.\n\n{table(head, rows)}"
    )


def _row(name: str, paced: Offered, flat: Offered | None, floor: float) -> list[str]:
    return [
        name, f"{paced.cpu_us:.2f}", f"{paced.cpu_us / floor:.2f}",
        f"{paced.p50_ms:.1f} {paced.p99_ms:.1f}", str(paced.missing),
        f"{flat.rate:,.0f}" if flat else "",
    ]  # fmt: skip


def idle(environ: dict[str, str]) -> str:
    """Memory of a viewer who only listens, and what it costs to take one in."""
    found: dict[str, Joined] = {}
    with _peers() as commands:
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
