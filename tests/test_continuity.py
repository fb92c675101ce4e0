"""tracking.live.continuity: what comes twice, too early or not at all is noticed."""

from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.changes import BookingChanges, Heard, TrackMove
from tracking.live.continuity import LEAST_S, LONGEST_S, MOST_HELD, Continuity, Silence

BOOKING = uuid4()
NOW = datetime.now(UTC)


def moved(before: int, after: int, epoch: str = "e") -> BookingChanges:
    return BookingChanges(BOOKING, [], TrackMove(epoch, before, after, 0))


def begun(version: int) -> Continuity:
    continuity = Continuity()
    assert continuity.begin("e", version) == []
    return continuity


def test_what_comes_in_order_is_told_at_once() -> None:
    continuity = begun(3)
    for version in (3, 4, 5):
        change = moved(version, version + 1)
        assert continuity.take(change) == [change]
    assert (continuity.version, continuity.is_broken) == (6, False)


def test_what_comes_twice_is_told_once() -> None:
    continuity = begun(3)
    continuity.take(moved(3, 4))
    assert continuity.take(moved(3, 4)) == continuity.take(moved(1, 2)) == []
    assert not continuity.is_broken


def test_what_comes_too_early_waits_for_what_is_missing() -> None:
    continuity = begun(1)
    assert continuity.take(moved(3, 4)) == []
    assert continuity.take(moved(2, 3)) == []
    assert continuity.is_broken
    assert continuity.take(moved(1, 2)) == [moved(1, 2), moved(2, 3), moved(3, 4)]
    assert not continuity.is_broken


def test_the_table_closes_a_gap() -> None:
    continuity = begun(1)
    continuity.take(moved(5, 6))
    assert continuity.begin("e", 5) == [moved(5, 6)]
    assert (continuity.version, continuity.is_broken) == (6, False)
    continuity.take(moved(8, 9))
    assert continuity.begin("e", 12) == []
    assert (continuity.version, continuity.is_broken) == (12, False)


def test_before_the_state_is_read_everything_waits() -> None:
    continuity = Continuity()
    assert continuity.take(moved(4, 5)) == continuity.take(moved(5, 6)) == []
    assert continuity.begin("e", 5) == [moved(5, 6)]
    continuity.clear()
    assert continuity.take(moved(6, 7)) == []


def test_another_epoch_is_a_gap() -> None:
    """A backup was restored: versions begin where they were then."""
    continuity = begun(9)
    assert continuity.take(moved(3, 4, "other")) == []
    assert continuity.is_broken
    assert continuity.begin("other", 3) == [moved(3, 4, "other")]


def test_what_is_held_of_an_epoch_before_is_forgotten() -> None:
    """Or the room would be healed for ever."""
    continuity = begun(9)
    continuity.take(moved(3, 4, "before"))
    assert continuity.begin("e", 10) == []
    assert not continuity.is_broken


def test_a_room_that_is_behind_is_whole_again_when_the_change_comes() -> None:
    continuity = begun(4)
    assert not continuity.is_behind(4)
    assert continuity.is_behind(6)
    continuity.take(moved(4, 5))
    assert continuity.is_broken
    continuity.take(moved(5, 6))
    assert not continuity.is_broken


def test_the_first_change_of_a_trip_brings_its_epoch() -> None:
    continuity = Continuity()
    continuity.begin(None, 0)
    assert continuity.take(moved(0, 1, "new")) == [moved(0, 1, "new")]
    assert continuity.epoch == "new"


def test_where_a_track_stands_tells_of_a_gap_and_changes_nothing_else() -> None:
    """An ingest process that starts says it of every track that has moved lately."""
    continuity = begun(4)
    assert continuity.take(moved(4, 4)) == [moved(4, 4)]
    assert not continuity.is_broken
    assert continuity.take(moved(5, 5)) == []
    assert continuity.is_broken


def test_what_was_only_heard_of_a_booking_without_track_is_told() -> None:
    heard = BookingChanges(BOOKING, [Heard(BOOKING, NOW, "parked")])
    assert begun(0).take(heard) == [heard]


def test_what_waits_is_bounded_and_nothing_of_it_is_lost_unnoticed() -> None:
    continuity = begun(0)
    for version in range(1, MOST_HELD + 10):
        continuity.take(moved(version, version + 1))
    assert continuity.is_broken
    continuity.begin("e", 1)
    assert (continuity.is_broken, continuity.version) == (True, MOST_HELD + 1)
    waiting = Continuity()
    for version in range(MOST_HELD + 1):
        waiting.take(moved(version, version + 1))
    assert waiting.begin("e", 0)[-1] == moved(MOST_HELD - 1, MOST_HELD)
    assert waiting.is_broken


def test_what_was_not_held_is_missing_though_everything_before_it_has_come() -> None:
    """Without another change nobody else would tell."""
    continuity = begun(0)
    for version in range(1, MOST_HELD + 2):
        continuity.take(moved(version, version + 1))
    continuity.take(moved(0, 1))
    assert (continuity.version, continuity.is_broken) == (MOST_HELD + 1, True)


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(0, 30))
def test_however_it_comes_what_is_told_has_no_gap_and_nothing_twice(
    coming: list[int], begin: int
) -> None:
    """Lost, doubled and mixed up: what is told goes on from version to version."""
    continuity = begun(begin)
    told = [each for version in coming for each in continuity.take(moved(version, version + 1))]
    moves = [each.move for each in told if each.move is not None]
    assert [m.before for m in moves] == list(range(begin, begin + len(moves)))
    assert all(a.after == b.before for a, b in pairwise(moves))
    end = begin + len(moves)
    assert continuity.version == end
    assert continuity.is_broken == any(version > end for version in coming)
    continuity.begin("e", 31)
    assert not continuity.is_broken


def test_a_silent_room_is_looked_after_later_and_later() -> None:
    silence, waits, now = Silence(), [], 1000.0
    silence.heard(now, 5.0)
    for _ in range(4):
        due = now
        while not silence.is_due(due):
            due += 0.5
        waits.append(due - now)
        now = due
        silence.asked(now)
    assert waits == [10, 20, 30, 30] == [10, 20, LONGEST_S, LONGEST_S]
    silence.heard(now, 0.1)
    assert not silence.is_due(now + LEAST_S - 0.1)
    assert silence.is_due(now + LEAST_S)
