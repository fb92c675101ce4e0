"""Writes deploy/grafana/dashboard.json: `python -m dev.dashboard`, from the panels below."""

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DASHBOARD: Final = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboard.json"
WIDTH: Final = 24
HEIGHT: Final = 8
ACROSS: Final = 3  # panels beside each other
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN: Final = 'instance=~"$instance"'
INTERVAL: Final = "$__rate_interval"


@dataclass(frozen=True)
class Panel:
    """One drawing; `queries` are pairs of PromQL and its legend."""

    title: str
    unit: str  # Grafana's name
    queries: tuple[tuple[str, str], ...]
    about: str = ""


def now(name: str, by: str = "instance", how: str = "sum") -> tuple[str, str]:
    """A gauge."""
    return f"{how} by ({by}) (tracking_{name}{{{CHOSEN}}})", told(name, by)


def rate(name: str, by: str = "instance") -> tuple[str, str]:
    """A counter, a second."""
    return f"sum by ({by}) (rate(tracking_{name}_total{{{CHOSEN}}}[{INTERVAL}]))", told(name, by)


def quantiles(name: str, *shares: float, by: str = "") -> Iterator[tuple[str, str]]:
    for share in shares:
        labels = f"le, {by}" if by else "le"
        buckets = f"sum by ({labels}) (rate(tracking_{name}_bucket{{{CHOSEN}}}[{INTERVAL}]))"
        shown = f"p{share * 100:g} {legend(by)}".strip()
        yield f"histogram_quantile({share}, {buckets})", shown


def told(name: str, by: str) -> str:
    return f"{name.replace('_', ' ')} {legend(by)}"


def legend(by: str) -> str:
    return " ".join(f"{{{{{name.strip()}}}}}" for name in by.split(",") if name)


