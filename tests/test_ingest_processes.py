"""workers.relay.ingest_processes: how far those that store are behind, as one that serves knows."""

from math import inf

import pytest

from tracking.wire.relay import SignOfLife
from workers.relay import ingest_processes
from workers.relay.ingest_processes import FORGOTTEN_S, LATE_S, IngestProcesses


class Clock:
    """What time.monotonic says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ingest_processes, "time", made)
    return made


def test_before_anybody_was_heard_nobody_knows(clock: Clock) -> None:
    processes = IngestProcesses()
    assert (processes.delay_s(), processes.silence_s(), len(processes)) == (inf, inf, 0)


def test_the_last_of_them_counts(clock: Clock) -> None:
    processes = IngestProcesses()
    processes.tell(SignOfLife("a", 0.5))
    processes.tell(SignOfLife("b", 7.0))
    assert (processes.delay_s(), len(processes)) == (7.0, 2)
    processes.tell(SignOfLife("b", 0.0))
    assert processes.delay_s() == 0.5


def test_one_that_falls_silent_is_behind_by_its_silence(clock: Clock) -> None:
    """Nobody reads its partitions until Kafka gives them to another."""
    processes = IngestProcesses()
    processes.tell(SignOfLife("a", 0.0))
    processes.tell(SignOfLife("b", 1.0))
    clock.now += LATE_S - 0.1
    processes.tell(SignOfLife("a", 0.0))
    assert processes.delay_s() == 1.0
    clock.now += 15
    processes.tell(SignOfLife("a", 0.0))
    assert processes.delay_s() == pytest.approx(1.0 + 15 + LATE_S - 0.1)
    assert (len(processes), processes.silence_s()) == (1, 0.0)
    clock.now += FORGOTTEN_S
    processes.tell(SignOfLife("a", 0.0))
    assert processes.delay_s() == 0.0


def test_one_that_stops_in_order_is_missed_by_nobody(clock: Clock) -> None:
    processes = IngestProcesses()
    processes.tell(SignOfLife("a", 0.2))
    processes.tell(SignOfLife("b", 9.0))
    processes.tell(SignOfLife("b", 0.0, leaves=True))
    assert (processes.delay_s(), len(processes)) == (0.2, 1)


def test_when_all_have_left_the_silence_is_the_delay(clock: Clock) -> None:
    processes = IngestProcesses()
    processes.tell(SignOfLife("a", 0.2))
    processes.tell(SignOfLife("a", 0.0, leaves=True))
    clock.now += 12
    assert (processes.delay_s(), processes.silence_s()) == (12.0, 12.0)
