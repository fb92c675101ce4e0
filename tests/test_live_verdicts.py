"""tracking.store.ingest.live_verdicts: what is left out while a trip lasts, and who is told."""

from collections.abc import Sequence
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.running import Trip
from tests.test_judging import place, verdicts
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.events import LocationUpdate
from tracking.domain.hops import Recorded, recorded
from tracking.domain.routes import Vertex, lengths_mm
from tracking.domain.seq_runs import holds
from tracking.domain.tails import Tail
from tracking.domain.verdicts import Rule, Verdict, is_possible, judge
from tracking.store.ingest import live_verdicts
from tracking.store.ingest.batch import Stored, store_batch
from tracking.store.ingest.track_cache import TrackCache
from tracking.store.outbox.watermarks import unsent_tracks, waypoints_in
from tracking.store.read.active_trips import active_trips
from tracking.store.read.live import live_state
from tracking.store.read.tracks import last_position
from tracking.store.sql import ROUTE_ORDER
from workers.thinning import spans

ISLAND = 3.0  # degrees to the north: 333 km


def reported(trip: Trip, numbers: Sequence[int], *, off: float = 0.0) -> list[LocationUpdate]:
    """Every five seconds one; `off`: degrees to the north."""
    return [update(trip, 5 * n, **place(5 * n, off)) for n in numbers]


def begun(engine: sa.Engine, count: int) -> tuple[Trip, TrackCache]:
    trip, known = Trip(), TrackCache()
    store_batch(engine, [accepted(trip), *reported(trip, range(1, count + 1))], known=known)
    return trip, known


def told(stored: Stored) -> tuple[list[list[int]], dict[int, bool]]:
    """What is said to be left out, and which waypoints move the marker."""
    flagged = [each.flagged for each in stored.bookings if each.flagged is not None]
    seqs = [[n for first, last in runs for n in range(first, last + 1)] for runs in flagged]
    return seqs, {waypoint.seq: not waypoint.late for waypoint in stored.waypoints}


def marker(engine: sa.Engine, trip: Trip) -> int | None:
    """As everybody who asks sees it."""
    state, last = live_state(engine, trip.booking_id), last_position(engine, trip.booking_id)
    (active,) = active_trips(engine, [trip.booking_id])
    assert state is not None
    assert state.last == last == active.last
    assert last is None or not holds(state.flagged, last.seq)
    return None if last is None else last.seq


def test_a_jump_moves_no_marker_adds_no_distance_and_is_flagged_by_what_follows(
    engine: sa.Engine,
) -> None:
    trip, known = begun(engine, 6)
    before = track_of(engine, trip)
    for seq in (7, 8):  # also alone in its batch
        stored = store_batch(engine, reported(trip, [seq], off=ISLAND), known=known)
        assert told(stored) == ([[*range(7, seq + 1)]], {seq: False})
    track = track_of(engine, trip)
    assert (track.distance_mm, track.waypoint_count) == (before.distance_mm, 8)
    assert track.left_out_mm > 300_000_000
    assert verdicts(engine, trip) == dict.fromkeys((7, 8), Verdict.PENDING)
    assert marker(engine, trip) == 6

    stored = store_batch(engine, reported(trip, [9]), known=known)
    assert told(stored) == ([], {9: True}), "they are left out as before"
    assert verdicts(engine, trip) == dict.fromkeys((7, 8), Verdict.JUMP)
    assert marker(engine, trip) == 9
    assert track_of(engine, trip).distance_mm == pytest.approx(before.distance_mm * 8 / 5, rel=0.01)
    assert told(store_batch(engine, reported(trip, [10]), known=known)) == ([], {10: True})


def test_what_follows_may_also_show_that_those_before_were_wrong(engine: sa.Engine) -> None:
    """A phone that begins with where it was yesterday."""
    trip, known = Trip(), TrackCache()
    store_batch(engine, [accepted(trip), *reported(trip, [1], off=ISLAND)], known=known)
    assert marker(engine, trip) == 1
    assert told(store_batch(engine, reported(trip, [2]), known=known)) == ([[2]], {2: False})
    assert told(store_batch(engine, reported(trip, [3]), known=known)) == ([[1]], {3: True})
    assert marker(engine, trip) == 3
    track = track_of(engine, trip)
    assert 0 < track.distance_mm < 100_000
    assert verdicts(engine, trip) == {1: Verdict.JUMP}