def panel(title: str, unit: str, *queries: tuple[str, str], about: str = "") -> Panel:
    return Panel(title, unit, queries, about)


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "At a glance": (
        panel("Up", "none", (f'up{{job="service-tracking", {CHOSEN}}}', "{{instance}}")),
        panel("Viewers", "short", now("subscribers"), now("fleet_viewers")),
        panel("From Kafka to the socket", "s", *quantiles("delivery_duration_seconds", 0.5, 0.99)),
        panel("Events by outcome", "cps", rate("events", "outcome")),
        panel("Behind Kafka", "short", now("consumer_lag_records", "topic")),
        panel("Version", "none", now("build_info", "version", "count"),
              about="Two during an upgrade, one at other times."),
    ),
    "Viewers": (
        panel("Rooms", "short", now("rooms"), now("fleet_trips")),
        panel("Handshakes", "cps", rate("joins", "protocol, outcome")),
        panel("Resumes", "cps", rate("resumes", "recovered"),
              about="Many that did not recover are normal after a restore only."),
        panel("Closed by us", "cps", rate("connections_closed", "code")),
        panel("Messages to sockets", "cps", rate("messages_sent"), rate("messages_replaced")),
        panel("Slow, catching up", "short", now("slow_viewers"), now("viewers_catching_up")),
        panel("Points of the past", "cps", rate("backfill_points")),
        panel("Errors of ours", "cps", rate("live_errors", "part"), about="Not 0: a bug."),
        panel("Keys fetched", "cps", rate("jwks_fetches", "outcome")),
    ),
    "Intake": (
        panel("Events by type", "cps", rate("events", "type")),
        panel("Waypoints stored", "cps", rate("waypoints_stored")),
        panel("Transactions", "s", *quantiles("batch_duration_seconds", 0.5, 0.99)),
        panel("Records in one", "short", *quantiles("batch_records", 0.5, 0.99)),
        panel("Oldest batch that waits", "s", now("oldest_unstored_batch_age_seconds", how="max")),
        panel("Tried again", "cps", rate("batch_retries"), rate("publish_failures")),
        panel("Since poll() returned", "s", (
            f"time() - tracking_consumer_last_poll_timestamp_seconds{{{CHOSEN}}}",
            "{{instance}}")),
        panel("Held back by a producer", "s", now("open_transaction_seconds", "topic", "max")),
        panel("Stopped by a bug", "none", now("intake_stopped", how="max")),
        panel("Refused", "cps", rate("updates_refused", "reason")),
        panel("Flagged", "cps", rate("waypoints_flagged", "verdict")),
        panel("Details dropped", "cps", rate("details_dropped", "field")),
        panel("Parked updates", "short", now("parked_updates", how="max")),
        panel("... adopted, refused", "cps", rate("parked_updates_adopted"),
              rate("parked_updates_refused")),
        panel("Dead letters", "cps", rate("dead_letters")),
        panel("... not taken by Kafka", "short", now("dead_letters_waiting")),
        panel("Routes, partitions gone for their age", "cps", rate("expired_routes"),
              rate("dropped_partitions")),
        panel("What began before has no route", "dateTimeAsIso",
              (f"1000 * max(tracking_retention_floor_timestamp_seconds{{{CHOSEN}}})", "floor")),
        panel("... and is too old by", "s", now("retention_behind_seconds", how="max")),
        panel("Maintenance that failed", "cps", rate("maintenance_errors", "task")),
        panel("Outgoing events", "cps", rate("published_events", "type")),
        panel("Oldest outgoing event", "s", now("outbox_oldest_age_seconds", "job", "max")),
    ),
    "Between the processes": (
        panel("Processes that store", "short", now("ingest_processes")),
        panel("Since one was heard", "s", now("ingest_silence_seconds", how="max")),
        panel("Changes sent, not taken", "cps", rate("relay_changes_sent"),
              rate("relay_changes_dropped")),
        panel("Bundles, changes received", "cps", rate("relay_bundles_received"),
              rate("relay_changes_received")),
        panel("Partitions read", "short", now("relay_partitions_read")),
        panel("Records forwarded, not taken", "cps", rate("records_forwarded"),
              rate("records_not_forwarded")),
        panel("Gaps, rooms healed", "cps", rate("gaps"), rate("rooms_healed")),
        panel("Records that are none of ours", "cps", rate("relay_records_unreadable")),
    ),
    "Requests and process": (
        panel("Requests", "reqps", rate("http_requests", "route, method, status")),
        panel("... take", "s", *quantiles("http_request_duration_seconds", 0.99, by="route")),
        panel("Exports", "cps", rate("exports", "format, outcome")),
        panel("... take", "s", *quantiles("export_duration_seconds", 0.5, 0.99, by="format")),
        panel("Arrivals in and out of the ETA's band", "cps",
              rate("eta_covered", "method, covered")),
        panel("The ETA router is asked", "cps", rate("eta_router_requests", "outcome")),
        panel("... takes", "s", *quantiles("eta_router_request_seconds", 0.5, 0.99)),
        panel("... is not asked", "short", now("eta_router_open", "instance")),
        panel("Replays", "short", now("replays", "instance")),
        panel("... send", "cps", rate("replay_frames", "instance")),
        panel("Access log: rows, and reads in none", "cps", rate("accesses_logged"),
              rate("accesses_lost")),
        panel("Asked of the database", "cps", rate("database_calls", "function")),
        panel("Connections in use", "short", now("database_connections_in_use", "instance, pool")),
        panel("CPU by thread", "percentunit", rate("thread_cpu_seconds", "instance, thread")),
        panel("The loop is late", "s", *quantiles("loop_delay_seconds", 0.5, 0.99, by="instance")),
        panel("Memory", "bytes", (f"process_resident_memory_bytes{{{CHOSEN}}}", "{{instance}}")),
        panel("Descriptors", "short", (f"process_open_fds{{{CHOSEN}}}", "{{instance}}")),
        panel("Since the start", "s", (f"time() - process_start_time_seconds{{{CHOSEN}}}",
                                       "{{instance}}")),
    ),
}  # fmt: skip


def expressions() -> list[str]:
    return [query for row in ROWS.values() for each in row for query, _ in each.queries]


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": "service-tracking",
        "title": "service-tracking",
        "tags": ["service-tracking"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            {"name": "instance", "type": "query", "datasource": SOURCE, "includeAll": True,
             "multi": True, "refresh": 2, "allValue": ".*",
             "current": {"text": "All", "value": "$__all"},
             "query": 'label_values(tracking_build_info, instance)'},
        ]},
        "panels": list(_placed()),
    }  # fmt: skip


def _placed() -> Iterator[dict[str, Any]]:
    top, number = 0, 0
    for title, row in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False,
               "gridPos": place, "panels": []}  # fmt: skip
        top += 1
        for index, each in enumerate(row):
            number += 1
            width = WIDTH // ACROSS
            x, y = index % ACROSS * width, top + index // ACROSS * HEIGHT
            yield _drawn(each, number, {"x": x, "y": y, "w": width, "h": HEIGHT})
        top += -(-len(row) // ACROSS) * HEIGHT


def _drawn(each: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": letter, "expr": query, "legendFormat": name, "datasource": SOURCE}
        for letter, (query, name) in zip(string.ascii_uppercase, each.queries, strict=False)
    ]
    return {
        "id": number, "type": "timeseries", "title": each.title, "description": each.about,
        "gridPos": place, "datasource": SOURCE, "targets": targets,
        "fieldConfig": {"defaults": {"unit": each.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
    }  # fmt: skip


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
