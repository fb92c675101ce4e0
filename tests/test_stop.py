"""workers.stop: a stop is in order, is over in time, and its exit status is 0."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy import Proxy
from tests.running import Platform, Server, Trip, running_server, wait_until

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
