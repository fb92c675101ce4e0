"""`GET /api/v1/ops/metrics`: our own metrics and readiness as JSON, for the status page."""

import time

from handlers.api.ops import admin_of
from handlers.base import BaseHandler


class OpsMetricsHandler(BaseHandler):
    """Admins only, and each of them at a rate: every answer costs the loop some milliseconds."""

    route = "/api/v1/ops/metrics"

    async def get(self) -> None:
        principal = await admin_of(self)
        self.services.limits.count_status(principal.user_id)
        readiness = await self.services.readiness()
        self.set_header("Cache-Control", "no-store")
        metrics = self.services.metrics.samples()
        at = time.time_ns() // 1_000_000
        self.answer({"at": at, "metrics": metrics, "readiness": readiness})
