"""tracking.store.maintenance.metadata: what a route adds up to, and that no field lies."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.verdicts import STANDARD, Rule
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks

NOISE_DEGREES = 3.6e-5  # 4 m


def ended(engine: sa.Engine, places: Sequence[tuple[float, float, float, float | None]]) -> Trip:
    """A trip through (second, longitude, latitude, speed), that is over."""
    trip = Trip()
    updates = [
        update(trip, second, longitude=longitude, latitude=latitude, speed_kmh=speed)
        for second, longitude, latitude, speed in places
    ]
    end = max((place[0] for place in places), default=0.0)
    store_batch(engine, [accepted(trip), *updates, delivered(trip, end)])
    return trip


def metadata(engine: sa.Engine, trip: Trip, rule: Rule = STANDARD) -> dict[str, Any]:
    update_metadata(engine, track_of(engine, trip).id, rule)
    return stored(engine, trip)


def stored(engine: sa.Engine, trip: Trip) -> dict[str, Any]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT *, ST_AsText(simplified) AS line FROM route_metadata WHERE track_id = :id"
            ),
            {"id": track_of(engine, trip).id},
        )
        return dict(rows.mappings().one())


def bbox(found: dict[str, Any]) -> tuple[float, ...]:
    return found["west"], found["south"], found["east"], found["north"]


def test_a_phone_that_lies_still_did_not_move(engine: sa.Engine) -> None:
    places = [
        (second, 106.8 + NOISE_DEGREES * (second % 2), -6.2 + NOISE_DEGREES * (second % 3), 0.0)
        for second in range(0, 3_600, 5)
    ]
    found = metadata(engine, ended(engine, places))
    assert found["distance_m"] > 1_000  # the sum of the legs, all noise
    assert (found["moving_s"], found["average_speed_kmh"]) == (0, None)
    assert (found["max_speed_kmh"], found["reported_max_speed_kmh"]) == (None, 0)
    assert (found["duration_s"], found["longest_gap_s"]) == (3_595, None)
    assert found["longest_interval_s"] == 5


def test_standing_still_on_the_way_is_no_movement(engine: sa.Engine) -> None:
    driven = [(s, 106.8 + s * 1e-4, -6.2, 40.0) for s in range(0, 600, 10)]
    stood = [(s, 106.86 + NOISE_DEGREES * (s % 20) / 10, -6.2, 0.0) for s in range(600, 1_200, 10)]
    found = metadata(engine, ended(engine, driven + stood))
    assert found["moving_s"] == 600
    assert found["average_speed_kmh"] == pytest.approx(39.8, abs=0.1)
    assert found["max_speed_kmh"] == 40


def test_a_phone_without_speeds_leaves_them_unknown(engine: sa.Engine) -> None:
    found = metadata(engine, ended(engine, [(0, 106.8, -6.2, None), (10, 106.803, -6.2, None)]))
    assert (found["max_speed_kmh"], found["reported_max_speed_kmh"]) == (None, None)
    assert (found["moving_s"], found["longest_gap_s"]) == (10, None)
    assert found["average_speed_kmh"] == pytest.approx(119.5, abs=0.1)


@pytest.mark.parametrize(
    ("longitudes", "west", "east", "line"),
    [
        ([179.9995, -179.999], 179.9995, -179.999,
         "MULTILINESTRING((179.9995 -16.8,180 -16.8),(-180 -16.8,-179.999 -16.8))"),
        ([-179.999, 179.9995, 179.999], 179.999, -179.999,
         "MULTILINESTRING((-179.999 -16.8,-180 -16.8),(180 -16.8,179.999 -16.8))"),
        ([179.999, 180, -179.999], 179.999, -179.999,
         "MULTILINESTRING((179.999 -16.8,180 -16.8),(-180 -16.8,-179.999 -16.8))"),
        ([179.99, -179.99, 179.98], 179.98, -179.99,
         "MULTILINESTRING((179.99 -16.8,180 -16.8),(-180 -16.8,-179.99 -16.8,-180 -16.8),"
         "(180 -16.8,179.98 -16.8))"),
        ([106.8], 106.8, 106.8, "POINT(106.8 -16.8)"),
        ([], None, None, None),
    ],
    ids=["eastwards", "westwards", "a-point-on-it", "there-and-back", "one", "none"],
)  # fmt: skip
def test_the_antimeridian(
    engine: sa.Engine,
    longitudes: list[float],
    west: float | None,
    east: float | None,
    line: str | None,
) -> None:
    places = [(second * 120.0, x, -16.8, 20.0) for second, x in enumerate(longitudes)]
    found = metadata(engine, ended(engine, places))
    assert (found["west"], found["east"]) == (west, east)
    assert _without_duplicates(found["line"]) == line


def _without_duplicates(line: str | None) -> str | None:
    """A waypoint on the meridian and the cut there are one."""
    return line and line.replace("180 -16.8,180 -16.8", "180 -16.8")


def test_a_trip_around_the_world_has_the_whole_world_as_its_box(own_engine: sa.Engine) -> None:
    places = [(n * 60.0, math.remainder(n * 90.0, 360), 0.5, 20.0) for n in range(6)]
    found = metadata(own_engine, ended(own_engine, places), Rule(max_speed_kmh=1e9))
    assert bbox(found) == (-180, 0.5, 180, 0.5)


# Within some 100 m of one place, which every hop can reach.
NEAR = st.floats(-4e-4, 4e-4)


@st.composite
def somewhere(draw: st.DrawFn) -> list[tuple[float, float, float, float | None]]:
    """A trip around one place: on the antimeridian, near a pole, on the equator."""
    x, y = draw(st.sampled_from([180.0, 106.8, 0.0])), draw(st.sampled_from([-89.0, -16.8, 0.0]))
    speeds = st.none() | st.floats(0, 400, width=32)
    seconds = draw(st.lists(st.integers(0, 3_600).map(float), max_size=6, unique=True))
    places = [
        (s, math.remainder(x + draw(NEAR), 360), y + draw(NEAR), draw(speeds)) for s in seconds
    ]
    return [place for place in places if place[1] or place[2]]  # others are refused


@settings(max_examples=60)
@given(places=somewhere())
def test_no_field_contradicts_another(
    engine: sa.Engine, places: list[tuple[float, float, float, float | None]]
) -> None:
    trip = ended(engine, places)
    found, track = metadata(engine, trip), track_of(engine, trip)
    seconds = sorted(place[0] for place in places)
    assert found["waypoint_count"] == len(places) == track.head_seq
    assert found["reported_distance_m"] == track.distance_mm / 1000
    assert (found["flagged"], found["implausible"]) == (0, False)
    assert found["distance_m"] == found["reported_distance_m"]
    assert found["duration_s"] == (seconds[-1] if seconds else 0)
    waits = [b - a for a, b in pairwise(seconds)]
    assert found["longest_interval_s"] == max(waits, default=None)
    gaps = [wait for wait in waits if wait > max(60, 5 * median(waits))]
    assert found["longest_gap_s"] == max(gaps, default=None)
    speeds(found)
    west, south, east, north = bbox(found)
    for _, longitude, latitude, _ in places:
        assert south <= latitude <= north
        if west <= east:
            assert west <= longitude <= east
        else:
            assert longitude >= west or longitude <= east


def speeds(found: dict[str, Any]) -> None:
    average, fastest = found["average_speed_kmh"], found["max_speed_kmh"]
    times = found["summary"]["times"]
    assert 0 <= found["moving_s"] == times["moving_s"]
    assert (average is None) == (found["moving_s"] == 0)
    moved = found["distance_m"] / times["recorded_s"] * 3.6 if times["recorded_s"] else 0
    reported = found["reported_max_speed_kmh"]
    if fastest is None:
        assert reported is None or max(average or 0, moved) * (1 + 1e-12) > reported
    else:
        assert fastest == reported
        assert (average or 0) <= fastest
        assert moved <= fastest * (1 + 1e-12)


def test_only_ended_trips_wait_and_the_first_to_end_first(own_engine: sa.Engine) -> None:
    later, earlier, running = Trip(), Trip(), Trip()
    store_batch(own_engine, [accepted(running), update(running, 1)])
    store_batch(own_engine, [accepted(later), delivered(later, 100)])
    store_batch(own_engine, [accepted(earlier), delivered(earlier, 50)])
    ids = [track_of(own_engine, trip).id for trip in (earlier, later)]
    assert waiting_tracks(own_engine, 5) == ids
    assert waiting_tracks(own_engine, 1) == ids[:1]
    assert waiting_tracks(own_engine, 5, without=ids[:1]) == ids[1:]
    for track_id in ids:
        update_metadata(own_engine, track_id)
    assert waiting_tracks(own_engine, 5) == []
    store_batch(own_engine, [update(later, 70)])
    assert waiting_tracks(own_engine, 5) == ids[1:]
    update_metadata(own_engine, ids[1])
    assert stored(own_engine, later)["waypoint_count"] == 1


def test_a_route_that_changes_meanwhile_stays_waiting(
    own_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = Trip()
    store_batch(own_engine, [accepted(trip), update(trip, 1), delivered(trip, 50)])
    track_id = track_of(own_engine, trip).id
    changed = "UPDATE tracks SET version = version + 1 WHERE id = %(id)s;"
    from tracking.store.maintenance import metadata as module

    monkeypatch.setattr(module, "_UPSERT", changed + module._UPSERT)
    update_metadata(own_engine, track_id)
    assert waiting_tracks(own_engine, 5) == [track_id]
