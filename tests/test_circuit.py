"""workers.circuit: three failures open it, one attempt closes it, and pauses grow."""

from dataclasses import dataclass

from workers.circuit import Circuit


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Circuit:
    circuit = Circuit(clock)
    assert [circuit.failed() for _ in range(3)] == [False, False, True]
    return circuit


def test_three_failures_in_a_row_open_it() -> None:
    circuit = Circuit(Clock())
    for _ in range(2):
        assert not circuit.failed()
    assert not circuit.succeeded()
    for _ in range(2):
        assert not circuit.failed()
    assert (circuit.may_ask(), circuit.is_open, circuit.pause_s) == (True, False, 0)
    assert circuit.failed()
    assert (circuit.may_ask(), circuit.is_open, circuit.pause_s) == (False, True, 30)


def test_after_the_pause_one_tries_and_its_answer_closes_it() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now += 29.9
    assert not circuit.may_ask()
    clock.now += 0.1
    assert [circuit.may_ask() for _ in range(3)] == [True, False, False]
    assert circuit.is_open
    assert circuit.succeeded()
    assert (circuit.may_ask(), circuit.is_open) == (True, False)
    assert not circuit.failed()  # it counts from the start again
    assert circuit.may_ask()


def test_pauses_are_doubled_up_to_five_minutes() -> None:
    clock = Clock()
    circuit, pauses = opened(clock), []
    for _ in range(6):
        pauses.append(circuit.pause_s)
        clock.now += circuit.pause_s - 1
        assert not circuit.may_ask()
        clock.now += 1
        assert circuit.may_ask()
        assert circuit.failed()
    assert pauses == [30, 60, 120, 240, 300, 300]
    clock.now += 300
    assert circuit.may_ask()
    assert circuit.succeeded()
    assert [circuit.failed() for _ in range(3)] == [False, False, True]
    assert circuit.pause_s == 30


def test_who_had_asked_before_it_opened_decides_nothing() -> None:
    clock = Clock()
    circuit = opened(clock)
    assert not circuit.succeeded()
    assert not circuit.failed()
    assert (circuit.is_open, circuit.pause_s) == (True, 30)
