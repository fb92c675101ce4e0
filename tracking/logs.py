"""One line a record, text or JSON; nothing that was logged may hold a token."""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from tracking.journal import JournalFormatter, is_journal

# Whatever a library logs: a JWT, or what follows token= in a URL.
_SECRETS: Final = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=token=)[^\s&\"']+|(?<=bearer\.)[\w.-]+"
)


def configure(level: str, format_: str) -> None:
    """Everything to standard error, where the supervisor's journal picks it up."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonFormatter() if format_ == "json" else TextFormatter()
    handler.setFormatter(JournalFormatter(formatter) if is_journal(sys.stderr) else formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # No line of ours says where in the code it comes from, or in which thread or process.
    logging._srcfile = None  # as the logging HOWTO, "Optimization", has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # kafka-python tells of every attempt to reconnect, several times a second.
    logging.getLogger("kafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    handler.addFilter(Seldom("kafka"))
    handler.addFilter(Seldom("opentelemetry"))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Ours says the same with the request's id and without its query.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)


class Seldom(logging.Filter):
    """Lets each message of a library through once a minute, whatever its arguments."""

    PAUSE_S: Final = 60.0

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library = library
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._library:
            return True
        template = str(record.msg)
        if record.created - self._passed.get(template, 0.0) < self.PAUSE_S:
            return False
        self._passed[template] = record.created
        return True


def redact(text: str) -> str:
    return _SECRETS.sub("***", text)


class TextFormatter(logging.Formatter):
    """`2026-02-06T10:30:00.123Z INFO  tracking.consumer: message`; a traceback on one line, too."""

    def format(self, record: logging.LogRecord) -> str:
        request = getattr(record, "request_id", None)
        where = f"{record.name} [{request}]" if request else record.name
        text = f"{_time(record)} {record.levelname:<7} {where}: {_message(self, record)}"
        return redact(text).replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(_message(self, record)),
        }
        request = getattr(record, "request_id", None)
        if request:
            fields["request_id"] = request
        return msgspec.json.encode(fields).decode()


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and record.name.partition(".")[0] == "kafka":
        # Every broken connection is an exception to it; what matters is raised to us, too.
        return f"{record.getMessage()}: {record.exc_info[1]!r}"
    if record.exc_info:
        return f"{record.getMessage()}: {formatter.formatException(record.exc_info)}"
    return record.getMessage()
