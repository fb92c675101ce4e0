"""tracking.store.read.summaries and tracking.wire.summary: one answer, stored or computed."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.databases import own_database
from tests.running import Trip
from tests.test_judging import ended
from tests.test_metadata import stored
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.segments import gap_of
from tracking.domain.verdicts import STANDARD, Rule
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import metadata
from tracking.store.maintenance.metadata import update_metadata
from tracking.store.read import exported
from tracking.store.read.exported import export_start
from tracking.store.read.routes import RouteSlice
from tracking.store.read.summaries import (
    MOST_ON_DEMAND,
    settled_summary,
    sum_up,
    summary_so_far,
)
from tracking.store.statements import transaction
from tracking.wire.route_properties import duration_s
from tracking.wire.summary import summary_fields

# Seconds to the next waypoint, metres to the east of the one before (< 0: back), km/h.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.001, 1.0, 5.0, 5.3, 61.0, 400.0]),
        st.sampled_from([0.0, 0.0, 3.0, 20.0, 90.0, -90.0, 900.0, -900.0, 20_000.0, -20_000.0]),
        st.none() | st.floats(0, 200, width=32),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def engine(environ: dict[str, str]) -> Iterator[sa.Engine]:
    """Of a database that no server settles trips in."""
    with own_database(environ) as engine:
        yield engine


def said(engine: sa.Engine, trip: Trip, rule: Rule | None = STANDARD) -> dict[str, Any]:
    """As the API has it, computed now."""
    track = track_of(engine, trip)
    found = summary_so_far(engine, track, rule)
    return summary_fields(track, found.summary, is_final=False, implausible=found.implausible)


def settled(engine: sa.Engine, trip: Trip) -> dict[str, Any]:
    track = track_of(engine, trip)
    found = settled_summary(engine, track)
    return summary_fields(
        track, found.summary, is_final=found.is_settled, implausible=found.implausible
    )


def driven(engine: sa.Engine, steps: list[tuple[float, float, float | None]], end: bool) -> Trip:
    trip, second, metres, updates = Trip(), 0.0, 0.0, []
    for wait, far, speed in steps:
        second, metres = second + wait, metres + far
        place = {"longitude": 106.8 + metres / 110_000, "latitude": -6.2, "speed_kmh": speed}
        updates.append(update(trip, second, **place))
    store_batch(engine, [accepted(trip), *updates, *([delivered(trip, second)] if end else [])])
    return trip


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, end=st.booleans())
def test_no_figure_contradicts_another(
    engine: sa.Engine, steps: list[tuple[float, float, float | None]], end: bool
) -> None:
    trip = driven(engine, steps, end)
    found, track = said(engine, trip), track_of(engine, trip)
    parts = [found[name] for name in ("moving_s", "standing_s", "unknown_s")]
    assert min(parts) >= 0
    assert round(sum(parts), 6) == found["recorded_s"]
    assert found["duration_s"] == duration_s(track)
    assert found["recorded_s"] <= found["duration_s"]
    assert found["reported_distance_m"] == track.reported_mm / 1000
    assert found["distance_m"] == track.distance_mm / 1000
    counts = found["counts"]
    assert counts["waypoints"] == len(steps)
    if not counts["flagged"]:
        assert found["distance_m"] == found["reported_distance_m"]
    moved = sum(gap["seconds"] for gap in found["gaps"] if gap["kind"] == "moved")
    assert found["unknown_s"] == pytest.approx(moved, abs=1e-5)
    if end:
        assert_settles_as(engine, trip, found)


def assert_settles_as(engine: sa.Engine, trip: Trip, found: dict[str, Any]) -> None:
    assert settled(engine, trip)["final"] is False
    update_metadata(engine, track_of(engine, trip).id)
    kept, row = settled(engine, trip), stored(engine, trip)
    assert kept == {**found, "final": True}
    assert (row["distance_m"], row["duration_s"]) == (kept["distance_m"], kept["duration_s"])
    assert row["reported_distance_m"] == kept["reported_distance_m"]
    summary, speeds = row["summary"], row["summary"]["speeds"]
    assert row["moving_s"] == summary["times"]["moving_s"] == kept["moving_s"]
    assert row["average_speed_kmh"] == speeds["average_kmh"]
    assert row["reported_max_speed_kmh"] == speeds["max_kmh"]
    assert row["max_speed_kmh"] in (None, row["reported_max_speed_kmh"])
    assert row["flagged"] == sum(kept["counts"]["flagged"].values())
    assert row["longest_gap_s"] == kept["longest_gap_s"]
    assert row["stops"] == len(kept["stops"])


def test_late_data_settle_it_anew(engine: sa.Engine) -> None:
    trip = ended(engine, {}, 20)
    track_id = track_of(engine, trip).id
    update_metadata(engine, track_id)
    before = settled(engine, trip)
    store_batch(engine, [update(trip, 52, longitude=106.8052, latitude=-6.2005)])
    assert settled(engine, trip)["final"] is False
    without = settled(engine, trip)
    now = said(engine, trip)
    assert (without["moving_s"], without["distance_m"]) == (None, now["distance_m"])
    assert now["counts"]["waypoints"] == 21
    update_metadata(engine, track_id)
    assert settled(engine, trip) == {**now, "final": True}
    assert now["distance_m"] > before["distance_m"]


def test_exports_have_the_gaps_of_the_summary(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usual interval is 40 s; 20 s if the flagged ones counted, or the beginning alone."""
    waits = [20.0] * 9 + [40.0] * 5 + [150.0] + [40.0] * 6 + [201.0]
    seconds = [*accumulate(waits, initial=1.0)]
    jumps = [seconds[n] + 20 for n in (10, 12, 16)]
    trip, places = Trip(), [(s, 106.8 + s * 1e-5) for s in seconds] + [(s, 107.5) for s in jumps]
    updates = [update(trip, s, longitude=x, latitude=-6.2) for s, x in places]
    store_batch(engine, [accepted(trip), *updates, delivered(trip, seconds[-1])])
    update_metadata(engine, track_of(engine, trip).id)
    track, kept = track_of(engine, trip), settled(engine, trip)
    assert kept["counts"]["flagged"] == {"jump": 3}
    whole = RouteSlice(track.id, 0, track.head_seq)

    def split() -> list[float]:
        longest = gap_of(export_start(engine, track, whole).median_s)
        return [wait for wait in waits if wait > longest]

    assert [gap["seconds"] for gap in kept["gaps"]] == split() == [201]
    monkeypatch.setattr(exported, "SAMPLE", 5)
    assert split() == [201]
    monkeypatch.undo()
    execute(engine, "UPDATE route_metadata SET track_version = track_version - 1", track.id)
    assert split() == [201]


