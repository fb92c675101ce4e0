"""dev.demo: the whole of it, as `make demo` starts it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.running import CHECKOUT, wait_until

POSITION = re.compile(r"^\d\d:\d\d:\d\d .* km/h ", re.MULTILINE)


@pytest.fixture
def demo_environ(database: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Names that no other demo has, one of which marks its processes."""
    return {
        **os.environ,
        **database,
        "KAFKA_TOPIC_PREFIX": f"test-{uuid4().hex[:12]}",
        "DEMO_LOGS": str(tmp_path),
        "SERVICE_PORT": "0",  # two that want the same free port are seconds apart
    }


@contextmanager
def running_demo(environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Ended with its children also when the test fails."""
    with subprocess.Popen(
        [sys.executable, "-m", "dev.demo"],
        cwd=CHECKOUT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def processes(environ: Mapping[str, str]) -> dict[int, str]:
    """Command lines by pid of whatever was started with this environment."""
    mark = f"KAFKA_TOPIC_PREFIX={environ['KAFKA_TOPIC_PREFIX']}".encode()
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (directory / "environ").read_bytes().split(b"\0"):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(directory.name)] = command
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return found


def child(environ: Mapping[str, str], name: str) -> int:
    """The pid of the demo's server or simulator, as soon as there is one."""
    return wait_until(
        lambda: next((pid for pid, text in processes(environ).items() if name in text), 0), name
    )


def read_until_position(process: subprocess.Popen[str]) -> str:
    """What it printed up to and including the first position."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if POSITION.match(line):
            return text
    raise AssertionError(f"no position in:\n{text}")


def test_the_demo_shows_positions_and_leaves_no_process(demo_environ: dict[str, str]) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        environ = {**demo_environ, "DEMO_SECONDS": "8", "SERVICE_PORT": port}
        with running_demo(environ) as process:
            out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    shown = len(POSITION.findall(out))
    assert shown > 5
    assert f"demo: {shown} positions shown" in out.splitlines()[-1]
    assert re.search(r"http://127\.0\.0\.1:\d+", out)
    assert f":{port}" not in out  # somebody else's
    assert "OWNER=ey" in out
    assert processes(environ) == {}


def test_a_signal_ends_the_demo_with_its_children(demo_environ: dict[str, str]) -> None:
    with running_demo(demo_environ) as process:
        read_until_position(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # impatience leaves nothing behind either
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "positions shown" in out
    assert processes(demo_environ) == {}


def test_a_dead_child_ends_the_demo_which_says_whose_log_to_read(
    demo_environ: dict[str, str],
) -> None:
    with running_demo(demo_environ) as process:
        read_until_position(process)
        os.kill(child(demo_environ, "dev.simulator"), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "demo: simulator ended with status -9:\nsimulator: seed" in err
    assert processes(demo_environ) == {}
