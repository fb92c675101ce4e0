"""dev.demo_roles: `make demo ROLES=2`, whose processes are killed while somebody watches."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from dev.nginx import program
from tests.running import wait_until
from tests.test_demo import POSITION, demo_environ, processes, running_demo
from tracking.wire.close_codes import OVERLOADED

__all__ = ["demo_environ"]
KILL = re.compile(r"demo: kill -9 \d+ \((\w+)-\d\)")
pytestmark = pytest.mark.skipif(program("nginx") is None, reason="nginx is not installed")


class Output:
    """What the demo prints, read by a thread."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.text = ""
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(30)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line

    def found(self, pattern: str) -> str:
        first = wait_until(lambda: re.findall(pattern, self.text)[:1], pattern)
        return str(first[0])


class Viewer:
    """Of tracking.v1 through nginx; comes back whenever its connection is cut."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._epoch = ""
        self.seqs: list[int] = []
        self.cuts = 0

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            try:
                socket = await self._connect()
            except (OSError, HTTPClientError):
                await asyncio.sleep(0.1)  # the booking is not known yet, or a node is being killed
                continue
            with closing(socket):
                while (text := await socket.read_message()) is not None:
                    self._received(json.loads(text))
                # Killed (nobody says goodbye), or not known yet.
                assert socket.close_code in (None, 1006, OVERLOADED.code)
                self.cuts += socket.close_code != OVERLOADED.code
            await asyncio.sleep(0.1)

    async def _connect(self) -> WebSocketClientConnection:
        known = f"&epoch={self._epoch}&since_seq={max(self.seqs)}" if self.seqs else ""
        return await websocket_connect(HTTPRequest(self._url + known), subprotocols=["tracking.v1"])

    def _received(self, message: dict[str, Any]) -> None:
        if message["type"] == "welcome":
            assert message["recovered"] in (None, bool(self.seqs))
            self._epoch = message["epoch"]
        elif message["type"] == "track_update":
            self._epoch = message["epoch"]  # the track begins
        elif message["type"] == "location_update":
            self.seqs.append(message["seq"])
        elif message["type"] == "backfill":
            self.seqs += [point["seq"] for point in message["points"]]


async def until(watching: asyncio.Task[None], true: Callable[[], bool]) -> None:
    """The viewer goes on meanwhile."""
    await asyncio.to_thread(wait_until, lambda: watching.done() or true(), "true", 120)
    if watching.done():
        watching.result()


@pytest.mark.gen_test(timeout=300)
async def test_a_viewer_misses_nothing_while_processes_of_both_roles_are_killed(
    demo_environ: dict[str, str],
) -> None:
    environ = {**demo_environ, "ROLES": "2", "DEMO_KILL_SECONDS": "4"}
    with running_demo(environ) as process:
        output = Output(process)
        url, token = await asyncio.to_thread(
            lambda: (output.found(r"WebSocket: (\S+)\?token"), output.found(r" TOKEN=(\S+)"))
        )
        viewer = Viewer(f"{url}?token={token}")
        watching = asyncio.create_task(viewer.watch())
        # One of each role at the least, and the node of this viewer's booking among them.
        await until(
            watching, lambda: viewer.cuts > 0 and {*KILL.findall(output.text)} == {"ingest", "live"}
        )
        head = max(viewer.seqs)
        await until(watching, lambda: max(viewer.seqs) > head + 3)
        watching.cancel()
        await asyncio.wait([watching])
        assert watching.cancelled()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        await asyncio.to_thread(output.wait)
    assert process.returncode == 0
    assert {*KILL.findall(output.text)} == {"ingest", "live"}
    assert viewer.cuts >= 1
    assert sorted(viewer.seqs) == [*range(1, max(viewer.seqs) + 1)]
    assert "is back after" in output.text
    assert processes(environ) == {}
    assert not answers(int(url.split(":")[2].partition("/")[0]))


def test_it_ends_by_itself(demo_environ: dict[str, str]) -> None:
    environ = {**demo_environ, "ROLES": "1", "DEMO_SECONDS": "14", "DEMO_KILL_SECONDS": "10"}
    with running_demo(environ) as process:
        out, err = process.communicate(timeout=150)
    assert (process.returncode, err) == (0, "")
    assert KILL.search(out)
    assert POSITION.search(out)
    assert processes(environ) == {}


def test_a_number_that_is_none_is_refused(demo_environ: dict[str, str]) -> None:
    with running_demo({**demo_environ, "ROLES": "many"}) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ROLES: found 'many'" in err


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