def test_the_end_of_the_trip_decides_what_is_pending(engine: sa.Engine) -> None:
    trip, known = begun(engine, 6)
    store_batch(engine, reported(trip, [7], off=ISLAND), known=known)
    stored = store_batch(engine, [delivered(trip, 60)], known=known)
    assert told(stored) == ([], {})
    assert verdicts(engine, trip) == {7: Verdict.JUMP}
    last = last_position(engine, trip.booking_id)
    assert last is not None
    assert last.seq == 6


def test_a_position_that_is_left_out_goes_nowhere(own_engine: sa.Engine) -> None:
    trip, known = begun(own_engine, 6)
    store_batch(own_engine, reported(trip, [7, 8], off=ISLAND), known=known)
    store_batch(own_engine, [delivered(trip, 60)], known=known)
    (track,) = [
        t for t in unsent_tracks(own_engine, 1_000_000) if t.booking_id == str(trip.booking_id)
    ]
    shown = {w.seq: w.is_shown for w in waypoints_in(own_engine, spans([track], [8]))}
    assert shown == {seq: seq < 7 for seq in range(1, 9)}


def test_waypoints_of_a_release_that_judges_nothing_are_judged_with_the_next(
    engine: sa.Engine,
) -> None:
    trip, known = begun(engine, 6)
    store_batch(engine, reported(trip, [7], off=ISLAND), known=known)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE tracks SET judged_seq = 0, left_out = 0, distance_mm = distance_mm +"
                " left_out_mm, left_out_mm = 0, marker_recorded_at = NULL, marker_runner_id = NULL,"
                " marker_reported_at = NULL, marker_position = NULL, version = version + 1"
                " WHERE booking_id = :id"
            ),
            {"id": trip.booking_id},
        )
    store_batch(engine, reported(trip, [8]), known=known)
    assert (marker(engine, trip), verdicts(engine, trip)) == (8, {7: Verdict.JUMP})
    assert track_of(engine, trip).distance_mm < 1_000_000


