"""kafka-python's group membership, put right: see patches.py."""

from typing import Any, Final

from kafka import TopicPartition
from kafka.coordinator.base import Generation, MemberState
from kafka.coordinator.consumer import ConsumerCoordinator

# Records, and the end of poll()'s own time, end the wait before.
LEAST_WAIT_S: Final = 0.1
# The broker makes a static member's id of the instance's, a dash and a UUID.
UUID_CHARACTERS: Final = 36


class Coordinator(ConsumerCoordinator):  # type: ignore[misc]
    """The consumer's thread, and kafka-python's IO thread, where said."""

    leads_untold = False
    _joined: tuple[Generation, bytes] | None = None  # with the assignment; of the newest join

    def time_to_next_poll(self) -> float:
        """How long `poll()` may wait for records at a stretch, in seconds.

        Until the next heartbeat, though that is sent without us: while the broker hangs it is
        overdue, and `poll()` would not wait at all, but spin.
        """
        return max(float(super().time_to_next_poll()), LEAST_WAIT_S)

    def ensure_coordinator_ready(self, timeout_ms: float | None = None) -> bool:
        """Asked in each `poll()`, and answered by the IO thread even if the coordinator is known.

        That is a hand-over to another thread and back, which each lone record would wait for.
        """
        return not self.coordinator_unknown() or super().ensure_coordinator_ready(timeout_ms)

    async def _do_join_and_sync_async(self) -> bytes:
        """The assignment; IO thread. Also that of a join that ended while nobody polled.

        It is forgotten upstream, and the next poll joins anew. When the group's leader does, the
        whole group has to: with short polls and longer pauses it never ends.
        """
        if self._joined and self.state is MemberState.REBALANCING:
            generation, last = self._joined
            if generation is self._generation:
                return last
        self._joined = None
        assignment: bytes = await super()._do_join_and_sync_async()
        self._joined = self._generation, assignment
        return assignment

    def _process_join_group_response(self, response: Any, send_time: float) -> Any:
        """Notes whether the group's leader is told that it is none.

        So is a static member that comes back: it gets its old assignment, and as the leader's id
        its own old one, which is its instance's with a UUID. As long as it takes itself for a
        follower, nobody assigns the partitions that are new since then.
        """
        is_own = response.leader[:-UUID_CHARACTERS] == f"{self.group_instance_id}-"
        self.leads_untold = is_own and response.leader != response.member_id
        return super()._process_join_group_response(response, send_time)

    def overlooks_partitions(self) -> bool:
        """It leads untold, and has not all: another member has the rest, or nobody.

        The join that follows makes the broker ask the whole group, and tells it that it leads.
        """
        return self.leads_untold and any(
            TopicPartition(topic, number) not in self._subscription.assignment
            for topic, numbers in self._metadata_snapshot.items()
            for number in numbers
        )
