"""workers.monitoring watchdog and readiness: a poll() that does not return is noticed.

The consumer is made up: no fault of Kafka's makes poll() hang on demand.
"""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

import workers.monitoring.watchdog
from workers.monitoring.readiness import Readiness
from workers.monitoring.watchdog import watch_consumer


def consumer(silent_s: float, *, connected: bool = True, away_s: float = 0.0) -> Any:
    last_poll = time.monotonic() - silent_s
    return SimpleNamespace(
        last_poll=last_poll, connected=connected, stopped={}, assigned=1, partitions=1,
        unreachable_s=lambda: away_s,
    )  # fmt: skip


def readiness(consumer: Any, outgoing_s: float = 0) -> dict[str, str]:
    """What the checks say that ask no database."""
    ingest = SimpleNamespace(oldest_wait=lambda _: 0.0)
    letters = SimpleNamespace(failing_since=None)
    outgoing = SimpleNamespace(age=lambda: outgoing_s)
    parts: Any = (consumer, ingest, letters, outgoing)
    checks = Readiness(None, None, "", *parts)  # type: ignore[arg-type]
    return {
        "kafka": checks._kafka(), "consumer": checks._polling(), "outgoing": checks._waiting()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("silent_s", "answer"),
    [(0, "ok"), (59, "ok"), (61, "poll() has not returned for 61 s")],
)
def test_a_poll_that_does_not_return_is_not_ready_after_a_minute(
    silent_s: float, answer: str
) -> None:
    assert readiness(consumer(silent_s))["consumer"] == answer


def test_a_consumer_that_never_connects_is_reported() -> None:
    said = readiness(consumer(0, connected=False))
    assert (said["kafka"], said["consumer"]) == ("no broker answers", "not connected")


def test_a_connection_attempt_that_hangs_is_not_ready_after_a_minute() -> None:
    said = readiness(consumer(61, connected=False))
    assert said["consumer"] == "poll() has not returned for 61 s"


@pytest.mark.parametrize(
    ("waited", "answer"),
    [
        (0.5, "ok"),
        (12, "ok, the oldest event waits 12 s"),
        (75, "ok, the oldest event waits 75 s, look at tracking.events"),
    ],
)
def test_late_events_are_a_remark(waited: float, answer: str) -> None:
    assert readiness(consumer(0), waited)["outgoing"] == answer


def watched(silent_s: float, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the watch reports of a consumer that does not poll from now on, within three looks."""
    monkeypatch.setattr(workers.monitoring.watchdog, "LOOK_S", 0.01)
    died: list[BaseException] = []

    async def watch() -> None:
        try:
            await asyncio.wait_for(watch_consumer(consumer(silent_s), died.append), 0.05)
        except TimeoutError:
            pass

    asyncio.run(watch())
    return died


def test_the_process_ends_when_poll_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(110, monkeypatch) == []
    (error,) = watched(121, monkeypatch)
    assert "has not returned for 120 s" in str(error)


def test_a_broker_that_went_away_is_told_after_half_a_minute() -> None:
    assert readiness(consumer(0, away_s=29))["kafka"] == "ok"
    assert readiness(consumer(0, away_s=31))["kafka"] == "no broker has answered for 31 s"
