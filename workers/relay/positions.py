"""From where each partition of the relay is read: from the end that it had when it was wanted.

Kafka is asked for ends without waiting: what is read already goes on meanwhile. Relay thread.
"""

import logging
import time
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from tracking.settings import Settings
from workers.relay.client import TOPIC, options, partitions_of

log = logging.getLogger("tracking.relay")

# Rooms that open together are one question.
GATHER_S: Final = 0.05
RETRY_S: Final = 0.5
ANSWER_S: Final = 2.0


class Positions:
    """What the consumer reads. Each partition comes and goes without the others noticing."""

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        self._topic = settings.topic(TOPIC)
        self._consumer = consumer
        self._admin = AdminClient(options(settings) | {"log_level": 0})  # nobody would read it
        self._asked: dict[int, Future[Any]] = {}
        self._ask_at = 0.0
        self._failed: set[int] = set()  # partitions, with the last answer
        self.count = 0  # partitions of the topic
        self.read: frozenset[int] = frozenset()

    @property
    def is_asking(self) -> bool:
        return bool(self._asked)

    def look(self) -> int:
        """How many partitions there are; raises KafkaException.

        A client learns of new ones, and of new leaders, when it is asked; each by itself.
        """
        count = partitions_of(self._consumer, self._topic)
        if count != self.count or self._failed:
            count = partitions_of(self._admin, self._topic)
        return count

    def begin(self, count: int) -> None:
        """The topic is not the one it was: nothing of it is read."""
        self._consumer.unassign()
        self._asked.clear()
        self._failed.clear()
        self._ask_at = 0.0
        self.count, self.read = count, frozenset()

    def follow(self, wanted: frozenset[int]) -> None:
        """Called again and again: let go, ask, and read what was answered."""
        self._let_go(self.read - wanted)
        for partition in self._asked.keys() - wanted:
            del self._asked[partition]
        self._settle()
        self._ask({each for each in wanted if each < self.count} - self.read - self._asked.keys())

    def _let_go(self, partitions: frozenset[int]) -> None:
        if partitions:
            self._consumer.incremental_unassign([self._at(each) for each in partitions])
            self.read -= partitions

    def _ask(self, partitions: set[int]) -> None:
        """One question waits for all leaders: who has no answer yet is asked alone."""
        now = time.monotonic()
        if not partitions or now < self._ask_at:
            return
        self._ask_at = now + GATHER_S
        for part in (partitions - self._failed, *({each} for each in partitions & self._failed)):
            if part:
                self._ask_for(part)

    def _ask_for(self, partitions: Collection[int]) -> None:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        question = dict.fromkeys(map(self._at, partitions), latest)
        answers = self._admin.list_offsets(question, request_timeout=ANSWER_S)
        self._asked |= {each.partition: answer for each, answer in answers.items()}

    def _settle(self) -> None:
        answered = {each: answer for each, answer in self._asked.items() if answer.done()}
        found: list[TopicPartition] = []
        for partition, answer in answered.items():
            del self._asked[partition]
            try:
                found.append(self._at(partition, answer.result().offset))
            except KafkaException as error:
                self._failed.add(partition)
                self._ask_at = time.monotonic() + RETRY_S
                log.debug("the end of partition %d is not known yet: %s", partition, error)
        if found:
            self._consumer.incremental_assign(found)
            self.read |= {each.partition for each in found}
            self._failed -= self.read

    def _at(self, partition: int, offset: int = 0) -> TopicPartition:
        return TopicPartition(self._topic, partition, offset)