def test_a_long_route_is_not_read_for_a_jump(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip, known = begun(engine, 60)
    monkeypatch.setattr(live_verdicts, "judge_route", None)
    store_batch(engine, reported(trip, [61], off=ISLAND), known=known)
    store_batch(engine, reported(trip, [62, 63]), known=known)
    assert (marker(engine, trip), verdicts(engine, trip)) == (63, {61: Verdict.JUMP})
    store_batch(engine, reported(trip, [64], off=ISLAND), known=known)
    assert (marker(engine, trip), verdicts(engine, trip)[64]) == (63, Verdict.PENDING)


def test_however_long_a_phone_was_wrong_it_is_believed_when_it_is_right_again(
    engine: sa.Engine,
) -> None:
    trip, known = begun(engine, 300)
    store_batch(engine, reported(trip, range(301, 361), off=ISLAND), known=known)
    (runs,) = [each.flagged for each in store_batch(
        engine, reported(trip, [361], off=ISLAND), known=known).bookings]  # fmt: skip
    assert runs == [(301, 361)]
    assert marker(engine, trip) == 300
    assert told(store_batch(engine, reported(trip, [362]), known=known)) == ([], {362: True})
    assert marker(engine, trip) == 362
    as_the_whole_route(engine, trip, known)


def test_a_long_route_with_jumps_is_not_read_for_what_comes_late(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip, known = begun(engine, 60)
    store_batch(engine, reported(trip, [61], off=ISLAND), known=known)
    store_batch(engine, reported(trip, range(62, 620)), known=known)
    store_batch(engine, reported(trip, range(630, 701)), known=known)
    monkeypatch.setattr(live_verdicts, "judge_route", None)
    seq = 691  # of the next one
    for numbers, off, flagged in (
        ([628], ISLAND, [[61, 691]]), ([627, 629], 0.0, []), ([620, 702], 0.0, []),
        ([703], ISLAND, [[61, 691, 696]]), ([621], 0.0, []), ([701], 0.0, []),
        ([704, 622], ISLAND, [[61, 691, 696, 699, 700]]), ([705, 623], 0.0, []),
    ):  # fmt: skip
        stored = store_batch(engine, reported(trip, numbers, off=off), known=known)
        seq += len(numbers)
        said, moving = told(stored)
        assert said == flagged, numbers
        assert (seq - 1, len(moving)) == (track_of(engine, trip).head_seq, len(numbers))
        as_the_whole_route(engine, trip, known)
    assert marker(engine, trip) == 701


def as_the_whole_route(engine: sa.Engine, trip: Trip, known: TrackCache) -> None:
    """What is stored is what the whole route says; and so is what ingest keeps in memory."""
    (kept,) = known.take([trip.booking_id]).values()
    known.put([kept])
    rows, rule = routed(engine, trip), known.rule
    route = [recorded(row[0], row[1].recorded_at, *row[1][3:]) for row in rows]
    judgement = judge(route, rule)
    verdicts_now = judgement.verdicts
    assert verdicts(engine, trip) == verdicts_now
    assert (kept.verdicts or {}) == verdicts_now
    shown = [vertex for seq, vertex in rows if seq not in verdicts_now]
    lengths = lengths_mm([shown, [vertex for _, vertex in rows]])
    assert lengths == [kept.distance_mm, kept.reported_mm]
    assert track_of(engine, trip).distance_mm == kept.distance_mm
    assert kept.shown == (shown[-1] if shown else kept.last)
    assert kept.waypoint_count == len(rows)
    if kept.tail is not None:
        whole = Tail.of(route, rule)
        assert (kept.tail.left_out, kept.tail.implausible) == (whole.left_out, whole.implausible)
        assert sorted(kept.tail.pending) == sorted(whole.pending)


def routed(engine: sa.Engine, trip: Trip) -> list[tuple[int, Vertex]]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT seq, recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)"
                " FROM waypoints WHERE track_id = (SELECT id FROM tracks WHERE booking_id = :id)"
                f" AND in_route ORDER BY {ROUTE_ORDER}"
            ),
            {"id": trip.booking_id},
        )
        return [(row[0], Vertex(*row[1:])) for row in rows]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([0.0] * 6 + [ISLAND, -ISLAND]), min_size=2, max_size=30),
    st.integers(0, 5),
    st.integers(0, 1 << 32),
)
def test_whatever_comes_the_marker_makes_no_impossible_hop_unless_it_stood_wrong(
    engine: sa.Engine, offs: list[float], shuffled: int, seed: int
) -> None:
    """For every prefix of arrivals: what is shown was shown before, or can be reached from it; or
    what was shown before is not on the longest chain any more.
    """
    choice, trip = Random(seed), Trip()
    rule = Rule(look_back=choice.choice((2, 3, 30)), most_left_out=choice.choice((0.2, 1.0)))
    known = TrackCache(rule=rule)
    updates = [update(trip, 5 * n, **place(5 * n, off)) for n, off in enumerate(offs, 1)]
    for _ in range(shuffled):
        one, other = choice.randrange(len(updates)), choice.randrange(len(updates))
        updates[one], updates[other] = updates[other], updates[one]
    store_batch(engine, [accepted(trip)], known=known)
    shown: Recorded | None = None
    left_out: set[int] = set()
    while updates:
        batch = [updates.pop(0) for _ in range(min(len(updates), choice.choice((1, 1, 1, 3))))]
        used = known if choice.random() < 0.8 else TrackCache(rule=rule)
        stored = store_batch(engine, batch, known=used)
        for seqs in told(stored)[0]:
            left_out = set(seqs)
        assert left_out == set(verdicts(engine, trip))
        as_the_whole_route(engine, trip, used)
        for waypoint in sorted(stored.waypoints, key=lambda each: each.seq):
            if not waypoint.late:
                new = recorded(
                    waypoint.seq, waypoint.recorded_at, waypoint.longitude, waypoint.latitude
                )
                assert new.seq not in left_out
                assert (
                    shown is None
                    or shown.seq in left_out
                    or is_possible(shown, new)
                    or (_is_implausible(engine, trip))
                )
                shown = new


def _is_implausible(engine: sa.Engine, trip: Trip) -> bool:
    with engine.connect() as connection:
        left_out = connection.scalar(
            sa.text("SELECT left_out FROM tracks WHERE booking_id = :id"), {"id": trip.booking_id}
        )
    return int(left_out) > len(verdicts(engine, trip))
