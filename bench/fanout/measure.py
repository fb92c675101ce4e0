"""Viewers on a subject, and what one offer of messages cost it."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from bench.fanout.subjects import Peer, Service
from bench.report import quantiles
from bench.talk import Talk, cpu_seconds, rss_kb

# Frames that are still on their way when the last message was published.
QUIET_S: Final = 0.5
SETTLE_S: Final = 30.0


class Offered(NamedTuple):
    """What came of one offer."""

    cpu_us: float  # of the server, for each delivery
    rate: float  # deliveries a second, between the first and the last
    missing: int
    p50_ms: float
    p99_ms: float


class Watched:
    """A subject with its viewers."""

    def __init__(self, subject: Peer | Service, talk: Talk, viewers: int) -> None:
        self._subject = subject
        self._talk = talk
        self._viewers = viewers  # that read

    def offered(
        self,
        offer: Callable[[float, float], int],
        rate: float,
        seconds: float,
        viewers: int | None = None,
    ) -> Offered:
        """`rate` messages a second, 0 for as fast as it goes; each to so many (None: all)."""
        self._talk.ask(do="reset")
        before = cpu_seconds(self._subject.pid)
        expected = offer(rate, seconds) * (self._viewers if viewers is None else viewers)
        report = self._all_reported(expected)
        cpu = cpu_seconds(self._subject.pid) - before
        frames = report["frames"]
        p50, _, p99 = quantiles(report["ms"] or [0.0])
        return Offered(cpu / frames * 1e6, frames / report["seconds"], expected - frames, p50, p99)

    def _all_reported(self, expected: int) -> dict[str, Any]:
        """Until everything has come, or nothing comes any more."""
        end, frames = time.monotonic() + SETTLE_S, -1
        while True:
            report = self._talk.ask(do="report")
            if report["frames"] in (expected, frames) or time.monotonic() > end:
                return report
            frames = report["frames"]
            time.sleep(QUIET_S)


class Joined(NamedTuple):
    """What it cost to take viewers in."""

    kb: float  # resident memory of the server for each of them, while they are idle
    per_core: float  # connections a second of its CPU


@contextmanager
def watched(
    subject: Peer | Service,
    targets: Sequence[str],
    *,
    first: bool,
    stalled: int = 0,
    every: int = 100,
) -> Iterator[tuple[Watched, Joined]]:
    """Viewers in a process of their own; `first` waits for everybody's first position."""
    with Talk([sys.executable, "-m", "bench.viewers"]) as talk:
        rss, cpu = rss_kb(subject.pid), cpu_seconds(subject.pid)
        talk.ask(port=subject.port, targets=targets, every=every, stalled=stalled, first=first)
        cpu = cpu_seconds(subject.pid) - cpu
        joined = Joined((rss_kb(subject.pid) - rss) / len(targets), len(targets) / cpu)
        yield Watched(subject, talk, len(targets) - stalled), joined
