"""examples/: both clients against the real server behind a proxy that cuts, and a scripted one."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from dev.web import NODE
from tests.proxy import Proxy
from tests.running import CHECKOUT, Platform, Server, Trip, wait_until
from tests.scripted import Play, Script, backfill, live, welcome
from tests.test_protocol import head, owner

EXAMPLES = CHECKOUT / "examples"
UPDATES = 300
BOOKING = "5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10"
Command = list[str]


# The types of follow.ts are checked with the library's: tests/test_client_library.py.
COMMANDS: dict[str, Command] = {
    "python": [sys.executable, str(EXAMPLES / "follow.py")],
    "typescript": [str(NODE), str(EXAMPLES / "follow.ts")],
}


@pytest.fixture(params=list(COMMANDS))
def command(request: pytest.FixtureRequest) -> Command:
    """How the client is started."""
    return COMMANDS[request.param]


class Client:
    """One process that follows a booking; its lines are in a file."""

    def __init__(self, command: Command, port: int, booking: object, token: str, at: Path) -> None:
        self._log, self.token = at.with_suffix(".log"), at.with_suffix(".token")
        self.token.write_text(token)
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, f"ws://127.0.0.1:{port}", str(booking)], stdout=out, stderr=out,
                env={**os.environ, "TOKEN_FILE": str(self.token), "NODE_NO_WARNINGS": "1"},
            )  # fmt: skip

    def lines(self, first: str) -> list[list[str]]:
        """The whole lines that begin with this word, split, without it."""
        text = self._log.read_text()
        lines = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        return [words[1:] for words in lines if words and words[0] == first]

    def ended(self) -> int:
        """The close code with which it gave up."""
        assert self.process.wait(60) == 0, self._log.read_text()
        return int(self.lines("ended")[0][0])

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def route(engine: sa.Engine, trip: Trip) -> list[tuple[int, str, str, datetime]]:
    """The table's own words, by seq."""
    statement = sa.text(
        "SELECT seq, ST_X(position), ST_Y(position), recorded_at FROM waypoints w"
        " JOIN tracks t ON t.id = w.track_id WHERE t.booking_id = :id AND in_route ORDER BY seq"
    )
    with engine.connect() as connection:
        rows = connection.execute(statement, {"id": trip.booking_id}).all()
    return [(seq, f"{x:.6f}", f"{y:.6f}", at) for seq, x, y, at in rows]


def seen(client: Client) -> list[tuple[int, str, str, datetime]]:
    """Every waypoint that was shown, as often as it was shown."""
    return sorted(
        (int(seq), x, y, datetime.fromisoformat(at)) for seq, x, y, at in client.lines("waypoint")
    )


def drive(platform: Platform, trip: Trip, cut: Callable[[], None], dice: random.Random) -> None:
    """Updates for some ten seconds, every tenth out of order; cut now and then, and at last not."""
    seconds = list(range(UPDATES))
    for place in range(0, UPDATES - 10, 10):
        seconds[place], seconds[place + 7] = seconds[place + 7], seconds[place]
    next_cut = time.monotonic()
    for second in seconds:
        platform.update(trip, second)
        time.sleep(0.03)  # the pace of the load, not a wait for something
        if time.monotonic() > next_cut:
            cut()
            next_cut = time.monotonic() + dice.uniform(0.05, 0.6)


