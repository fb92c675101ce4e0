"""What stores the events: of the roles `all` and `ingest`. IOLoop thread."""

from collections.abc import Awaitable, Callable
from functools import partial

from roles.building import Building
from tracking.domain.verdicts import Rule
from tracking.store.engine import create_engine
from workers.ingest import Publisher
from workers.intake import Intake
from workers.kafka.unread import oldest_unread_s
from workers.maintenance import Maintenance
from workers.monitoring.watchdog import measure_ingest, watch_thread
from workers.retention import Retention

# Of retention: the ids of a first round's trips are found by reading a whole table.
RETENTION_STATEMENT_S = 300
# Two for ingest and maintenance, two for what goes out.
CONNECTIONS = 4


def start_storing(building: Building, publisher: Publisher, more: int = 0) -> Intake:
    """From Kafka into the database; what was committed goes to the publisher.

    `more`: connections for whoever else uses this pool.
    """
    settings, metrics, stop = building.settings, building.metrics, building.stop
    engine = building.engine("ingest", CONNECTIONS + more)
    intake = Intake(
        settings, metrics, engine, building.threads("ingest"), publisher, stop.died,
        building.tracing,
    )  # fmt: skip
    intake.start()
    building.stack.push_async_callback(intake.stop, stop)
    maintenance = Maintenance(
        engine, building.threads("maintenance"), metrics, intake.ingest.offer,
        intake.delay_s, partial(oldest_unread_s, settings), settings.partitions_by_day,
        Rule(max_speed_kmh=settings.max_speed_kmh), retention_of(building),
        publisher.publish, settings.keep_accesses,
    )  # fmt: skip
    building.start_jobs(watch_thread(intake.consumer, stop.died), maintenance.run())
    building.signs.append(lambda: intake.consumer.last_poll)
    measure_ingest(metrics, intake.ingest)
    return intake


def retention_of(building: Building) -> Callable[[], Awaitable[None]] | None:
    """A round of it, over connections of its own; None where routes are kept for ever.

    To PostgreSQL itself: its lock is of a session.
    """
    settings = building.settings
    if settings.keep is None:
        return None
    engine = create_engine(
        settings, name="retention", statement_timeout_s=RETENTION_STATEMENT_S, ping=True
    )
    building.stack.callback(engine.dispose)
    building.engines["retention"] = engine
    executor = building.threads("retention")
    return Retention(engine, executor, building.metrics, settings.keep).work
