"""What goes wrong between a phone and Kafka, done on purpose and the same for the same seed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from random import Random
from typing import NamedTuple

from dev.events import Event
from dev.streets import METRES_PER_DEGREE

SECOND_NS = 1_000_000_000
REQUEST_NS = 200_000  # more than an envelope's time varies, so that updates stay in order
JUMPS = 0.02  # share of the updates that are somewhere else
DUPLICATES = 0.05  # share of the events that are produced twice


class Fault(StrEnum):
    """The faults that can be asked for."""

    TUNNEL = "tunnel"
    DUPLICATES = "duplicates"
    JUMPS = "jumps"
    SKEW = "skew"


class Report(NamedTuple):
    """A position that a phone measures at one time (its clock's) and sends at another."""

    recorded_ns: int
    sent_ns: int
    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float


def tunnel(reports: Iterable[Report], random: Random) -> Iterator[Report]:
    """The phone is offline for 10 to 40 s now and then; what it kept comes late and in order."""
    enters = leaves = 0
    kept: list[Report] = []
    for report in reports:
        if report.recorded_ns >= leaves:
            yield from _sent_late(kept, leaves)
            kept = []
            # The first tunnel comes soon too, so that a short run sees it.
            enters = report.recorded_ns + round(random.uniform(10, 60) * SECOND_NS)
            leaves = enters + round(random.uniform(10, 40) * SECOND_NS)
        if report.recorded_ns < enters:
            yield report
        else:
            kept.append(report)
    yield from _sent_late(kept, leaves)


def _sent_late(kept: list[Report], leaves: int) -> Iterator[Report]:
    for report in kept:
        yield report._replace(sent_ns=leaves)


def one_after_another(reports: Iterable[Report]) -> Iterator[Report]:
    """A phone has one connection: what comes out of a tunnel holds up what is measured next."""
    last = 0
    for report in reports:
        last = max(report.sent_ns, last + REQUEST_NS)
        yield report._replace(sent_ns=last)


def jumps(reports: Iterable[Report], random: Random) -> Iterator[Report]:
    """Now and then a position 5 to 500 km away, or where the equator meets Greenwich."""
    for report in reports:
        if random.random() >= JUMPS:
            yield report
        elif random.random() < 0.2:
            yield report._replace(latitude=0.0, longitude=0.0)
        else:
            yield _elsewhere(report, random)


def _elsewhere(report: Report, random: Random) -> Report:
    degrees = random.uniform(5_000, 500_000) / METRES_PER_DEGREE
    angle = random.uniform(0, 2 * math.pi)
    latitude = report.latitude + degrees * math.cos(angle)
    longitude = report.longitude + degrees * math.sin(angle)
    return report._replace(
        latitude=min(max(latitude, -90.0), 90.0), longitude=math.remainder(longitude, 360.0)
    )


def skew(reports: Iterable[Report], random: Random) -> Iterator[Report]:
    """The phone's clock is 2 min to 2 h ahead, or 5 s to 5 min behind."""
    if random.random() < 0.5:
        ahead = random.uniform(120, 7200)
    else:
        ahead = -random.uniform(5, 300)
    offset = round(ahead * SECOND_NS)
    for report in reports:
        yield report._replace(recorded_ns=report.recorded_ns + offset)


def duplicates(events: Iterable[Event], random: Random) -> Iterator[Event]:
    """Some events once more, the very same bytes up to 3 s later, as a retried produce does."""
    again: list[Event] = []
    for event in events:
        while again and again[0].due_ns <= event.due_ns:
            yield heapq.heappop(again)
        yield event
        if random.random() < DUPLICATES:
            later = event.due_ns + round(random.uniform(0, 3) * SECOND_NS)
            heapq.heappush(again, event._replace(due_ns=later))
    while again:
        yield heapq.heappop(again)
