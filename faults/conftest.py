"""Fixtures of the fault suite: servers of a worker's own, a scenario with its seed."""

import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.private_server import CHECKOUT
from faults.scenario import Scenario
from faults.scenario import scenario as played
from faults.world import World
from faults.world import world as own_world

# The same seed plays the same loads and faults again.
SEED = os.environ.setdefault("FAULTS_SEED", secrets.token_hex(4))
OUTAGE_S = float(os.environ.get("FAULTS_OUTAGE_S", "60"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: left out where time is short, as in CI")
    # kafka-python 3.0.12 leaves sockets to the collector when a broker dies under it.
    config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")
    deaf = "Exception ignored in. <function KafkaProducer"
    config.addinivalue_line(
        "filterwarnings", f"ignore:{deaf}:pytest.PytestUnraisableExceptionWarning"
    )
    # What our own clients say of an outage is no news; kept, it would keep their sockets.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def pytest_report_header() -> str:
    return f"faults: FAULTS_SEED={SEED} FAULTS_OUTAGE_S={OUTAGE_S:g}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failure says how to see it again."""
    report = yield
    if report.failed:
        again = f"FAULTS_SEED={SEED} FAULTS_OUTAGE_S={OUTAGE_S:g} make faults ARGS='-k {item.name}'"
        report.sections.append(("to play it again", again))
    return report


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    with own_world(CHECKOUT / ".dev" / f"faults-{worker}") as made:
        yield made


@pytest.fixture
def scenario(world: World, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scenario]:
    with played(world, tmp_path / "server.log", f"{SEED}/{request.node.name}") as one:
        yield one


@pytest.fixture
def outage_s() -> float:
    """How long an outage lasts."""
    return OUTAGE_S
