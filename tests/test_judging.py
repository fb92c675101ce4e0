"""tracking.store.maintenance.judging: ended trips, in the database, as the rule says."""

from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

import verdicts as verdicts_tool
from tests.programs import run_program
from tests.running import Trip
from tests.test_store_ingest import accepted, delivered, track_of, update
from tracking.domain.events import FIRST_TIME
from tracking.domain.hops import recorded
from tracking.domain.verdicts import Rule, Verdict, final, judge
from tracking.store.erasing.bookings import erase_booking
from tracking.store.ingest.batch import store_batch
from tracking.store.maintenance import judging
from tracking.store.maintenance.judging import ended_tracks, judge_track
from tracking.store.maintenance.metadata import update_metadata, waiting_tracks
from tracking.store.statements import transaction

DEGREES_A_SECOND = 1e-4  # 11 m/s


def place(second: float, off_degrees: float = 0.0) -> dict[str, float]:
    return {"longitude": 106.8 + second * DEGREES_A_SECOND, "latitude": -6.2 + off_degrees}


def ended(engine: sa.Engine, jumps: dict[int, float], count: int = 20) -> Trip:
    """A trip with a waypoint every five seconds; `jumps`: degrees to the north, by seq."""
    trip = Trip()
    updates = [update(trip, 5 * n, **place(5 * n, jumps.get(n, 0))) for n in range(1, count + 1)]
    store_batch(engine, [accepted(trip), *updates, delivered(trip, 5 * count)])
    return trip


def verdicts(engine: sa.Engine, trip: Trip) -> dict[int, int]:
    with transaction(engine) as cursor:
        cursor.execute(
            "SELECT seq, verdict FROM waypoints WHERE track_id = %s AND verdict <> 0 ORDER BY seq",
            (track_of(engine, trip).id,),
        )
        return dict(cursor.fetchall())


def metadata(engine: sa.Engine, trip: Trip) -> dict[str, Any]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT * FROM route_metadata WHERE track_id = :id"),
            {"id": track_of(engine, trip).id},
        )
        return dict(rows.mappings().one())


def test_an_ended_trip_is_judged_and_its_metadata_are_of_what_is_ok(engine: sa.Engine) -> None:
    bad, clean = ended(engine, {7: 0.1, 20: 0.1}), ended(engine, {})
    for trip in (bad, clean):
        update_metadata(engine, track_of(engine, trip).id)
    assert verdicts(engine, bad) == {7: Verdict.JUMP, 20: Verdict.JUMP}
    found, other = metadata(engine, bad), metadata(engine, clean)
    assert (found["flagged"], found["implausible"], found["waypoint_count"]) == (2, False, 20)
    assert found["distance_m"] == pytest.approx(other["distance_m"] * 18 / 19, abs=0.05)
    assert found["reported_distance_m"] == track_of(engine, bad).reported_mm / 1000 > 30_000
    assert found["distance_m"] == track_of(engine, bad).distance_mm / 1000
    assert (found["north"], found["summary"]["times"]["recorded_s"]) == (-6.2, 90)
    assert found["verdict_rule"]["max_speed_kmh"] == 150
    assert other["distance_m"] == other["reported_distance_m"]
    assert (other["flagged"], other["implausible"]) == (0, False)


def test_the_same_rows_are_judged_alike_in_the_database_and_in_python(engine: sa.Engine) -> None:
    """Also where the database alone says that there is nothing to judge: at the limit."""
    doubtful = 0
    for seed in range(30):
        dice, trip = Random(seed), Trip()
        off = dice.choice([0.0, 0.0026, 0.0027, 0.00273, 0.0028, 0.02])  # 308 m are possible
        updates = [
            update(trip, 5 * n, **place(5 * n, off if dice.random() < 0.1 else 0.0))
            for n in range(1, 25)
        ]
        dice.shuffle(updates)
        store_batch(engine, [accepted(trip), *updates[:12]])
        store_batch(engine, [*updates[12:], delivered(trip, 120)])
        track_id = track_of(engine, trip).id
        with transaction(engine) as cursor:
            cursor.execute(
                "SELECT seq, recorded_at, ST_X(position), ST_Y(position) FROM waypoints"
                " WHERE track_id = %s ORDER BY recorded_at",
                (track_id,),
            )
            expected = final(judge([recorded(*row) for row in cursor]).verdicts)
        judge_track(engine, track_id)
        assert verdicts(engine, trip) == expected
        doubtful += bool(expected)
    assert 5 < doubtful < 25


