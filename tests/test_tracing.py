"""workers.tracing: spans from the events to the sockets, as a real OTLP receiver gets them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dev.private_server import free_port
from tests.programs import run_program
from tests.running import CHECKOUT, Platform, Trip, envelope, running_server, wait_until
from tests.served import stored_trip
from tests.test_roles import Company
from workers.kafka.batches import Batch
from workers.tracing import LOOKED_AT, MOST_LINKS, Tracing, traceparent_of


class Collector:
    """Takes spans, as a collector of OpenTelemetry does."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, str], Span]] = []  # with their resource
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for each in request.resource_spans:
                    resource = {a.key: a.value.string_value for a in each.resource.attributes}
                    for scope in each.scope_spans:
                        spans.extend((resource, span) for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def named(self, name: str) -> list[Span]:
        return [span for _, span in [*self.spans] if span.name == name]

    def linked(self, trace_id: str) -> Span:
        """The batch that has an event of this trace."""
        found = wait_until(
            lambda: [s for s in self.named("consume") if trace_id in links(s)], "linked"
        )
        return found[0]

    def below(self, parent: Span, name: str) -> tuple[dict[str, str], Span]:
        def find() -> list[tuple[dict[str, str], Span]]:
            spans = [each for each in [*self.spans] if each[1].name == name]
            return [each for each in spans if each[1].parent_span_id == parent.span_id]

        ((resource, span),) = wait_until(find, f"{name} below {parent.name}")
        assert span.trace_id == parent.trace_id
        return resource, span


def links(span: Span) -> set[str]:
    return {link.trace_id.hex() for link in span.links}


def trace() -> tuple[str, str]:
    """A trace of somebody else's: its id, and what tells of it."""
    trace_id = uuid4().hex
    return trace_id, f"00-{trace_id}-{uuid4().hex[:16]}-01"


@pytest.fixture
def company(database: dict[str, str], tmp_path: Path) -> Iterator[Company]:
    with ExitStack() as stack:
        yield Company(stack, database, tmp_path)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    collector.close()


def settings(collector: Collector) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def update(platform: Platform, trip: Trip, second: int, **extensions: str) -> dict[str, Any]:
    return envelope("runner.location_update", trip.update(second)) | extensions


def test_a_batch_is_a_trace_with_links_to_those_of_its_events(
    database: dict[str, str], collector: Collector, tmp_path: Path
) -> None:
    with running_server(database, tmp_path / "log", **settings(collector)) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        trip = stored_trip(server, platform, 1)
        (structured, first), (headed, second), (binary, third) = trace(), trace(), trace()
        topic = "runner.events"
        platform.send_raw(topic, json.dumps(update(platform, trip, 2, traceparent=first)).encode())
        headers = [("traceparent", second.encode())]
        platform.send_raw(topic, json.dumps(update(platform, trip, 3)).encode(), headers)
        headers = [("ce_type", b"runner.location_update"), ("ce_traceparent", third.encode())]
        platform.send_raw(topic, json.dumps(trip.update(4)).encode(), headers)
        for trace_id in (structured, headed, binary):
            batch = collector.linked(trace_id)
            assert batch.parent_span_id == b""
            assert batch.kind == Span.SPAN_KIND_CONSUMER
            _, stored = collector.below(batch, "store batch")
            resource, published = collector.below(batch, "publish")
            assert batch.start_time_unix_nano <= stored.start_time_unix_nano
            assert stored.end_time_unix_nano <= published.start_time_unix_nano
            assert resource["service.name"] == "service-tracking"
            assert resource["service.tracking.role"] == "all"
        platform.close()


def test_a_trace_goes_on_in_the_process_that_serves(company: Company, collector: Collector) -> None:
    company.start("ingest", **settings(collector))
    live = company.start("live", **settings(collector))
    wait_until(lambda: live.get("/readiness")[0] == 200, "ready")
    trip, (trace_id, traceparent) = Trip(), trace()
    token = live.token(uuid4(), "admin")
    # Only what somebody watches is decoded, and published.
    company.platform.accept(trip)
    wait_until(lambda: live.get(f"/api/v1/tracking/{trip.booking_id}", token)[0] == 200, "known")
    watching = threading.Event()
    watcher = threading.Thread(target=watch, args=(live.port, trip, token, watching))
    watcher.start()
    assert watching.wait(30)
    event = json.dumps(update(company.platform, trip, 1, traceparent=traceparent)).encode()
    company.platform.send_raw("runner.events", event)
    batch = collector.linked(trace_id)
    _, relayed = collector.below(batch, "relay")
    assert relayed.kind == Span.SPAN_KIND_PRODUCER
    resource, published = collector.below(relayed, "publish")
    assert (resource["service.tracking.role"], published.kind) == ("live", Span.SPAN_KIND_CONSUMER)
    watcher.join(30)


def watch(port: int, trip: Trip, token: str, watching: threading.Event) -> None:
    """A viewer of the plain stream, until its first message."""
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{port}/ws/tracking/{trip.booking_id}?token={token}"
    with connect(url) as socket:
        watching.set()
        socket.recv(timeout=30)


def test_links_are_bounded_however_large_a_batch_is(collector: Collector) -> None:
    tracing = Tracing(collector.url, "all", "group")
    traced = [(("traceparent", trace()[1].encode()),) for _ in range(100)]
    none = [()] * LOOKED_AT
    for headers in (traced, [*none, *traced], [*traced[:2], *traced[:2]]):
        records = [SimpleNamespace(headers=each, value=b"{}") for each in headers]
        with tracing.batch(Batch(records=records, size=len(records))):
            pass
    tracing.stop()
    assert tracing.wait(30)
    assert [len(span.links) for span in collector.named("consume")] == [MOST_LINKS, 0, 2]


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{}", b'{"traceparent": 7}', b'{"traceparent"', b'"traceparent"', b"\xff"],
)
def test_a_record_without_a_context_has_none(value: bytes | None) -> None:
    assert not traceparent_of(SimpleNamespace(headers=[("x", b"y")], value=value))


