"""workers.monitoring.readiness: what is told to the load balancer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from workers.monitoring import readiness as readiness_module
from workers.monitoring.readiness import Readiness


@pytest.mark.gen_test
async def test_a_probe_that_has_not_begun_is_not_wanted_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or they would queue up behind a database that hangs, and be asked when it is back."""
    monkeypatch.setattr(readiness_module, "DATABASE_TIMEOUT_S", 0.02)
    begun, back, probes = threading.Event(), threading.Event(), []

    def connect() -> None:
        probes.append("one")
        begun.set()
        assert back.wait(15)
        raise LookupError

    with ThreadPoolExecutor(1) as executor:
        engine: Any = SimpleNamespace(connect=connect)
        checks = Readiness(engine, executor, "", {})
        for _ in range(3):
            assert await checks._database() == ("does not answer", "unknown")
        await asyncio.to_thread(begun.wait, 15)
        back.set()
        await asyncio.get_running_loop().run_in_executor(executor, lambda: None)
    assert probes == ["one"]
