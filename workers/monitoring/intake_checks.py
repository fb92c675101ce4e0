"""How the way of the events does, part by part, for readiness. IOLoop thread."""

import time
from typing import Final

from workers.intake import Intake
from workers.monitoring.readiness import Check

# A poll() returns twice a second.
POLL_LIMIT_S: Final = 60.0
# Longer than a broker's restart, shorter than anybody's patience.
UNREACHABLE_LIMIT_S: Final = 30.0
# A record that is read and not stored for so long: viewers see old positions.
UNSTORED_LIMIT_S: Final = 60.0
# An event goes out within a second or two, and is looked at once in each round.
OUTGOING_USUAL_S: Final = 3.0
OUTGOING_LIMIT_S: Final = 60.0


class IntakeChecks:
    """`is_alone`: viewers here see only what this process stores, so it must store everything."""

    def __init__(self, intake: Intake, *, is_alone: bool) -> None:
        self._intake = intake
        self._is_alone = is_alone

    def by_name(self) -> dict[str, Check]:
        """Of its parts."""
        return {
            "kafka": self._kafka,
            "consumer": self._polling,
            "ingest": self._unstored,
            "dead_letters": self._unkept,
            "outgoing": self._waiting,
        }

    def _kafka(self) -> str:
        consumer = self._intake.consumer
        if not consumer.connected:
            return "no broker answers"
        away = consumer.lag.unreachable_s()
        if away > UNREACHABLE_LIMIT_S:
            return f"no broker has answered for {away:.0f} s"
        missing = consumer.lag.partitions - consumer.assigned
        if not consumer.assigned and not consumer.joined:
            return "has not joined its consumer group yet"
        if not consumer.assigned and not missing:
            return "ok, no topic to read exists yet"
        if missing > 0 and self._is_alone:
            return (
                f"{missing} partitions belong to another member of the consumer group: set"
                " KAFKA_GROUP_ID to a group of this process's own, stop the other one, or start"
                " both with --role ingest, beside processes with --role live"
            )
        return "ok"

    def _polling(self) -> str:
        for (topic, partition), reason in list(self._intake.consumer.stopped.items()):
            return f"partition {topic}/{partition} is stopped: {reason}"
        silent = time.monotonic() - self._intake.consumer.last_poll
        if silent >= POLL_LIMIT_S:
            return f"poll() has not returned for {silent:.0f} s"
        if not self._intake.consumer.connected:
            return "not connected"
        return "ok" + "".join(
            f", {partition.topic}/{partition.partition} waits for a producer's transaction that has"
            f" been open for {age:.0f} s"
            for partition, age in self._intake.consumer.lag.open_transactions().items()
        )

    def _unstored(self) -> str:
        if self._intake.breaker.reason is not None:
            return f"stopped by {self._intake.breaker.reason}"
        age = self._intake.ingest.oldest_wait(time.monotonic())
        return "ok" if age < UNSTORED_LIMIT_S else f"a batch has waited {age:.0f} s to be stored"

    def _unkept(self) -> str:
        """Partitions wait for their dead letters, and so do the viewers."""
        since = self._intake.dead_letters.failing_since
        waited = 0.0 if since is None else time.monotonic() - since
        return (
            "ok" if waited < UNSTORED_LIMIT_S else f"Kafka has not accepted them for {waited:.0f} s"
        )

    def _waiting(self) -> str:
        """A remark only: viewers and requests don't depend on what goes out."""
        age, remark = self._intake.outgoing.age(), self._intake.outgoing.remark
        late = f", the oldest event waits {age:.0f} s" if age >= OUTGOING_USUAL_S else ""
        late += ", look at tracking.events" if age >= OUTGOING_LIMIT_S else ""
        return f"ok{late}{', ' + remark if remark else ''}"
