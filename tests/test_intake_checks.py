"""workers.monitoring.intake_checks: what readiness says of each part, and why.

The consumer is made up: no fault of Kafka's makes poll() hang on demand.
"""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from workers.monitoring.intake_checks import IntakeChecks


def consumer(
    silent_s: float = 0.0,
    *,
    connected: bool = True,
    away_s: float = 0.0,
    assigned: int = 1,
    partitions: int = 1,
    joined: bool = True,
    open_s: dict[TopicPartition, float] | None = None,
    stopped: dict[TopicPartition, str] | None = None,
) -> Any:
    open_s = open_s or {}
    last_poll = time.monotonic() - silent_s
    return SimpleNamespace(
        last_poll=last_poll, connected=connected, stopped=stopped or {},
        assigned=assigned, joined=joined,
        lag=SimpleNamespace(
            partitions=partitions, unreachable_s=lambda: away_s, open_transactions=lambda: open_s
        ),
    )  # fmt: skip


def said_of(
    consumer: Any,
    outgoing_s: float = 0,
    bug: str | None = None,
    *,
    unstored_s: float = 0.0,
    unkept_s: float | None = None,
    remark: str = "",
    is_alone: bool = True,
) -> dict[str, str]:
    """What the checks say that ask no database."""
    ingest = SimpleNamespace(oldest_wait=lambda _: unstored_s)
    failing_since = None if unkept_s is None else time.monotonic() - unkept_s
    intake: Any = SimpleNamespace(
        consumer=consumer,
        ingest=ingest,
        dead_letters=SimpleNamespace(failing_since=failing_since),
        breaker=SimpleNamespace(reason=bug),
        outgoing=SimpleNamespace(age=lambda: outgoing_s, remark=remark),
    )
    checks = IntakeChecks(intake, is_alone=is_alone).by_name()
    return {name: check() for name, check in checks.items()}


@pytest.mark.parametrize(
    ("silent_s", "answer"),
    [(0, "ok"), (59, "ok"), (61, "poll() has not returned for 61 s")],
)
def test_a_poll_that_does_not_return_is_not_ready_after_a_minute(
    silent_s: float, answer: str
) -> None:
    assert said_of(consumer(silent_s))["consumer"] == answer


def test_a_consumer_that_never_connects_is_reported() -> None:
    said = said_of(consumer(0, connected=False))
    assert (said["kafka"], said["consumer"]) == ("no broker answers", "not connected")


def test_a_connection_attempt_that_hangs_is_not_ready_after_a_minute() -> None:
    said = said_of(consumer(61, connected=False))
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
    assert said_of(consumer(0), waited)["outgoing"] == answer


def test_erasures_that_a_broker_may_delete_are_a_remark() -> None:
    said = said_of(consumer(0), 12, remark="erasures may be lost")
    assert said["outgoing"] == "ok, the oldest event waits 12 s, erasures may be lost"


def test_a_broker_that_went_away_is_told_after_half_a_minute() -> None:
    assert said_of(consumer(0, away_s=29))["kafka"] == "ok"
    assert said_of(consumer(0, away_s=31))["kafka"] == "no broker has answered for 31 s"


def test_a_member_without_partitions_is_not_ready() -> None:
    """Its viewers would see nothing of what the other members store."""
    said = said_of(consumer(assigned=0, partitions=6))["kafka"]
    assert "6 partitions belong to another member" in said
    assert "2 partitions belong" in said_of(consumer(assigned=4, partitions=6))["kafka"]


def test_a_member_that_has_not_joined_yet_is_not_ready() -> None:
    said = said_of(consumer(assigned=0, partitions=6, joined=False))["kafka"]
    assert said == "has not joined its consumer group yet"


def test_without_any_topic_there_is_nothing_to_miss() -> None:
    """A first start, before the first event: clients may connect."""
    said = said_of(consumer(assigned=0, partitions=0))["kafka"]
    assert said == "ok, no topic to read exists yet"


def test_an_open_transaction_is_a_remark_that_names_the_partition() -> None:
    """The process does what it can; taking it out of service would end no transaction."""
    said = said_of(consumer(open_s={TopicPartition("booking.events", 3): 75.0}))["consumer"]
    assert said.startswith("ok, booking.events/3 waits for a producer's transaction")
    assert "75 s" in said


def test_an_intake_that_a_bug_has_stopped_is_not_ready() -> None:
    assert said_of(consumer(), bug="a bug of this version")["ingest"].startswith("stopped by")


def test_a_partition_that_is_stopped_is_named_with_its_reason() -> None:
    said = said_of(consumer(stopped={TopicPartition("runner.events", 2): "unreadable bytes"}))
    assert said["consumer"] == "partition runner.events/2 is stopped: unreadable bytes"


@pytest.mark.parametrize(
    ("waited_s", "batch", "letters"),
    [(59, "ok", "ok"),
     (61, "a batch has waited 61 s to be stored", "Kafka has not accepted them for 61 s")],
)  # fmt: skip
def test_what_waits_for_longer_than_a_minute_is_not_ready(
    waited_s: float, batch: str, letters: str
) -> None:
    said = said_of(consumer(), unstored_s=waited_s, unkept_s=waited_s)
    assert (said["ingest"], said["dead_letters"]) == (batch, letters)
