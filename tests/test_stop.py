"""workers.stop: a stop is in order, is over in time, and its exit status is 0."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.proxy import Proxy
from tests.running import CHECKOUT, Platform, Server, Trip, running_server, wait_until
from workers.stop import EXIT_FAILED, STOP_S, Stop

AGE = "tracking_oldest_unstored_batch_age_seconds"


@pytest.fixture
def proxy(database: dict[str, str]) -> Iterator[Proxy]:
    proxy = Proxy(database["DB_HOST"], int(database["DB_PORT"]))
    yield proxy
    proxy.close()


def test_a_stop_is_over_in_time_while_the_database_hangs(
    database: dict[str, str], proxy: Proxy, tmp_path: Path
) -> None:
    """Its threads are in calls that don't return; told twice, and the status is 0."""
    environ = {**database, "DB_HOST": "127.0.0.1", "DB_PORT": str(proxy.port)}
    with running_server(environ, tmp_path / "log") as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = Trip()
        platform.accept(trip)
        wait_until(lambda: server.metric("tracking_events_total", outcome="applied") == 1, "stored")
        proxy.hang()
        platform.update(trip, 1)
        wait_until(lambda: server.metric(AGE) > 0, "in flight")
        assert server.process is not None
        began = time.monotonic()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            server.process.send_signal(name)
        assert server.process.wait(25) == 0
        assert time.monotonic() - began < 20
        platform.close()
    log = (tmp_path / "log").read_text()
    assert "left unstored for the next start" in log
    assert "Traceback" not in log


def test_a_signal_during_start_up_stops_in_order(database: dict[str, str], tmp_path: Path) -> None:
    """Before the loop runs, and with no broker that answers."""
    own = {"SERVICE_PORT": "0", "SERVICE_ADDRESS": "127.0.0.1", "KAFKA_BROKERS": "127.0.0.1:1"}
    program = tmp_path / "told_at_once.py"
    program.write_text(
        "import os, signal, sys, server; from workers.stop import Stop; listen = Stop.listen;"
        "Stop.listen = lambda self: (listen(self), os.kill(os.getpid(), signal.SIGTERM));"
        "sys.exit(server.main())"
    )
    server = Server({**database, **own}, tmp_path / "log", (str(program),))
    server.start()
    assert server.process is not None
    assert server.process.wait(20) == 0
    lines = (tmp_path / "log").read_text()
    assert "stopping" in lines
    assert "Traceback" not in lines


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer ends the process of the tests."""
    timer = SimpleNamespace(start=lambda: None)
    monkeypatch.setattr(threading, "Timer", lambda *_: timer)


def test_all_steps_share_one_deadline(monkeypatch: pytest.MonkeyPatch, untimed: None) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stop = Stop()
    assert stop.share(5) == 5
    clock[0] += STOP_S - 2
    assert stop.share(5) == 2
    clock[0] += 3
    assert stop.share(5) == 0


@pytest.mark.gen_test
async def test_a_step_that_takes_too_long_is_given_up(
    caplog: pytest.LogCaptureFixture, untimed: None
) -> None:
    stop, done = Stop(), list[str]()

    async def step() -> None:
        done.append("begun")
        await asyncio.Event().wait()

    await stop.within(0.01, "viewers", step)
    assert done == ["begun"]
    assert "viewers not done within 0.0 s" in caplog.text


def test_a_worker_that_died_is_the_status(untimed: None) -> None:
    stop = Stop()
    assert stop.status() == 0
    stop.died(LookupError("the consumer"))
    assert stop.status() == EXIT_FAILED


def program(*lines: str) -> "subprocess.CompletedProcess[str]":
    """A process whose stop has 0.1 s and leaves after 0.2 s; `stuck` never returns."""
    before = (
        "import asyncio, logging, threading; from workers import stop as module",
        "logging.basicConfig(level=logging.INFO)",
        "module.STOP_S, module.LEAVE_S = 0.1, 0.2",
        "stuck = threading.Event().wait",
        "stop = module.Stop()",
    )
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*before, *lines])], cwd=CHECKOUT, env={**os.environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_step_that_blocks_the_loop_itself_is_left_behind() -> None:
    ended = program(
        "async def serve():",
        "    await stop.wait()",
        "    stuck()",
        "stop._tell()",
        "asyncio.run(serve())",
    )
    assert ended.returncode == 0
    assert "what hangs is left behind" in ended.stderr


@pytest.mark.parametrize("status", [0, EXIT_FAILED])
def test_a_thread_that_hangs_is_left_behind_with_the_same_status(status: int) -> None:
    ended = program(
        "threading.Thread(target=stuck, name='a call').start()",
        f"raise SystemExit(stop.leave({status}))",
    )
    assert ended.returncode == status
    assert "the thread a call hangs and is left behind" in ended.stderr


def test_a_signal_when_the_loop_is_closed_already_changes_nothing() -> None:
    ended = program(
        "import os, signal",
        "stop.listen()",
        "async def serve():",
        "    waiting = asyncio.create_task(stop.wait())",
        "    await asyncio.sleep(0)",
        "loop = asyncio.new_event_loop()",
        "loop.run_until_complete(serve())",
        "loop.close()",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "raise SystemExit(stop.status())",
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0


def test_a_stop_that_has_more_to_do_is_given_more_time() -> None:
    """Many viewers are let go at a rate."""
    ended = program(
        "async def serve():",
        "    await stop.wait()",
        "    stop.allow(-1)",
        "    assert stop.share(100) <= 0.1",
        "    stop.allow(40)",
        "    await asyncio.sleep(0.3)",
        "    assert 39 < stop.share(100) < 40",
        "stop._tell()",
        "asyncio.run(serve())",
        "raise SystemExit(stop.status())",
    )
    assert (ended.returncode, ended.stderr.count("Error")) == (0, 0)