def test_a_summary_of_another_version_is_not_used(engine: sa.Engine) -> None:
    """Whoever was slow wrote it over the newer one."""
    trip = ended(engine, {})
    track_id = track_of(engine, trip).id
    update_metadata(engine, track_id)
    execute(engine, "UPDATE route_metadata SET track_version = track_version - 1", track_id)
    found = settled_summary(engine, track_of(engine, trip))
    assert (found.is_settled, found.summary) == (True, None)


def test_what_was_settled_without_a_summary_is_computed_by_its_own_verdicts(
    engine: sa.Engine,
) -> None:
    trip = ended(engine, {7: 0.004})  # 443 m: too far at 150 km/h, not at 300
    track_id = track_of(engine, trip).id
    update_metadata(engine, track_id)
    kept = settled(engine, trip)
    assert kept["counts"]["flagged"] == {"jump": 1}
    execute(engine, "UPDATE route_metadata SET track_version = NULL, summary = NULL", track_id)
    assert settled(engine, trip)["moving_s"] is None
    by_verdicts = said(engine, trip, None)
    assert by_verdicts == {**kept, "final": False, "implausible": None}
    assert said(engine, trip, Rule(max_speed_kmh=300))["counts"]["flagged"] == {}


def test_a_doubtful_newest_waypoint_counts_for_the_duration_only(engine: sa.Engine) -> None:
    trip, places = Trip(), [(5, 106.8), (10, 106.8005), (15, 106.801), (20, 106.8015), (25, 107.0)]
    updates = [update(trip, s, longitude=x, latitude=-6.2) for s, x in places]
    store_batch(engine, [accepted(trip), *updates])
    found = said(engine, trip)
    assert found["counts"]["flagged"] == {"pending": 1}
    assert (found["duration_s"], found["recorded_s"]) == (25, 15)
    assert found["distance_m"] < 200 < 20_000 < found["reported_distance_m"]
    store_batch(engine, [delivered(trip, 25)])
    assert said(engine, trip)["counts"]["flagged"] == {"jump": 1}


def test_what_is_too_long_or_no_longer_whole_has_no_figures(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = ended(engine, {})
    track = track_of(engine, trip)
    assert sum_up(engine, track, STANDARD, 20).summary is not None
    assert sum_up(engine, track, STANDARD, 19).summary is None
    monkeypatch.setattr(metadata, "MOST_SETTLED", 19)
    update_metadata(engine, track.id)
    found = settled(engine, trip)
    assert (found["final"], found["moving_s"], found["stops"]) == (True, None, None)
    assert found["distance_m"] == track.distance_mm / 1000 > 0
    assert (found["duration_s"], found["counts"]["waypoints"]) == (100, 20)
    row = stored(engine, trip)
    assert (row["moving_s"], row["summary"], row["duration_s"]) == (None, None, 100)
    execute(engine, "DELETE FROM waypoints", track.id, "AND seq = 3")
    assert sum_up(engine, track, STANDARD, MOST_ON_DEMAND).summary is None


def execute(engine: sa.Engine, statement: str, track_id: object, more: str = "") -> None:
    with transaction(engine) as cursor:
        cursor.execute(f"{statement} WHERE track_id = %s {more}", (track_id,))