def test_a_context_that_is_none_is_no_link(collector: Collector) -> None:
    tracing = Tracing(collector.url, "all", "group")
    headers = [("traceparent", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01")]
    others = [[("ce_traceparent", b"\xff")], [("traceparent", None)]]
    records = [SimpleNamespace(headers=each, value=b"") for each in (headers, *others)]
    with tracing.batch(Batch(records=records)):
        pass
    tracing.stop()
    assert tracing.wait(30)
    assert [len(span.links) for span in collector.named("consume")] == [0]


def test_a_collector_that_is_away_holds_up_nothing(
    database: dict[str, str], tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with running_server(
        database, tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_BSP_SCHEDULE_DELAY="50"
    ) as server:
        platform = Platform(server.environ["KAFKA_BROKERS"], server.environ["KAFKA_TOPIC_PREFIX"])
        stored_trip(server, platform, 3)
        platform.close()
        assert server.stop() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_nothing_of_the_library_is_imported_without_the_setting() -> None:
    program = "import server, sys; sys.exit(any(m.startswith('opentel') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT).returncode == 0


def test_packages_that_are_missing_are_named_at_the_start(
    database: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "opentelemetry").mkdir()  # in front of what is installed, and empty
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    done = subprocess.run(
        [sys.executable, "server.py", "--check"], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, **database, **endpoint, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in done.stderr
    assert "requirements-otel.lock" in done.stderr


def test_check_tries_the_collector(database: dict[str, str], collector: Collector) -> None:
    good = run_program("server.py", "--check", environ={**database, **settings(collector)})
    assert "tracing: ok, somebody listens" in good.stdout, good.stderr
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    bad = run_program("server.py", "--check", environ={**database, **nobody})
    assert bad.returncode == 0
    assert "spans are lost until the collector is there: Connection refused" in bad.stdout
