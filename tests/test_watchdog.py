"""workers.monitoring.watchdog: a poll() that does not return ends the process.

The consumer is made up: no fault of Kafka's makes poll() hang on demand.
"""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

import workers.monitoring.watchdog
from workers.monitoring.watchdog import watch_thread


def watched(silent_s: float, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the watch reports of a consumer that does not poll from now on, within three looks."""
    monkeypatch.setattr(workers.monitoring.watchdog, "LOOK_S", 0.01)
    died: list[BaseException] = []
    consumer: Any = SimpleNamespace(last_poll=time.monotonic() - silent_s)

    async def watch() -> None:
        try:
            await asyncio.wait_for(watch_thread(consumer, died.append), 0.05)
        except TimeoutError:
            pass

    asyncio.run(watch())
    return died


def test_the_process_ends_when_poll_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(110, monkeypatch) == []
    (error,) = watched(121, monkeypatch)
    assert "has not returned for 120 s" in str(error)
