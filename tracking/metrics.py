"""Prometheus collectors, one set for each server. Never a booking or user id as a label."""

from collections import Counter as Count
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from tracking import __version__
from tracking.access_metrics import AccessMetrics
from tracking.domain.events import KNOWN_TYPES
from tracking.eta_metrics import EtaMetrics
from tracking.replay_metrics import ReplayMetrics
from tracking.verdict_metrics import VerdictMetrics

# From a direct send on an idle machine to a minute's outage.
LATENCY_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60)
BATCH_BUCKETS = (1, 2, 5, 10, 50, 100, 500, 1_000, 5_000, 20_000)


class Metrics:
    """All collectors. prometheus_client locks, so any thread may count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._kafka()
        self._database()
        self._viewers()
        self._requests()
        self._exports()
        self._relay()
        self.replays, self.etas = ReplayMetrics(self.registry), EtaMetrics(self.registry)
        self.accesses, self.verdicts = AccessMetrics(self.registry), VerdictMetrics(self.registry)
        self._gauge("build_info", "The running version: 1.", ["version"]).labels(__version__).set(1)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] | list[str] = ()) -> Counter:
        return Counter(f"tracking_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] | list[str] = ()) -> Gauge:
        return Gauge(f"tracking_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"tracking_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _kafka(self) -> None:
        self.events = self._counter(
            "events", "Events read from Kafka, by their one outcome.", ["type", "outcome"]
        )
        self.refused = self._counter(
            "updates_refused", "Location updates with the outcome refused, by rule.", ["reason"]
        )
        self.details_dropped = self._counter(
            "details_dropped", "Optional details of events that could not be used.", ["field"]
        )
        self.dead_letters = self._counter("dead_letters", "Dead letters acknowledged by Kafka.")
        self.dead_letters_waiting = self._gauge(
            "dead_letters_waiting", "Dead letters that Kafka has not acknowledged yet."
        )
        self.publish_failures = self._counter(
            "publish_failures", "Stored batches of which viewers may have missed something."
        )
        self.intake_stopped = self._gauge(
            "intake_stopped", "1 when a bug of this version has stopped the intake."
        )
        self.open_transaction = self._gauge(
            "open_transaction_seconds",
            "For how long a producer's open transaction has held back what follows.",
            ["topic", "partition"],
        )
        self.lag = self._gauge(
            "consumer_lag_records", "Records not read yet.", ["topic", "partition"]
        )
        self.last_poll = self._gauge(
            "consumer_last_poll_timestamp_seconds", "When poll() last returned."
        )
        self.oldest_unstored = self._gauge(
            "oldest_unstored_batch_age_seconds", "How long the oldest batch waits to be stored."
        )
        self.published = self._counter(
            "published_events", "Outgoing events acknowledged by Kafka.", ["type"]
        )
        self.outbox_age = self._gauge(
            "outbox_oldest_age_seconds", "Age of the oldest outgoing event that waits."
        )

    def _database(self) -> None:
        self.waypoints = self._counter("waypoints_stored", "Waypoints committed.")
        self.adopted = self._counter("parked_updates_adopted", "Parked updates that found a track.")
        self.expired = self._counter(
            "parked_updates_refused", "Parked updates that no track claimed, or above the limit."
        )
        self.parked = self._gauge("parked_updates", "Updates that wait for a track.")
        self.batch_size = self._histogram(
            "batch_records", "Records in one transaction.", BATCH_BUCKETS
        )
        self.batch_seconds = self._histogram(
            "batch_duration_seconds", "From handing a batch to the database to its commit.",
            LATENCY_BUCKETS,
        )  # fmt: skip
        self.batch_retries = self._counter(
            "batch_retries", "Transactions tried again after a transient error."
        )
        self.database_calls = self._counter(
            "database_calls", "What requests and viewers asked of the database.", ["function"]
        )
        self.maintenance_errors = self._counter(
            "maintenance_errors", "Rounds of maintenance that failed.", ["task"]
        )
        self.expired_routes = self._counter("expired_routes", "Trips whose waypoints have gone.")
        self.dropped_partitions = self._counter("dropped_partitions", "Partitions of waypoints.")
        self.retention_floor = self._gauge(
            "retention_floor_timestamp_seconds", "What began before it has no route; 0: unknown."
        )
        self.retention_behind = self._gauge(
            "retention_behind_seconds", "Age of the floor beyond what RETENTION_DAYS asks for."
        )
        self.pool_in_use = self._gauge(
            "database_connections_in_use", "Connections taken from a pool.", ["pool"]
        )

    def _viewers(self) -> None:
        self.rooms = self._gauge("rooms", "Bookings that somebody watches.")
        self.subscribers = self._gauge("subscribers", "Open WebSockets.")
        self.fleet_viewers = self._gauge("fleet_viewers", "WebSockets that watch all trips.")
        self.fleet_trips = self._gauge(
            "fleet_trips", "Trips kept for them, those that ended lately among them; 0 for nobody."
        )
        self.joins = self._counter(
            "joins", "Handshakes of viewers, by how their check ended.", ["protocol", "outcome"]
        )
        self.resumes = self._counter(
            "resumes", "Viewers who came back for what they missed.", ["recovered"]
        )
        self.backfill_points = self._counter(
            "backfill_points", "Waypoints read for viewers who joined or caught up."
        )
        self.slow_viewers = self._gauge(
            "slow_viewers", "Viewers for whom more waits than a healthy one lets wait."
        )
        self.catching_up = self._gauge(
            "viewers_catching_up", "Viewers who get what they missed; the rest is held for them."
        )
        self.messages = self._counter("messages_sent", "Messages handed to a viewer's socket.")
        self.replaced = self._counter(
            "messages_replaced", "Unsent positions replaced by a newer one for a slow viewer."
        )
        self.closed = self._counter("connections_closed", "WebSockets closed by us.", ["code"])
        self.live_errors = self._counter(
            "live_errors",
            "Errors of ours that closed one viewer, or kept something from one room.",
            ["part"],
        )
        self.delivery_seconds = self._histogram(
            "delivery_duration_seconds", "From Kafka's timestamp to the sockets of the room.",
            LATENCY_BUCKETS,
        )  # fmt: skip
        self.loop_delay = self._histogram(
            "loop_delay_seconds", "How late the IOLoop runs what is due.", LATENCY_BUCKETS
        )

    def _requests(self) -> None:
        self.jwks_fetches = self._counter(
            "jwks_fetches", "Fetches of JWT_JWKS_URL: ok, failed, or unusable.", ["outcome"]
        )
        self.requests = self._counter("http_requests", "Requests.", ["route", "method", "status"])
        self.request_seconds = self._histogram(
            "http_request_duration_seconds", "From the request's head to its last byte.",
            LATENCY_BUCKETS, ("route",),
        )  # fmt: skip

    def _exports(self) -> None:
        self.exports = self._counter(
            "exports",
            "Exports: started, and then finished, broken_off by us, or left by the caller.",
            ["format", "outcome"],
        )
        self.export_seconds = self._histogram(
            "export_duration_seconds", "From an export's start to its end, whatever that was.",
            LATENCY_BUCKETS, ("format",),
        )  # fmt: skip

    def _relay(self) -> None:
        self.relay_sent = self._counter(
            "relay_changes_sent", "Changes of bookings that Kafka has taken for other processes."
        )
        self.relay_dropped = self._counter(
            "relay_changes_dropped", "Changes that it has not: viewers get them from the table."
        )
        self.relay_bundles = self._counter(
            "relay_bundles_received", "Records read from the relay's topic."
        )
        self.relay_changes = self._counter(
            "relay_changes_received", "Changes of bookings that somebody watches here."
        )
        self.relay_unreadable = self._counter(
            "relay_records_unreadable", "Records of the relay's topic that are none of ours."
        )
        self.relay_partitions = self._gauge(
            "relay_partitions_read", "Partitions of the relay's topic that are read here."
        )
        self.forwarded = self._counter(
            "records_forwarded", "Read here, and given to the process that stores their booking."
        )
        self.not_forwarded = self._counter(
            "records_not_forwarded", "Kafka has not taken them for it: stored here."
        )
        self.ingest_processes = self._gauge(
            "ingest_processes", "Processes that store events and have told so lately."
        )
        self.ingest_silence = self._gauge(
            "ingest_silence_seconds", "Since one of them was heard last."
        )
        self.gaps = self._counter("gaps", "Changes that came to a room before the one before them.")
        self.healed = self._counter(
            "rooms_healed", "Rooms whose viewers got what was missing from the table."
        )

    def count_events(self, outcomes: Mapping[tuple[str, str], int]) -> None:
        """Add (type, outcome) counts; types that we do not know share one label."""
        for (type_, outcome), number in Count(outcomes).items():
            label = type_ if type_ in KNOWN_TYPES else "other"
            self.events.labels(label, outcome).inc(number)

    def count_dropped(self, fields: Mapping[str, int]) -> None:
        """Add counts of details by their field; `decode` makes up no names."""
        for field, number in fields.items():
            self.details_dropped.labels(field).inc(number)

    def samples(self) -> list[dict[str, Any]]:
        """Our own metrics by their names in `exposition`; of histograms only sums and counts."""
        found: dict[str, dict[str, Any]] = {}
        for family in (f for f in self.registry.collect() if f.name.startswith("tracking_")):
            for name, labels, value, *_ in family.samples:
                if name.endswith(("_bucket", "_created")):
                    continue
                metric = found.setdefault(name, {"name": name, "type": family.type, "samples": []})
                metric["samples"].append({"labels": labels, "value": value})
        return list(found.values())

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
