"""What clients may say to us. `routes()` is the whole URL table."""

from tornado.routing import URLSpec

from handlers.api.document import DOCUMENT, DocumentHandler
from handlers.api.health import HealthHandler, MetricsHandler, ReadinessHandler
from handlers.api.shares import SharedHandler, ShareHandler
from handlers.api.tracks import RouteHandler, TrackHandler
from handlers.websocket.handshake import StreamHandler

API = "/api/v1/tracking"


def routes() -> list[URLSpec]:
    """The whole URL table; the first match wins."""
    table = [
        (r"/ws/tracking/([^/]+)", StreamHandler),  # thousands come back at once
        (r"/health", HealthHandler),
        (r"/readiness", ReadinessHandler),
        (r"/metrics", MetricsHandler),
        (rf"{API}/shared/([^/]+)", SharedHandler),
        (rf"{API}/([^/]+)", TrackHandler),
        (rf"{API}/([^/]+)/route", RouteHandler),
        (rf"{API}/([^/]+)/share", ShareHandler),
    ]
    document = {"document": DOCUMENT.read_bytes()}
    return [
        URLSpec(r"/api/v1/openapi\.json", DocumentHandler, document),
        *[URLSpec(pattern, handler) for pattern, handler in table],
    ]
