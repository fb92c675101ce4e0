"""What systemd's journal is told of a line's severity: sd-daemon(3). Any thread."""

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

# The least level of each of syslog's priorities; below all of them it is 7, debug.
_PRIORITIES: Final = (
    (logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6),
)  # fmt: skip


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Does the journal read this stream?

    The variable alone says nothing: children inherit it, and whoever starts one may redirect it.
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def prefixed(text: str, level: int) -> str:
    """The text with its priority before each line: to the journal each one is an entry."""
    prefix = f"<{next((n for least, n in _PRIORITIES if level >= least), 7)}>"
    return "\n".join(prefix + line for line in text.split("\n"))


def complain(problem: object) -> None:
    """To standard error, before logging is set up: one line or more, each an error."""
    text = str(problem)
    print(
        prefixed(text, logging.ERROR) if is_journal(sys.stderr) else text,
        file=sys.stderr,
    )


class JournalFormatter(logging.Formatter):
    """What another formatter makes of a record, with its priority."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return prefixed(self._inner.format(record), record.levelno)
