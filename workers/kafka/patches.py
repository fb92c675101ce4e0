"""Everything private of kafka-python: what it does wrong, put right, and what it does not tell.

Holds for version 3.0.12 only, which `require_version` asserts at start: other versions have other
private parts. No public call helps with any of it.
"""

import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.coordinator.base import MemberState
from kafka.errors import KafkaError, KafkaTimeoutError, UnsupportedCodecError
from kafka.future import Future
from msgspec import Struct

from workers.kafka.coordinator import Coordinator
from workers.kafka.records import PartitionRecords

VERSION: Final = "3.0.12"


def require_version() -> None:
    """RuntimeError when the installed kafka-python is not the one whose private parts we know."""
    if kafka.__version__ != VERSION:
        raise RuntimeError(
            f"kafka-python {kafka.__version__} is installed, and workers/kafka/patches.py holds for"
            f" {VERSION}: install requirements.txt, or review the patches and run their tests"
        )


def patch(consumer: KafkaConsumer) -> None:
    """Once, before the first `poll()`. The consumer's thread."""
    consumer._fetcher.__class__ = _Fetcher
    consumer._fetcher.last_stable = {}
    consumer._subscription.__class__ = _Subscription
    consumer._coordinator.__class__ = Coordinator


def resume_join(consumer: KafkaConsumer) -> None:
    """After each `poll()`: let the next one wait for a join that this one did not wait out.

    It is forgotten when new topics or partitions were its cause, and the member then sits without
    partitions and heartbeat for ever. Or let it join for what was overlooked. Consumer thread.
    """
    coordinator = consumer._coordinator
    if coordinator.state is MemberState.REBALANCING or coordinator.overlooks_partitions():
        coordinator.request_rejoin()


def has_joined(consumer: KafkaConsumer) -> bool:
    """Whether it belongs to its group, perhaps without partitions. The consumer's thread."""
    return consumer._coordinator.state is MemberState.STABLE


def knows_coordinator(consumer: KafkaConsumer) -> bool:
    """Whether this member knows a broker that coordinates its group. The consumer's thread."""
    return not consumer._coordinator.coordinator_unknown()


