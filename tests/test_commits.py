"""workers.kafka.commits: what becomes of a commit that fails, with a real Kafka."""

from kafka.structs import OffsetAndMetadata

from tests.consuming import Group
from tests.running import wait_until


def test_a_commit_that_failed_is_tried_again(environ: dict[str, str]) -> None:
    group = Group(environ)
    group.produce(3)
    with group.consuming() as consumer:
        wait_until(lambda: group.records == 3, "three records read")
        generations = {group.partition: consumer._in_flight.offsets.generation(group.partition)}
        failed = {group.partition: OffsetAndMetadata(3, "", -1)}
        consumer._commits._answered(generations, failed, RuntimeError("the coordinator moves"))
        wait_until(lambda: group.offset() == 3, "committed")
        # ... but not once the partition was somebody else's.
        consumer._commits._answered(
            {group.partition: -1}, failed, RuntimeError("the group rebalances")
        )
        assert group.partition not in consumer._commits._pending
