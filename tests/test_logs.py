"""tracking.logs: one line each, and never a token."""

import json
import logging
import sys

import pytest

from tracking.logs import JsonFormatter, Seldom, TextFormatter, redact


def record(message: str, name: str = "tracking.x", **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.WARNING, __file__, 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        failed = record("it failed")
        failed.exc_info = sys.exc_info()
    for formatter in (TextFormatter(), JsonFormatter()):
        text = formatter.format(failed)
        assert "\n" not in text
        assert "ValueError" in text


def test_json_has_the_request_id() -> None:
    fields = json.loads(JsonFormatter().format(record("hello", request_id="r1")))
    assert (fields["message"], fields["level"], fields["request_id"]) == ("hello", "warning", "r1")


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws?token=eyJhbGciOi.eyJzdWIi.c2ln HTTP/1.1",
        "Authorization: Bearer eyJhbGciOi.eyJzdWIi.c2ln",
        "Sec-WebSocket-Protocol: bearer.c2ln",
        "/ws?a=1&token=c2ln&b=2",
    ],
)
def test_a_token_is_redacted_whoever_logs_it(text: str) -> None:
    assert "c2ln" not in redact(text)


def test_a_library_that_repeats_itself_is_heard_once_a_minute() -> None:
    seldom = Seldom("kafka")
    lines = [record("refused", "kafka.net") for _ in range(3)]
    assert [seldom.filter(line) for line in lines] == [True, False, False]
    later = record("refused", "kafka.net")
    later.created += 61
    assert seldom.filter(later)
    assert all(seldom.filter(record("refused", "tracking.consumer")) for _ in range(3))


def test_a_connection_that_breaks_under_kafka_python_is_no_traceback() -> None:
    try:
        raise ConnectionResetError(104, "reset by peer")
    except ConnectionResetError:
        failed = record("closing socket", "kafka.net.transport")
        failed.exc_info = sys.exc_info()
    text = TextFormatter().format(failed)
    assert "Traceback" not in text
    assert "reset by peer" in text
