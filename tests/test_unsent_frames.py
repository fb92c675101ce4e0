"""tracking.live.unsent_frames: what is kept for a slow viewer, and when it is too much."""

import time

from tracking.live.unsent_frames import LIMIT_BYTES, MARK, RELIEVED, SLOW_LIMIT_S, UnsentFrames


def filled(count: int, *, replaceable: bool = True) -> UnsentFrames:
    unsent = UnsentFrames()
    for number in range(count):
        unsent.append(b"%d" % number, replaceable=replaceable)
    return unsent


def test_a_newer_position_replaces_the_oldest_one_and_never_a_status() -> None:
    unsent = UnsentFrames()
    unsent.append(b"status", replaceable=False)
    replaced = [unsent.append(b"%d" % number, replaceable=True) for number in range(MARK + 1)]
    assert replaced == [False] * (MARK - 1) + [True] * 2
    kept = [unsent.popleft() for _ in range(MARK)]
    assert (len(unsent), unsent.size) == (0, 0)
    assert kept == [b"status", *(b"%d" % number for number in range(2, MARK + 1))]


def test_where_only_statuses_wait_nothing_is_replaced() -> None:
    unsent = filled(MARK, replaceable=False)
    assert not unsent.append(b"position", replaceable=True)
    assert len(unsent) == MARK + 1


def test_of_what_says_all_anew_only_the_newest_waits_where_the_first_one_stood() -> None:
    unsent = UnsentFrames()
    unsent.append(b"before", replaceable=False)
    assert not unsent.put_newest(b"flagged 1")
    unsent.append(b"between", replaceable=False)
    assert [unsent.put_newest(b"flagged %d" % n) for n in range(2, 2000)] == [True] * 1998
    assert (len(unsent), unsent.size) == (3, len(b"beforeflagged 1999between"))
    assert [unsent.popleft() for _ in range(2)] == [b"before", b"flagged 1999"]
    assert not unsent.put_newest(b"flagged 2000")
    assert [unsent.popleft() for _ in range(2)] == [b"between", b"flagged 2000"]
    assert unsent.size == 0


def test_it_is_over_from_the_mark_until_half_of_that() -> None:
    unsent = filled(MARK)
    assert unsent.is_over
    while len(unsent) > RELIEVED + 1:
        unsent.popleft()
        assert unsent.is_over
    unsent.popleft()
    assert not unsent.is_over


def test_over_the_mark_for_too_long_is_stuck() -> None:
    assert not filled(MARK - 1).is_stuck(time.monotonic() + 1000)
    unsent = filled(MARK)
    assert not unsent.is_stuck(time.monotonic() + SLOW_LIMIT_S - 1)
    assert unsent.is_stuck(time.monotonic() + SLOW_LIMIT_S + 1)


def test_what_has_no_bound_is_stuck_at_once_and_not_kept() -> None:
    unsent = UnsentFrames()
    for _ in range(10):
        unsent.append(b" " * LIMIT_BYTES, replaceable=False)
    assert unsent.is_stuck(time.monotonic())
    assert len(unsent) == 2
