"""web/client: one trip over many connections; what goes wrong, and what the library makes of it."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.driving import Drive, drivers
from tests.proxy import Proxy
from tests.running import Platform, Server, Trip, wait_until
from tests.scripted import Play, Script, backfill, freshness, live, point, welcome
from tests.served import owner, stored_trip, wait_seq
from tracking.domain.seq_runs import runs_of

CATCH_UP = {"type": "catch_up", "since_seq": 2}
START = [welcome(None), backfill(0, 1, 2, through=2)]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drivers(tmp_path) as start:
        yield start


def test_a_gap_is_asked_for_once_and_closed_by_all_pages_of_the_answer(drive: Drive) -> None:
    script: Script = [[
        *START, live(6), "catch_up", live(7), backfill(2, 3, through=3, more=True),
        backfill(3, 4, through=4, more=True), backfill(4, 6, through=7),  # 5 left the route
        live(9), "catch_up", backfill(7, 8, 9, through=9), 1000,
    ]]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port)
        end = driver.wait("state", link="over")
    assert play.heard == [CATCH_UP, {"type": "catch_up", "since_seq": 7}]
    assert driver.added() == [1, 2, 6, 7, 3, 4, 9, 8]
    assert end["route"] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (end["seq"], end["isWhole"], end["silence"]) == (9, True, "over")


def test_whole_is_said_when_nothing_is_missing_and_not_before(drive: Drive) -> None:
    script: Script = [[
        welcome(None, seq=3), backfill(0, 1, 2, through=2, more=True), backfill(2, 3, through=3),
        live(5), "catch_up", backfill(3, 4, 5, through=5), "for ever",
    ]]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("state", seq=5)
        told = [(e["seq"], e["isWhole"]) for e in driver.events("state") if e["link"] == "open"]
    assert told == [(0, False), (3, True), (3, False), (5, True)]


def test_the_route_is_sorted_by_recorded_time_and_says_what_went_in_between(drive: Drive) -> None:
    late = {**backfill(4, through=7), "points": [point(5, 1.5), point(6, 3.0), point(7, 9.0)]}
    script: Script = [[*START, live(3), live(4, 3.000001), late, live(8, 10.0), "for ever"]]
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("position", seq=8)
        assert driver.state()["route"] == [1, 5, 2, 3, 6, 4, 7, 8]
        routes = driver.events("route")
    assert [e["late"] for e in routes] == [False, False, False, True, False]
    assert [e["added"] for e in routes] == [[1, 2], [3], [4], [5, 6, 7], [8]]
    # Only what comes live says when it came: a backfill says nothing of delays.
    assert [e["live"] for e in routes] == [False, True, True, False, True]
    assert [e["seq"] for e in driver.events("position")] == [3, 4, 8]


def test_the_marker_is_known_before_the_route_and_never_goes_back(drive: Drive) -> None:
    last = live(2, 40.5)
    script: Script = [
        [welcome(None, last_position=last), backfill(0, 1, through=2), 1011],
        [welcome(True, last_position=last), live(3, 39.0), live(4, 41.0), "for ever"],
    ]
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("position", seq=4)
    kinds = [e["kind"] for e in driver.events("reset", "position", "route")]
    assert kinds[:3] == ["reset", "position", "route"]
    positions = driver.events("position")
    assert [(e["seq"], e["arrivedAt"] is None) for e in positions] == [(2, True), (4, False)]
    assert positions[0]["at"] == datetime(2026, 2, 6, 10, 0, 40, 500_000, UTC).timestamp() * 1000


def test_what_is_flagged_is_not_drawn_and_moves_no_marker(drive: Drive) -> None:
    def flagged(*seqs: int) -> dict[str, Any]:
        return {"type": "flagged", "runs": runs_of(seqs)}

    script: Script = [[
        *START, flagged(3), backfill(2, 3, through=3), live(4), flagged(1, 3), flagged(3),
        flagged(3, 4), live(5), flagged(), "for ever",
    ]]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("position", seq=5)
        driver.wait("route", added=[1, 2, 3, 4, 5])
        end = driver.state()
    assert (end["route"], end["seq"], end["isWhole"]) == ([1, 2, 3, 4, 5], 5, True)
    told = [e["added"] for e in driver.events("route")]
    assert told == [[1, 2], [4], [2, 4], [1, 2, 4], [1, 2], [5], [1, 2, 3, 4, 5]]
    assert [e["seq"] for e in driver.events("position")] == [4, 4, 4, 4, 5, 5]


def test_who_resumes_in_vain_begins_again(drive: Drive) -> None:
    script: Script = [
        [*START, live(3), 1011],
        [welcome(True), backfill(3, 4, through=4), 1011],
        [welcome(False, "e2", seq=1), backfill(0, 1, through=1), 4503],
    ]
    with Play(script) as play:
        end = drive(play.port).wait("state", link="refused")
    assert play.queries == ["", "epoch=e1&since_seq=3", "epoch=e1&since_seq=4"]
    assert (end["route"], end["epoch"], end["closeCode"]) == ([1], "e2", 4503)


def test_each_silence_is_told_from_the_others(drive: Drive) -> None:
    script: Script = [
        [
            *START, live(3), freshness("stale", "no_points"),
            freshness("lost", "no_usable_points"), freshness("stale", "pipeline_delayed"),
            freshness("stale", "of_a_later_version"), freshness("live", None),
            (1001, "going away, retry in 1 s"),
        ],
        [welcome(True), "silence"],
        [welcome(True), {"type": "track_update", "epoch": "e1", "status": "completed",
         "phase": "done", "runner_id": "r", "completed_at": "2026-02-06T10:52:00Z"}, 1000],
    ]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("state", link="over")
    told = [(e["link"], e["silence"]) for e in driver.events("state")]
    expected = [
        ("connecting", None), ("open", None),
        *(("open", why) for why in ("phone", "unusable", "service", "other", None)),
        ("down", "service"), ("connecting", "service"), ("open", None),
        ("down", "link"), ("connecting", "link"), ("open", None), ("open", "over"),
        ("over", "over"),
    ]  # fmt: skip
    assert [each for each, before in zip(told, [None, *told], strict=False) if each != before] == (
        expected
    )
    silent = driver.wait("state", link="down", silence="link")
    assert (silent["closeCode"], silent["closeReason"]) == (4408, "silent")


def test_a_token_is_asked_for_with_the_reason(drive: Drive) -> None:
    expiring = {"type": "token_expiring", "token_expires_at": "2126-02-06T10:45:00Z"}
    beat = {"type": "heartbeat", "token_expires_at": "2126-02-06T11:00:00.5Z"}
    script: Script = [
        [*START, expiring, "refresh", beat, live(3), 4401],
        [4501],  # whoever keeps the tokens gave an old one: once more, with a new one
    ]
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("position", seq=3)
        refused = driver.wait("state", link="refused")
        assert play.heard == [{"type": "refresh", "token": "first-token"}]
        assert driver.tokens() == ["join", "expiring", "expired", "expired"]
        end = datetime(2126, 2, 6, 11, 0, 0, 500_000, UTC)
        assert refused["tokenExpiresAt"] == end.timestamp() * 1000
        driver.token_file.write_text("second-token")
        script.append([welcome(True), live(4), "for ever"])
        driver.tell("start")
        driver.wait("position", seq=4)
    assert play.tokens == ["first-token", "first-token", "second-token"]


def test_a_callback_that_fails_is_asked_again(drive: Drive) -> None:
    with Play([[*START, "for ever"]]) as play:
        driver = drive(play.port, token="none")
        down = driver.wait("state", link="down")
        assert (down["closeCode"], down["silence"]) == (None, "link")
        assert "no token to be had" in down["closeReason"]
        driver.token_file.write_text("first-token")
        driver.wait("state", link="open")
    assert set(driver.tokens()) == {"join"}


def test_a_shared_link_needs_no_token(drive: Drive) -> None:
    with Play([[*START, 1000]]) as play:
        drive(play.port, "/ws/shared/abc", token=None).wait("state", link="over")
    assert play.tokens == []


def test_a_link_that_begins_with_the_pickup_waits_and_may_learn_of_an_earlier_one(
    drive: Drive,
) -> None:
    def update(epoch: str | None, waiting: bool) -> dict[str, object]:
        return {"type": "track_update", "epoch": epoch, "status": "active", "phase": "to_dropoff",
                "waiting": waiting, "completed_at": None}  # fmt: skip

    script: Script = [[
        {**welcome(None, seq=0, waiting=True), "epoch": None}, update("e1", False),
        backfill(0, 4, through=4), live(5), update("e2", False), backfill(0, 2, 3, 4, 5, through=5),
        live(6), live(8), "catch_up",
    ]]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port, "/ws/shared/abc", token=None)
        driver.wait("position", seq=8)
        assert driver.state()["route"] == [2, 3, 4, 5, 6, 8]
    # It is not whole between the new numbering and what it brings; 7 is a gap like any other.
    opened = [event for event in driver.events("state") if event["link"] == "open"]
    told = [(e["waiting"], e["epoch"], e["isWhole"]) for e in opened]
    assert told == [
        (True, None, True), (False, "e1", True), (False, "e2", False), (False, "e2", True),
        (False, "e2", False),
    ]  # fmt: skip
    assert driver.added() == [4, 5, 2, 3, 6, 8]
    assert play.heard == [{"type": "catch_up", "since_seq": 6}]


def test_offline_is_believed_when_the_server_is_silent_too(drive: Drive) -> None:
    script: Script = [
        [welcome(None, heartbeat_s=60), backfill(0, 1, 2, through=2), "offline: the browser lies",
         backfill(2, through=2), live(3), "offline: it is true"],
        [welcome(True), "for ever"],
    ]  # fmt: skip
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("route")
        driver.tell("offline")
        driver.wait("position", seq=3)
        assert driver.state()["link"] == "open"
        driver.tell("offline")
        driver.tell("offline")  # no second question before the answer
        down = driver.wait("state", link="down")
        driver.tell("online")
        driver.wait_state(link="open")
    assert down["closeCode"] == 4408
    assert play.heard == [CATCH_UP, {"type": "catch_up", "since_seq": 3}]


def test_waking_asks_a_quiet_link_and_no_other(drive: Drive) -> None:
    script: Script = [[*START, "wake", backfill(2, through=2), "for ever"]]
    with Play(script) as play:
        driver = drive(play.port)
        driver.wait("route")
        driver.tell("wake")  # something was just heard
        driver.state()
        assert play.heard == []
        # A heartbeat, one second, is overdue; two, and the link would be dead.
        driver.tell_until("wake", lambda: play.heard)
        assert driver.state()["link"] == "open"


def test_waking_comes_back_at_once_but_not_before_the_server_wants(drive: Drive) -> None:
    with Play([[(1013, "try again later, retry in 1 s")], [(1013, "retry in 40 s")]]) as play:
        driver = drive(play.port)
        driver.wait_all(2, "state", link="down")
        driver.tell("online")
        assert driver.wait_all(3, "state", link="down")[-1]["retryIn"] > 35_000
    first, second = play.times
    assert second - first >= 1
    # Now nobody is there: it waits longer and longer, and does not when it is woken.
    driver = drive(play.port)
    waiting = driver.wait("state", link="down")
    assert 0 <= waiting["retryIn"] <= 1000
    tries = len(driver.events("token"))
    driver.tell_until("wake", lambda: len(driver.events("token")) > tries + 20)


def test_waking_leaves_a_connection_that_was_begun_on_a_dead_network(drive: Drive) -> None:
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            for _ in range(2):
                accepted.append(listener.accept()[0])  # and not a word

        threading.Thread(target=accept, daemon=True).start()
        driver = drive(listener.getsockname()[1])
        wait_until(lambda: accepted, "the first connection")
        driver.tell_until("wake", lambda: len(accepted) == 2)
        assert {e["link"] for e in driver.events("state")} == {"connecting"}
    for each in accepted:
        each.close()


def test_without_history_only_what_happens_from_then_on(drive: Drive) -> None:
    script: Script = [
        [welcome(None, seq=7, last_position=live(6)), live(8), 1011],
        [welcome(False, "e2", seq=1), backfill(0, 1, through=1), "for ever"],
    ]
    with Play(script) as play:
        driver = drive(play.port, history=False)
        driver.wait("state", link="down", route=[8], seq=8, isWhole=True)
        driver.wait_state(route=[1], seq=1, isWhole=True)
    assert play.queries == ["history=none", "epoch=e1&since_seq=8&history=none"]
    assert play.heard == []


def test_fewer_positions_are_a_wish_and_the_rest_comes_when_asked_for(drive: Drive) -> None:
    script: Script = [[*START, live(5), live(9), "catch_up", backfill(2, *range(3, 10), through=9)]]
    with Play(script) as play:
        driver = drive(play.port, minIntervalMs=2000)
        driver.wait("position", seq=9)
        assert (play.heard, driver.state()["isWhole"]) == ([], False)
        driver.tell("catchUp")
        driver.wait_state(route=list(range(1, 10)), isWhole=True)
    assert play.queries == ["min_interval_ms=2000"]
    assert play.heard == [CATCH_UP]


def test_a_stopped_trip_goes_on_behind_what_it_knows(drive: Drive) -> None:
    with Play([[*START, "for ever"], [welcome(True), live(3), "for ever"]]) as play:
        driver = drive(play.port)
        driver.wait("route")
        driver.tell("stop")
        driver.wait("state", link="down", closeReason="stopped", retryIn=None)
        driver.tell("wake")  # means nothing now
        driver.tell("start")
        driver.wait("position", seq=3)
    assert play.queries == ["", "epoch=e1&since_seq=2"]


def test_a_listener_that_throws_hurts_nobody_else(drive: Drive) -> None:
    with Play([[*START, 1000]]) as play:
        driver = drive(play.port)  # the first of its listeners throws
        driver.wait("state", link="over")
    assert "a listener of somebody who made a mistake" in driver.errors


def recorded(engine: sa.Engine, trip: Trip) -> list[int]:
    """The route in the table: numbers in the order of recording."""
    statement = sa.text(
        "SELECT seq FROM waypoints w JOIN tracks t ON t.id = w.track_id"
        " WHERE t.booking_id = :id AND in_route ORDER BY recorded_at, seq"
    )
    with engine.connect() as connection:
        return list(connection.execute(statement, {"id": trip.booking_id}).scalars())


@pytest.mark.parametrize("fault", ["cut", "freeze", "delay"])
def test_the_real_server_behind_a_bad_network(
    fault: str, server: Server, platform: Platform, engine: sa.Engine, drive: Drive
) -> None:
    trip = stored_trip(server, platform, 5)
    proxy = Proxy("127.0.0.1", server.port)
    driver = drive(proxy.port, f"/ws/tracking/{trip.booking_id}", token=owner(server, trip))
    driver.wait_state(seq=5, isWhole=True, link="open", bookingId=str(trip.booking_id))
    platform.update(trip, 5)
    driver.wait("position", seq=6)
    if fault == "delay":
        proxy.delay_s = 0.3
    elif fault == "freeze":
        proxy.hang()
        driver.tell("offline")
    else:
        proxy.cut()
    if fault != "delay":
        assert driver.wait("state", link="down")["silence"] == "link"
    for second in (7, 8, 6, 9):  # while nobody hears; one of them late
        platform.update(trip, second)
    wait_seq(server, trip, 10)
    proxy.heal()
    driver.tell("online")
    driver.wait_state(seq=10, isWhole=True, link="open", silence=None)
    platform.deliver(trip, datetime.now(UTC))
    end = driver.wait("state", link="over")
    assert end["route"] == recorded(engine, trip)
    assert sorted(driver.added()) == list(range(1, 11))
    assert end["newest"]["seq"] == end["route"][-1]
    assert (end["status"], end["closeCode"]) == ("completed", 1000)
    proxy.close()
