"""Is it alive, is it ready, how does it feel."""

from typing import Final

from handlers.base import BaseHandler

SERVICE: Final = "service-tracking"


class HealthHandler(BaseHandler):
    """Alive: the loop answers. Nothing else is asked, so that an outage restarts nobody."""

    route = "/health"

    def get(self) -> None:
        self.write_json({"status": "healthy", "service": SERVICE})


class ReadinessHandler(BaseHandler):
    """Ready: the database, its schema, Kafka and the workers do their part."""

    route = "/readiness"

    async def get(self) -> None:
        checks = await self.services.readiness()
        # "ok, the oldest …": a remark for people, no reason to send nobody here.
        ready = all(answer.partition(",")[0] == "ok" for answer in checks.values())
        self.set_status(200 if ready else 503)
        status = "ready" if ready else "not_ready"
        self.write_json({"status": status, "service": SERVICE, "checks": checks})


class MetricsHandler(BaseHandler):
    """Prometheus text format 0.0.4."""

    route = "/metrics"

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.write(self.services.metrics.exposition())