def test_clients_that_are_cut_at_random_see_the_table_and_nothing_twice(
    server: Server, platform: Platform, engine: sa.Engine, command: Command, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown when it fails
    trip, dice = Trip(), random.Random(seed)
    platform.accept(trip)
    platform.update(trip, -1)
    wait_until(lambda: head(server, trip)["seq"] == 1, "accepted")
    proxies = [Proxy("127.0.0.1", server.port) for _ in range(2)]

    def cut() -> None:
        chosen = dice.choice(proxies)
        chosen.cut()
        chosen.heal()

    with ExitStack() as stack:
        for proxy in proxies:
            stack.callback(proxy.close)
        token = owner(server, trip)
        clients = [
            stack.enter_context(
                Client(command, proxy.port, trip.booking_id, token, tmp_path / f"client{number}")
            )
            for number, proxy in enumerate(proxies)
        ]
        for client in clients:
            wait_until(partial(client.lines, "waypoint"), "the first waypoint")
        drive(platform, trip, cut, dice)
        wait_until(lambda: head(server, trip)["seq"] == UPDATES + 1, "all stored")
        platform.deliver(trip, datetime.now(UTC))
        assert [client.ended() for client in clients] == [1000, 1000]
        expected = route(engine, trip)
        for client in clients:
            assert seen(client) == expected
        # Two cuts may fall into one wait.
        assert sum(len(client.lines("waiting")) for client in clients) >= 3


@pytest.fixture
def follow(command: Command, tmp_path: Path) -> Iterator[Callable[[Play], Client]]:
    with ExitStack() as stack:

        def start(play: Play) -> Client:
            at = tmp_path / "client"
            return stack.enter_context(Client(command, play.port, BOOKING, "first-token", at))

        yield start


def numbers(client: Client) -> list[int]:
    return [int(words[0]) for words in client.lines("waypoint")]


def test_a_gap_is_asked_for_and_a_seq_that_left_the_route_is_none(
    follow: Callable[[Play], Client],
) -> None:
    script: Script = [[
        welcome(None), backfill(0, 1, 2, through=2), live(5), "catch_up",
        backfill(2, 3, 5, through=5),  # 4 left the route
        backfill(7, 8, 9, through=9), "catch_up",  # late points behind lost positions
        backfill(5, 8, 9, through=9), live(10), backfill(10, 11, through=11), 1000,
    ]]  # fmt: skip
    with Play(script) as play:
        client = follow(play)
        assert client.ended() == 1000
    assert play.heard == [{"type": "catch_up", "since_seq": n} for n in (2, 5)]
    assert numbers(client) == [1, 2, 5, 3, 8, 9, 10, 11]


def test_a_silent_link_is_left_and_resumed_behind_what_is_known(
    follow: Callable[[Play], Client],
) -> None:
    script: Script = [
        [welcome(None), backfill(0, 1, 2, through=3), "nothing more, ever"],
        [welcome(True), backfill(3, 4, through=4), 1001],
        [welcome(False, "e2"), backfill(0, 1, through=1), 4503],
    ]
    with Play(script) as play:
        client = follow(play)
        assert client.ended() == 4503
    assert play.queries == ["", "epoch=e1&since_seq=3", "epoch=e1&since_seq=4"]
    assert numbers(client) == [1, 2, 4, 1]


def test_a_new_token_is_fetched_when_the_old_one_ends(follow: Callable[[Play], Client]) -> None:
    expiring = {"type": "token_expiring", "token_expires_at": "2026-02-06T10:45:00Z"}
    script: Script = [
        [welcome(None), backfill(0, 1, through=1), 4401],
        [welcome(True), live(2), "never"],
    ]
    with Play(script) as play:
        client = follow(play)
        wait_until(lambda: numbers(client) == [1], "the first waypoint")
        client.token.write_text("second-token")
        wait_until(lambda: numbers(client) == [1, 2], "the second connection")
        script.append([welcome(True), expiring, "refresh", 4501])
        assert client.ended() == 4501
    assert play.tokens[1:] in (["second-token"] * 2, ["first-token", "second-token"])
    assert play.heard == [{"type": "refresh", "token": "second-token"}]


def test_a_draining_server_says_when_to_come_back(follow: Callable[[Play], Client]) -> None:
    # Without the hint it would be a second at the most.
    script: Script = [[welcome(None), (1001, "going away, retry in 2 s")], [4500]]
    with Play(script) as play:
        assert follow(play).ended() == 4500
    left, came_back = play.times
    assert came_back - left >= 2


def test_why_what_is_seen_is_old_is_said_and_what_is_new_is_ignored(
    follow: Callable[[Play], Client],
) -> None:
    old = {"type": "freshness", "state": "stale", "reason": "no_usable_points"}
    script: Script = [[
        welcome(None), old, {**old, "reason": "of_a_later_version", "field": "new"},
        {"type": "of_a_later_version"}, live(1), {**old, "state": "live", "reason": None}, 1000,
    ]]  # fmt: skip
    with Play(script) as play:
        client = follow(play)
        assert client.ended() == 1000
    text = "the runner's phone is heard, but sends nothing that moves the marker"
    said = [" ".join(words) for words in client.lines("freshness")]
    assert said == [f"stale {text}", "stale of_a_later_version", "live"]
    assert numbers(client) == [1]


def arrived(client: Client) -> list[tuple[str, str, datetime | None]]:
    """Each state of the pickup once, however often it was told."""
    said: list[tuple[str, str, datetime | None]] = []
    for end, state, *at in client.lines("arrival"):
        now = end, state, datetime.fromisoformat(at[0]) if at else None
        said += [] if said[-1:] == [now] else [now]
    return said


def test_arrivals_etas_and_what_is_flagged_are_shown(follow: Callable[[Play], Client]) -> None:
    near = {"state": "approaching", "approaching_at": None, "arrived_at": None,
            "detected_at": None, "evidence_seq": None, "left_at": None}  # fmt: skip
    there = {**near, "state": "arrived", "arrived_at": "2026-02-06T10:00:05.000000Z"}
    times = {name: f"2026-02-06T10:00:{second:09.6f}Z"
             for name, second in (("arrives_at", 9), ("earliest", 8), ("latest", 11))}  # fmt: skip
    eta = {**times, "method": "distance", "samples": 40}

    def arrival(part: object) -> dict[str, object]:
        return {"type": "arrival", "arrivals": {"pickup": part, "dropoff": None}}

    script: Script = [[
        welcome(None, arrivals=None, eta=None, eta_reason="stale", flagged=[]),
        backfill(0, 1, 2, through=2),
        {"type": "eta", "eta": eta, "eta_reason": None}, arrival(near), arrival(there),
        {"type": "eta", "eta": None, "eta_reason": "arrived"},
        {"type": "flagged", "runs": [[2, 2]]}, arrival(near), live(3), 1000,
    ]]  # fmt: skip
    with Play(script) as play:
        client = follow(play)
        assert client.ended() == 1000
    at = datetime(2026, 2, 6, 10, 0, 5, tzinfo=UTC)
    assert arrived(client) == [
        ("pickup", "approaching", None), ("pickup", "arrived", at), ("pickup", "approaching", None),
    ]  # fmt: skip
    bands = [words for words in client.lines("eta") if not words[0].startswith("none")]
    assert [[datetime.fromisoformat(at).second for at in band] for band in bands] == [[8, 11]]
    assert client.lines("eta")[-1][0].startswith("none")
    if client.lines("flagged"):
        assert client.lines("flagged")[-1] == ["2-2"]
        assert numbers(client) == [1, 2, 3]
    else:  # the library draws anew what is left
        assert numbers(client) == [1, 2, 1, 3]
