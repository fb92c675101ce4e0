"""handlers.api.ops_metrics: our own metrics as JSON, at a rate."""

import time
from uuid import uuid4

from tests.running import Server

PATH = "/api/v1/ops/metrics"


def test_it_has_our_own_metrics_and_readiness(server: Server) -> None:
    before = time.time() * 1000
    token = server.token(uuid4(), "admin")
    status, body, headers = server.get(PATH, token)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    data = body["data"]
    assert before - 1 <= data["at"] <= time.time() * 1000
    assert data["readiness"] == server.get("/readiness")[1]["checks"]
    metrics = {metric["name"]: metric for metric in data["metrics"]}
    exposed = server.get("/metrics")[1].decode()
    names = {line.split("{")[0].split(" ")[0] for line in exposed.splitlines()
             if line.startswith("tracking_")}  # fmt: skip
    kept = {name for name in names if not name.endswith(("_bucket", "_created"))}
    assert kept == metrics.keys() | {"tracking_http_requests_total"}  # of this very test
    assert metrics["tracking_build_info"]["type"] == "gauge"
    assert metrics["tracking_build_info"]["samples"][0]["value"] == 1
    delays = metrics["tracking_loop_delay_seconds_count"]
    assert delays["type"] == "histogram"
    assert delays["samples"][0]["labels"] == {}
    assert delays["samples"][0]["value"] > 0
    joins = metrics["tracking_database_connections_in_use"]["samples"]
    assert {sample["labels"]["pool"] for sample in joins} == {
        "requests",
        "reads",
        "links",
        "ingest",
        "transactions",
    }


def test_each_user_may_ask_at_a_rate(server: Server) -> None:
    eager, other = (server.token(uuid4(), "admin") for _ in range(2))
    statuses = [server.get(PATH, eager)[0] for _ in range(60)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses
    assert server.get(PATH, other)[0] == 200
