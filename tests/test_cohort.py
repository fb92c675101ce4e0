"""tracking.live.cohort: one call for all of them, and what a member takes along when it leaves."""

import errno
from collections.abc import Iterator, Sequence
from unittest.mock import Mock
from uuid import uuid4

import pytest

from tests.viewing import NOW, Seat, Wire
from tracking.domain.access import Principal
from tracking.live.cohort import Cohort
from tracking.live.room import Room
from tracking.live.sender import send_each
from tracking.live.subscriber import Subscriber
from tracking.wire.messages import Message, text_frame


@pytest.fixture
def wires(io_loop: object) -> Iterator[list[Wire]]:
    made = [Wire(small=False) for _ in range(3)]
    yield made
    for each in made:
        each.close()


def cohort_of(wires: list[Wire]) -> tuple[Cohort, list[Subscriber], set[Subscriber]]:
    room, principal = Room(uuid4()), Principal(uuid4(), "admin", NOW)
    members = [Subscriber(room, Seat(Mock()), principal, wire.send_queue) for wire in wires]
    singles = set(members)
    cohort = Cohort(7, singles)
    for member, wire in zip(members, wires, strict=True):
        cohort.add(member, wire.stream.socket)
    return cohort, members, singles


def message(seq: int) -> Message:
    return Message(seq, text_frame(b"position %d" % seq), seq)


@pytest.mark.gen_test
async def test_all_get_a_newer_position_and_nobody_an_old_one(wires: list[Wire]) -> None:
    cohort, members, singles = cohort_of(wires)
    assert (len(cohort), singles) == (3, set())
    assert [cohort.send(message(seq), send_each) for seq in (7, 6, 8)] == [0, 0, 3]
    for wire in wires:
        assert await wire.frames() == [b"position 8"]
    assert all(each.cohort is cohort for each in members)


@pytest.mark.gen_test
async def test_who_leaves_takes_along_what_the_cohort_was_sent(wires: list[Wire]) -> None:
    cohort, (leaving, *others), singles = cohort_of(wires)
    cohort.send(message(8), send_each)
    leaving.send_queue.last_sent = 0.0
    leaving.leave_cohort()
    assert (leaving.sent_seq, leaving.cohort, singles) == (8, None, {leaving})
    assert leaving.send_queue.last_sent == cohort.sent_at - 1.0
    assert cohort.members() == others
    leaving.leave_cohort()  # idempotent


@pytest.mark.gen_test
async def test_who_got_half_leaves_and_gets_the_rest(wires: list[Wire]) -> None:
    cohort, (half, gone, _), singles = cohort_of(wires)

    def short(descriptors: Sequence[int], frame: bytes) -> list[tuple[int, int]]:
        send_each(descriptors[:1], frame[:3])
        return [(0, 3), (1, -errno.ECONNRESET)]

    cohort.send(message(8), short)
    assert singles == {half, gone}
    assert await wires[0].frames() == [b"position 8"]
    assert wires[1].stream.closed()
