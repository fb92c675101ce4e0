"""workers.eta_router: what OSRM says, within a second; and no log says where somebody is."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.osrm import Osrm, found
from tests.programs import run_program
from tests.test_circuit import Clock
from tracking.metrics import Metrics
from tracking.settings import Settings
from workers import eta_router
from workers.circuit import Circuit
from workers.eta_router import MAX_BODY_BYTES, EtaRouter

HERE, THERE = (106.801234, -6.204321), (106.835678, -6.218765)
SECRET = {"JWT_SECRET": "x" * 32}


@pytest.fixture
def osrm() -> Iterator[Osrm]:
    with Osrm() as osrm:
        yield osrm


class Asker:
    """A router as the server has it, and what it counts."""

    def __init__(self, url: str, clock: Clock | None = None, **settings: str) -> None:
        self.metrics = Metrics()
        known = Settings.from_environment({**SECRET, "ETA_ROUTER_URL": url, **settings})
        self.router = EtaRouter(known, self.metrics, 4, Circuit(clock or Clock()))

    async def ask(self) -> float | None:
        return await self.router.seconds(HERE, THERE)

    def counted(self) -> dict[str, int]:
        outcomes = ("ok", "no_route", "error", "timeout", "open")
        counts = {each: self._value("requests_total", outcome=each) for each in outcomes}
        return {each: round(count) for each, count in counts.items() if count}

    @property
    def is_open(self) -> bool:
        return self._value("open") == 1

    def _value(self, name: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(f"tracking_eta_router_{name}", labels)
        assert found is not None
        return found


@pytest.mark.gen_test
async def test_the_router_is_asked_for_the_way_and_says_how_long_it_takes(osrm: Osrm) -> None:
    asker = Asker(osrm.url + "/", ETA_ROUTER_PROFILE="bike")
    osrm.answers(found(251.1))
    assert await asker.ask() == 251.1
    assert osrm.asked == ["/route/v1/bike/106.801234,-6.204321;106.835678,-6.218765?overview=false"]
    assert asker.counted() == {"ok": 1}
    assert asker._value("request_seconds_count") == 1


NO_ROUTE = {"code": "NoRoute", "message": "Impossible route between points"}


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, NO_ROUTE, "no_route"),
        (400, {"code": "NoSegment", "message": "Could not find a matching segment"}, "no_route"),
        (200, found(100.0, off_road_m=41_000.0), "no_route"),  # a map of another region
        (200, found(0.0), "no_route"),
        (400, {"code": "InvalidValue", "message": "Invalid coordinate value."}, "error"),
        (500, found(100.0), "error"),
        (302, found(100.0), "error"),
        (200, b"<html>sorry</html>", "error"),
        (200, b"", "error"),
        (200, b"[" * 20_000, "error"),
        (200, {"code": "Ok"}, "error"),
        (200, {"code": "Ok", "routes": [{"duration": "soon"}]}, "error"),
        (200, {"code": "Ok", "routes": [{"duration": None}]}, "error"),
        (200, b'{"code": "Ok", "routes": [{"duration": NaN}]}', "error"),
        (200, b'{"code": "Ok", "routes": [{"duration": 9}]}' + b" " * MAX_BODY_BYTES, "error"),
    ],
)
@pytest.mark.gen_test
async def test_what_is_no_use_is_none_and_counted(
    osrm: Osrm, status: int, body: dict[str, object] | bytes, outcome: str
) -> None:
    asker = Asker(osrm.url)
    osrm.answers(body, status)
    osrm.headers = {"Location": f"{osrm.url}/elsewhere"} if status == 302 else {}
    for _ in range(4):
        assert await asker.ask() is None
    if outcome == "no_route":  # nothing is wrong with the router
        assert (asker.counted(), asker.is_open) == ({"no_route": 4}, False)
    else:
        assert (asker.counted(), asker.is_open) == ({"error": 3, "open": 1}, True)
        assert len(osrm.asked) == 3


@pytest.mark.gen_test
async def test_who_is_slow_is_not_waited_for(osrm: Osrm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert eta_router.TIMEOUT_S == 1.0
    monkeypatch.setattr(eta_router, "TIMEOUT_S", 0.05)
    asker = Asker(osrm.url)
    osrm.let.clear()
    assert set(await asyncio.gather(*[asker.ask() for _ in range(3)])) == {None}
    assert (asker.counted(), asker.is_open) == ({"timeout": 3}, True)


@pytest.mark.gen_test
async def test_nobody_listens_until_somebody_does_again(
    osrm: Osrm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    asker = Asker("http://127.0.0.1:1", clock)
    for _ in range(5):
        assert await asker.ask() is None
    assert asker.counted() == {"error": 3, "open": 2}
    clock.now += 30
    assert await asker.ask() is None  # one tries
    assert (asker.counted(), asker.is_open) == ({"error": 4, "open": 2}, True)
    asker.router._base = f"{osrm.url}/route/v1/driving"
    clock.now += 59
    assert await asker.ask() is None
    clock.now += 1
    assert await asker.ask() == 100.0
    assert not asker.is_open
    assert asker.counted() == {"error": 4, "open": 3, "ok": 1}
    said = [each.getMessage() for each in caplog.records if each.name == "tracking.router"]
    assert [each for each in said if "no use" not in each] == [
        "the router does not answer (error), ETAs come from the distance; asked again in 30 s",
        "the router does not answer (error), ETAs come from the distance; asked again in 60 s",
        "the router answers again",
    ]


@pytest.mark.parametrize("trouble", ["dead", "slow", "500", "garbage", "InvalidValue"])
@pytest.mark.gen_test
async def test_where_somebody_is_stands_in_no_log_and_no_metric(
    osrm: Osrm, caplog: pytest.LogCaptureFixture, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the level debug, of all loggers: also what libraries say, and what OSRM repeats."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(eta_router, "TIMEOUT_S", 0.2)
    asker = Asker("http://127.0.0.1:1" if trouble == "dead" else osrm.url)
    osrm.answers(
        {"500": b"106.801234", "garbage": b"106.801234",
         "InvalidValue": b'{"code": "106.801234,-6.204321"}'}.get(trouble, b""),
        500 if trouble == "500" else 200,
    )  # fmt: skip
    if trouble == "slow":
        osrm.let.clear()
    for _ in range(3):
        assert await asker.ask() is None
    assert asker.is_open
    said = caplog.text + repr([(each.args, each.exc_text) for each in caplog.records])
    assert "the router does not answer" in said
    said += repr(list(asker.metrics.registry.collect()))
    for digits in ("106.8", "6.2043", "6.2187"):
        assert digits not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETA_ROUTER_URL", "osrm:5000"),
        ("ETA_ROUTER_URL", "ftp://osrm"),
        ("ETA_ROUTER_URL", "http://user:secret@osrm:5000"),
        ("ETA_ROUTER_URL", "http://osrm:5000/?key=1"),
        ("ETA_ROUTER_PROFILE", "driving/../table"),
    ],
)
def test_a_wrong_address_is_told_at_start(name: str, value: str) -> None:
    wrong = run_program("server.py", "--check", environ={**SECRET, name: value})
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"{name}: found {value!r}, expected ")


def test_check_tries_the_router(osrm: Osrm, database: dict[str, str], tmp_path: Path) -> None:
    def checked(**settings: str) -> str:
        environ = {**database, "ETA_ROUTER_URL": osrm.url, **settings}
        done = run_program("server.py", "--check", environ=environ)
        assert done.returncode == 0, "no upgrade waits for it"
        (line,) = [each for each in done.stdout.splitlines() if each.startswith("eta router: ")]
        return line.removeprefix("eta router: ")

    assert checked(ETA_ROUTER_URL="").startswith("none (ETA_ROUTER_URL)")
    assert checked() == "ok"
    osrm.answers(NO_ROUTE, 400)  # its map is of one region
    assert checked() == "ok"
    osrm.answers({"code": "InvalidUrl", "message": "URL string malformed"}, 400)
    assert checked().endswith("until it works: it answers InvalidUrl")
    osrm.answers(b"<html>", 404)
    assert checked().endswith("until it works: no answer of an OSRM server")
    assert "refused" in checked(ETA_ROUTER_URL="http://127.0.0.1:1")