def test_another_speed_or_a_late_waypoint_lets_it_be_judged_again(engine: sa.Engine) -> None:
    trip = ended(engine, {7: 0.004})  # 443 m: 308 m are possible at 150 km/h
    track_id = track_of(engine, trip).id
    update_metadata(engine, track_id)
    assert verdicts(engine, trip) == {7: Verdict.JUMP}
    fast = judge_track(engine, track_id, Rule(max_speed_kmh=300))
    assert fast is not None
    assert (fast.changed, fast.flagged) == ({7: Verdict.OK}, 0)
    assert verdicts(engine, trip) == {}
    late = [update(trip, 33, **place(33, 0.002)), update(trip, 38, **place(38, 0.1))]
    store_batch(engine, late)
    assert track_id in waiting_tracks(engine, 10_000)
    update_metadata(engine, track_id)
    assert verdicts(engine, trip) == {7: Verdict.JUMP, 22: Verdict.JUMP}


def test_what_has_no_position_is_flagged_and_too_many_jumps_are_not(engine: sa.Engine) -> None:
    nowhere, wild = ended(engine, {}), ended(engine, dict.fromkeys(range(2, 20, 4), 0.1), 19)
    with transaction(engine) as cursor:
        cursor.execute(
            "UPDATE waypoints SET position = ST_SetSRID(ST_MakePoint(0, 0), 4326)"
            " WHERE track_id = %s AND seq = 3",
            (track_of(engine, nowhere).id,),
        )
    for trip in (nowhere, wild):
        update_metadata(engine, track_of(engine, trip).id)
    assert verdicts(engine, nowhere) == {3: Verdict.NULL_ISLAND}
    assert verdicts(engine, wild) == {}
    found = metadata(engine, wild)
    assert (found["flagged"], found["implausible"]) == (0, True)
    assert found["distance_m"] == found["reported_distance_m"]


def test_a_track_that_changes_meanwhile_keeps_its_verdicts_and_waits(
    own_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip = ended(own_engine, {7: 0.1})
    track_id = track_of(own_engine, trip).id
    changed = "UPDATE tracks SET version = version + 1 WHERE id = %(id)s;"
    monkeypatch.setattr(judging, "_ROUTE", changed + judging._ROUTE)
    assert update_metadata(own_engine, track_id, Rule(max_speed_kmh=10_000)) is None
    assert verdicts(own_engine, trip) == {7: Verdict.JUMP}
    assert waiting_tracks(own_engine, 5) == [track_id]


def test_ended_trips_come_page_by_page_in_the_order_of_their_ends(own_engine: sa.Engine) -> None:
    trips = [ended(own_engine, {}, count) for count in (7, 5, 6, 6)]
    running = Trip()
    store_batch(own_engine, [accepted(running)])
    first = ended_tracks(own_engine, FIRST_TIME, None, 3)
    rest = ended_tracks(own_engine, FIRST_TIME, first[-1], 3)
    ids = [track.booking_id for track in (*first, *rest)]
    assert set(ids) == {trip.booking_id for trip in trips}
    assert (ids[0], ids[-1]) == (trips[1].booking_id, trips[0].booking_id)
    assert ended_tracks(own_engine, first[-1].completed_at, None, 9)[0] == first[-1]


def test_a_trip_that_is_erased_beside_the_tool_is_passed_over(
    own_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, _ = ended(own_engine, {}), ended(own_engine, {7: 0.004})
    pages = [ended_tracks(own_engine, FIRST_TIME, None, 9), []]
    erase_booking(own_engine, gone.booking_id)
    monkeypatch.setattr(verdicts_tool, "ended_tracks", lambda *_: pages.pop(0))
    verdicts_tool._judge_all(own_engine, Rule(max_speed_kmh=150), FIRST_TIME, dry_run=True)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("2 trips judged at 150 km/h")
    assert said[-1].startswith("1 trips changed or went meanwhile")


def test_the_tool_says_what_would_change_and_changes_it(
    own_engine: sa.Engine, environ: dict[str, str]
) -> None:
    trip, _ = ended(own_engine, {7: 0.004}), ended(own_engine, {})
    here = {**environ, "DB_NAME": str(own_engine.url.database), "MAX_SPEED_KMH": "300"}

    def tool(*arguments: str) -> list[str]:
        done = run_program("verdicts.py", *arguments, environ=here)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert tool("--dry-run", "--max-speed-kmh", "150")[-1].startswith(
        "2 trips judged at 150 km/h, 0 would change"
    )
    line, total = tool("--dry-run")
    assert line.endswith(": 0 flagged, 1 cleared")
    assert total == "2 trips judged at 300 km/h, 1 would change: 0 waypoints flagged, 1 cleared"
    assert verdicts(own_engine, trip) == {7: Verdict.JUMP}
    assert "1 changed: 0 waypoints flagged, 1 cleared" in tool()[-1]
    assert verdicts(own_engine, trip) == {}
    assert "0 changed" in tool()[-1]
    assert "1 changed: 1 waypoints flagged" in tool("--max-speed-kmh", "150")[-1]
    assert tool("--since", "2099-01-01T00:00Z")[-1].startswith("0 trips")
    wrong = run_program("verdicts.py", "--max-speed-kmh", "5", environ=here)
    assert wrong.returncode == 2
