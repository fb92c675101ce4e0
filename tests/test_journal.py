"""tracking.journal: with systemd's journal behind standard error each line has its priority."""

import os
import socket
import subprocess
import sys

import pytest

from tests.running import CHECKOUT

PROGRAM = """
import logging
from tracking.logs import configure
configure("debug", {format!r})
log = logging.getLogger("tracking.x")
for level in (10, 20, 30, 40, 50):
    log.log(level, "level %d", level)
try:
    raise ValueError("first\\nsecond")
except ValueError:
    log.exception("it failed")
"""
FORMATS = pytest.mark.parametrize("format_", ["text", "json"])


def lines(format_: str, is_announced: bool) -> list[str]:
    """What a process writes into a socket, as the journal's is one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        inode = status.st_ino if is_announced else status.st_ino + 1
        environ = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{inode}"}
        command = [sys.executable, "-c", PROGRAM.format(format=format_)]
        log = theirs.fileno()
        subprocess.run(command, check=True, cwd=CHECKOUT, env=environ, stderr=log)
        theirs.close()
        with ours.makefile() as read:
            return read.read().splitlines()


@FORMATS
def test_each_line_begins_with_its_priority(format_: str) -> None:
    found = lines(format_, is_announced=True)
    assert [line[:3] for line in found] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert "ValueError" in found[-1]


@FORMATS
def test_a_stream_that_is_not_the_journals_has_none(format_: str) -> None:
    found = lines(format_, is_announced=False)
    assert {line[0] for line in found} == {"2" if format_ == "text" else "{"}


def test_settings_that_are_wrong_are_errors_line_by_line() -> None:
    command = f'JOURNAL_STREAM="$(stat -L -c %d:%i /dev/stderr)" {sys.executable} server.py'
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=CHECKOUT, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "DB_PORT": "x", "KAFKA_BROKERS": "y:z"},
    ) as process:  # fmt: skip
        said = process.communicate()[1].splitlines()
    assert len(said) > 1
    assert {line[:3] for line in said} == {"<3>"}
