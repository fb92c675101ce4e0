"""Where kafka-python 3.0.12's `poll()` stalls, spins or forgets, put right. The consumer's thread.

No public call helps with any of it.
"""

from typing import Any, Final

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.coordinator.base import MemberState
from kafka.coordinator.consumer import ConsumerCoordinator

# Records, and the end of poll()'s own time, end the wait before.
LEAST_WAIT_S: Final = 0.1


def mend(consumer: KafkaConsumer) -> None:
    """Once, before the first `poll()`."""
    consumer._fetcher.__class__ = _Fetcher
    consumer._coordinator.__class__ = _Coordinator


def resume_join(consumer: KafkaConsumer) -> None:
    """After each `poll()`: let the next one wait for a join that this one did not wait out.

    It is forgotten when new topics or partitions were its cause, and the member then sits without
    partitions and heartbeat for ever.
    """
    coordinator = consumer._coordinator
    if coordinator.state is MemberState.REBALANCING:
        coordinator.request_rejoin()


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]
    def time_to_next_poll(self) -> float:
        """How long `poll()` may wait for records at a stretch, in seconds.

        Until the next heartbeat, though that is sent without us: while the broker hangs it is
        overdue, and `poll()` would not wait at all, but spin.
        """
        return max(float(super().time_to_next_poll()), LEAST_WAIT_S)


class _Fetcher(Fetcher):  # type: ignore[misc]
    _next_partition_records: Any
    _next_in_line_exception_metadata: Any

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
