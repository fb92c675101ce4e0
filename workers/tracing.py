"""Spans of OpenTelemetry, from the events of a batch to the sockets; off without its setting.

Nothing of the library is imported before `tracing_of` finds the setting. A batch is one trace with
links to its events' own traces: it belongs to none of them. Any thread may call.
"""

import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import MsgspecError, Struct, json

from tracking.domain.changes import BookingChanges
from tracking.settings import Settings
from workers.kafka.batches import Batch

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link

# An event of hundreds: enough to find the way back from one of them, few enough for any collector
# (the SDK's own limit is 128).
MOST_LINKS: Final = 32
# Records that are looked at for a context, where most have none.
LOOKED_AT: Final = 512
# W3C Trace Context: as a header of Kafka, of CloudEvents' binary mode, in the structured envelope.
NAME: Final = "traceparent"
HEADERS: Final = (NAME, f"ce_{NAME}")
# One request to the collector; what it does not take is dropped by the library, and told once.
EXPORT_S: Final = 2.0


Attributes = dict[str, str | int]
Publish = Callable[[Sequence[BookingChanges]], Coroutine[Any, Any, None]]


class Traced(Struct):
    """The extension of an envelope."""

    traceparent: str = ""


_traced: Final = json.Decoder(Traced)


def tracing_of(settings: Settings, role: str) -> "Tracing | None":
    """None without the setting."""
    endpoint = settings.otel_exporter_otlp_endpoint
    return Tracing(endpoint, role, settings.kafka_group_id) if endpoint else None


class Tracing:
    """Makes the spans; a thread of the library sends them."""

    def __init__(self, endpoint: str, role: str, group: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        ours = Resource.create({"service.name": "service-tracking", "service.tracking.role": role})
        resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME and others
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("service-tracking")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = SpanKind
        self._group = group
        self._closing = threading.Thread(target=self._provider.shutdown, daemon=True)

    @contextmanager
    def batch(self, batch: Batch) -> Iterator[None]:
        """From when its first record was polled until it is stored; what it does is below it."""
        age_ns = round((time.monotonic() - batch.taken_at) * 1e9)
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": batch.size,
        }
        links = self._links(filter(None, map(traceparent_of, batch.records[:LOOKED_AT])))
        with self._tracer.start_as_current_span(
            "consume", kind=self._kinds.CONSUMER, links=links, attributes=attributes,
            start_time=time.time_ns() - age_ns,
        ):  # fmt: skip
            yield

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A part of what is under way."""
        with self._tracer.start_as_current_span(name):
            yield

    @contextmanager
    def relay(self, changes: int) -> Iterator[list[tuple[str, bytes]]]:
        """Handing over to other processes: what their records carry."""
        attributes: Attributes = {
            "messaging.system": "kafka",
            "messaging.batch.message_count": changes,
        }
        with self._tracer.start_as_current_span(
            "relay", kind=self._kinds.PRODUCER, attributes=attributes
        ):
            found: dict[str, str] = {}
            self._propagator.inject(found)
            yield [(NAME, found[NAME].encode())] if NAME in found else []

    async def publish(
        self, publishing: Coroutine[Any, Any, None], changes: Sequence[BookingChanges],
        traceparents: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """To the sockets. What came through the relay goes on in the first of its traces."""
        parent = self._context(traceparents[0]) if traceparents else None
        kind = self._kinds.CONSUMER if traceparents else self._kinds.INTERNAL
        attributes = {"messaging.batch.message_count": len(changes)}
        with self._tracer.start_as_current_span(
            "publish", context=parent, kind=kind, links=self._links(traceparents[1:]),
            attributes=attributes,
        ):  # fmt: skip
            await publishing

    def _context(self, traceparent: str) -> "Context":
        from opentelemetry.context import Context

        return self._propagator.extract({NAME: traceparent}, Context())

    def _links(self, traceparents: Iterable[str]) -> "list[Link]":
        """Each context once, MOST_LINKS at the most; of what is none, none."""
        from opentelemetry.trace import Link, get_current_span

        once = islice(dict.fromkeys(traceparents), MOST_LINKS)
        spans = (get_current_span(self._context(each)).get_span_context() for each in once)
        return [Link(context) for context in spans if context.is_valid]

    def traced(self, publish: Publish) -> "TracedPublisher":
        """A publisher whose work is a span."""
        return TracedPublisher(self, publish)

    def stop(self) -> None:
        """Send what is left; `wait` for it."""
        self._closing.start()

    def wait(self, timeout_s: float) -> bool:
        """Not on the IOLoop; False if the collector takes longer."""
        self._closing.join(timeout_s)
        return not self._closing.is_alive()


class TracedPublisher:
    """Of the process that stores: below the batch that is under way. IOLoop thread."""

    def __init__(self, tracing: Tracing, publish: Publish) -> None:
        self._tracing, self._publish = tracing, publish

    async def publish(self, bookings: Sequence[BookingChanges]) -> None:
        """As the publisher's."""
        await self._tracing.publish(self._publish(bookings), bookings)


def traceparent_of(record: Any) -> str | None:
    """What a record of the platform says of its trace."""
    for name, value in record.headers or ():
        if name in HEADERS:
            return bytes(value or b"").decode("ascii", "replace")
    if record.value is None or b'"traceparent"' not in record.value:
        return None
    try:
        return _traced.decode(record.value).traceparent
    except (MsgspecError, UnicodeError, RecursionError):
        return None  # what it is worth as an event, others decide