def next_offset(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """Of the record that poll() will give next; None while it is not known, or not ours.

    Behind control records, which poll() never gives. Unlike `position()` it asks no broker.
    """
    state = consumer._subscription.assignment.get(partition)
    return None if state is None or state.position is None else int(state.position.offset)


def last_stable_offset(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """Up to here no transaction is open; as of the last fetch. The consumer's thread."""
    offset: int | None = consumer._fetcher.last_stable.get(partition)
    return offset


def readable_end(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    """Up to here records can be read now; as of the last fetch. The consumer's thread."""
    end: int | None = consumer.highwater(partition)
    stable = last_stable_offset(consumer, partition)
    return end if end is None or stable is None else min(end, stable)


def without_exit_hook(producer: KafkaProducer) -> KafkaProducer:
    """The same producer, which its owner ends. Any thread.

    Else kafka-python closes it when the interpreter ends, and raises if its broker is away.
    """
    producer._unregister_cleanup()
    return producer


def abandon(producer: KafkaProducer) -> None:
    """End a producer; what it has not sent by now it never will. Any thread.

    kafka-python's own close() waits for that, then raises and leaves the producer's thread running.
    """
    producer._sender.force_close()
    with suppress(KafkaError):
        producer.close(timeout=1)


class Unreadable(Struct, frozen=True):
    """A record batch that cannot be read."""

    partition: TopicPartition
    next_offset: int | None  # the first one behind it; None when its own header makes no sense


def unreadable(error: BaseException) -> Unreadable | None:
    """Which bytes Kafka's own format cannot give back; None if the error is not about such.

    `poll()` raises without saying where, and afterwards raises for ever. The traceback's frames
    know the batch.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals
        if frame.f_code.co_name in ("_unpack_records", "_parse_fetched_data"):
            partition = local.get("tp")
            if isinstance(partition, TopicPartition):
                return Unreadable(partition, _offset_behind(local.get("batch")))
    return None


def _offset_behind(batch: Any) -> int | None:
    """The offset behind a batch whose header agrees with itself."""
    try:
        if batch.last_offset_delta + 1 == batch.records_count:
            return int(batch.next_offset)
    except Exception:
        return None  # an older format, or a header that was hit
    return None


def lacks_codec(error: BaseException) -> bool:
    """A codec that could be installed is no poison; one that nobody knows is."""
    return isinstance(error, UnsupportedCodecError) and "Libraries for" in str(error)


class _Subscription(SubscriptionState):  # type: ignore[misc]
    def _apply_assignment(
        self, partitions: Iterable[TopicPartition], randomize: bool = False
    ) -> None:
        """After a rebalance all is read from where the group has committed, as by Kafka's client.

        The library keeps the position of a partition that stays ours, but says that it was revoked,
        and whoever then lets go of what was read and not stored would never get it again.
        """
        if not randomize:  # the user's assignment, not the group's
            super()._apply_assignment(partitions, randomize)
            return
        ends = {partition: state.highwater for partition, state in self.assignment.items()}
        self.assignment.clear()
        super()._apply_assignment(partitions, randomize)
        # The broker tells it again only when it has changed: fetches go on in the same session.
        for partition, state in self.assignment.items():
            state.highwater = ends.get(partition)


class _Fetcher(Fetcher):  # type: ignore[misc]
    PartitionRecords = PartitionRecords
    _next_partition_records: Any
    _next_in_line_exception_metadata: Any
    last_stable: dict[TopicPartition, int]

    def fetch_records(
        self,
        max_records: int | None = None,
        update_offsets: bool = True,
        timeout_ms: float | None = None,
    ) -> tuple[dict[Any, list[Any]], bool]:
        """As upstream, but one hand-over to the IO thread asks the broker and waits for it.

        Records, and whether there was nothing to wait for.
        """
        records, has_more = self.fetched_records(max_records, update_offsets)
        if records:
            if not has_more:
                self.send_fetches()
            return records, False
        if not self._net.run(self._ask_and_wait, not has_more, timeout_ms):
            return records, True
        return self.fetched_records(max_records, update_offsets)[0], False

    async def _ask_and_wait(self, asks: bool, timeout_ms: float | None) -> bool:
        """On the IO thread; False if there was nothing to wait for."""
        if asks:
            await self._send_fetches_async()
        pending = list(self._fetch_futures)
        if self._reset_task is not None and not self._reset_task.is_done:
            pending.append(self._reset_task)
        wake_up = Future()
        for future in pending:
            future.add_both(lambda _: wake_up.is_done or wake_up.success(None))
        with suppress(KafkaTimeoutError):
            if pending:
                await self._manager.wait_for(wake_up, timeout_ms)
        return bool(pending)

    def fetched_records(self, *args: Any, **options: Any) -> tuple[dict[Any, list[Any]], bool]:
        """What was fetched, and whether there is more of it, which holds back the next fetch.

        What is left of one partition has a slot of its own, and is overlooked there: the next fetch
        asks for the other partitions only, and if those are quiet or paused, the broker keeps it
        waiting for half a second, and nothing else can be fetched.

        A partition that was paused with something in that slot gets it back when the slot is None.
        Drained, it is not: such a partition would be neither read nor fetched after it is resumed.
        """
        self._drop_what_failed_and_is_paused()
        if not self._next_partition_records:
            self._next_partition_records = None
        records, has_more = super().fetched_records(*args, **options)
        return records, has_more or bool(self._next_partition_records)

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        """Keeps the last stable offset, which the library drops."""
        fetched = completed_fetch.partition_data
        if fetched.error_code == 0 and fetched.last_stable_offset >= 0:
            self.last_stable[completed_fetch.topic_partition] = fetched.last_stable_offset
        return super()._parse_fetched_data(completed_fetch)

    def _drop_what_failed_and_is_paused(self) -> None:
        """Records that cannot be read raise in the call after the one that returned those before.

        If their partition is paused in between, the error is forgotten, and their rest, which will
        never give anything again, is read for ever once it is resumed. Without it the partition is
        fetched anew then, and raises again.
        """
        failed, rest = self._next_in_line_exception_metadata, self._next_partition_records
        if failed is None or self._subscriptions.is_fetchable(failed.partition):
            return
        if rest and rest.topic_partition == failed.partition:
            rest.drain()
