"""tracking.store.ingest.track_cache: what a failed transaction leaves behind is nothing wrong."""

import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from tracking.domain.routes import Gap, Vertex
from tracking.store.ingest.track_cache import OTHER_WRITER_S, TrackCache
from tracking.store.ingest.track_state import TrackState

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)


def track(booking_id: UUID | None = None) -> TrackState:
    last = Vertex(START, UUID(int=1), START, 106.8, -6.2)
    return TrackState(
        booking_id or uuid4(), uuid4(), uuid4(), UUID(int=1), "active", "to_pickup", START, None,
        head_seq=1, waypoint_count=1, distance_mm=0, last=last, version=1, epoch="e",
    )  # fmt: skip


def test_what_was_taken_is_gone_until_it_is_put_back() -> None:
    cache, one = TrackCache(), track()
    cache.put([one])
    assert cache.take([one.booking_id, uuid4()]) == {one.booking_id: one}
    assert cache.take([one.booking_id]) == {}  # the transaction failed
    cache.put([one])
    assert len(cache) == 1


def test_what_is_put_back_is_ready_for_the_next_batch() -> None:
    cache, one = TrackCache(), track()
    one.added = [object()]  # type: ignore[list-item] # whatever the batch added
    cache.put([one])
    (found,) = cache.take([one.booking_id]).values()
    assert (found.added, found.end) == ([], Gap(one.last, None))


def test_the_ones_longest_unused_make_room() -> None:
    cache = TrackCache(limit=2)
    first, second, third = track(), track(), track()
    cache.put([first, second])
    cache.put(list(cache.take([first.booking_id]).values()))  # used since
    cache.put([third])
    assert len(cache) == 2
    assert cache.take([second.booking_id]) == {}
    assert set(cache.take([first.booking_id, third.booking_id])) == {
        first.booking_id, third.booking_id,
    }  # fmt: skip


def test_another_writer_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TrackCache()
    seen = [cache.is_only_writer]
    cache.note_other_writer()
    seen.append(cache.is_only_writer)
    later = time.monotonic() + OTHER_WRITER_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert [*seen, cache.is_only_writer] == [True, False, True]
