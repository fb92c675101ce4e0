"""workers.maintenance: what time alone decides, and when time may decide it."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tests.running import Trip
from tests.test_store_ingest import accepted, update
from tracking.metrics import Metrics
from tracking.store.ingest.batch import store_batch
from tracking.store.sql import transaction
from workers.kafka.batches import Batch
from workers.maintenance import Maintenance


def a_day_later(engine: sa.Engine, trip: Trip) -> None:
    with transaction(engine) as cursor:
        for table, column in (("tracks", "updated_at"), ("parked_updates", "parked_at")):
            cursor.execute(
                f"UPDATE {table} SET {column} = now() - interval '25 hours' WHERE runner_id = %s",
                (trip.runner_id,),
            )


@pytest.mark.gen_test
@pytest.mark.parametrize("delay_s", [math.inf, 86_400.0, 0.0])
async def test_nothing_expires_while_what_happened_lies_unread_in_kafka(
    own_engine: sa.Engine, delay_s: float
) -> None:
    trip, unknown = Trip(), Trip()
    unknown.runner_id = trip.runner_id
    store_batch(own_engine, [accepted(trip), update(trip, 1), update(unknown, 1)])
    a_day_later(own_engine, trip)
    offered: list[Batch] = []
    with ThreadPoolExecutor(1) as executor:
        metrics = Metrics()
        keeping = Maintenance(own_engine, executor, metrics, offered.append, lambda: delay_s)
        await keeping._expire()
    ended = [(e.booking_id, e.kind) for batch in offered for e in batch.events]  # type: ignore[union-attr]
    refused = metrics.registry.get_sample_value("tracking_parked_updates_refused_total")
    if delay_s:
        assert (ended, refused) == ([], 0)
    else:
        assert (ended, refused) == ([(trip.booking_id, "abandoned")], 1)
