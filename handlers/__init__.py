"""What clients may say to us: the URL tables."""

from tornado.routing import URLSpec

from handlers.api.accesses import AccessesHandler
from handlers.api.document import DOCUMENT, DocumentHandler
from handlers.api.exports import EXPORTS
from handlers.api.health import HealthHandler, MetricsHandler, ReadinessHandler
from handlers.api.ops import TripHandler, TripsHandler
from handlers.api.ops_metrics import OpsMetricsHandler
from handlers.api.receipts import JwksHandler, ReceiptHandler
from handlers.api.shared import SharedHandler
from handlers.api.shares import ShareHandler, ShareLinkHandler, SharesHandler
from handlers.api.summary import SummaryHandler
from handlers.api.tracks import RouteHandler, TrackHandler
from handlers.pages.pages import page_routes
from handlers.websocket.fleet_stream import FleetHandler
from handlers.websocket.handshake import StreamHandler
from handlers.websocket.shared import SharedStreamHandler
from tracking.settings import Settings

API = "/api/v1/tracking"
OPS = "/api/v1/ops"


def main_routes(settings: Settings) -> list[URLSpec]:
    """What is on SERVICE_PORT: the pages, and everything that has no other port."""
    is_split = settings.management_port is not None
    return [*page_routes(settings), *(public_routes() if is_split else routes())]


def routes() -> list[URLSpec]:
    """Everything but the pages, on one port."""
    return [*public_routes(), *management_routes()[1:]]


def public_routes() -> list[URLSpec]:
    """What clients and load balancers ask; the first match wins."""
    table = [
        (r"/ws/tracking/([^/]+)", StreamHandler),  # thousands come back at once
        (r"/ws/shared/([^/]+)", SharedStreamHandler),
        (r"/ws/fleet", FleetHandler),
        (r"/health", HealthHandler),
        (rf"{OPS}/metrics", OpsMetricsHandler),
        (rf"{OPS}/trips", TripsHandler),
        (rf"{OPS}/trips/([^/]+)", TripHandler),
        (rf"{API}/shared/([^/]+)", SharedHandler),
        (rf"{API}/([^/]+)", TrackHandler),
        (rf"{API}/([^/]+)/route", RouteHandler),
        (rf"{API}/([^/]+)/summary", SummaryHandler),
        (rf"{API}/([^/]+)/receipt", ReceiptHandler),
        *((rf"{API}/([^/]+)/export\.{each.ending}", each) for each in EXPORTS),
        (rf"{API}/([^/]+)/accesses", AccessesHandler),
        (rf"{API}/([^/]+)/share", ShareHandler),
        (rf"{API}/([^/]+)/shares", SharesHandler),
        (rf"{API}/([^/]+)/shares/([^/]+)", ShareLinkHandler),
    ]
    document = {"document": DOCUMENT.read_bytes()}
    return [
        URLSpec(r"/api/v1/openapi\.json", DocumentHandler, document),
        URLSpec(r"/\.well-known/jwks\.json", JwksHandler),
        *[URLSpec(pattern, handler) for pattern, handler in table],
    ]


def management_routes() -> list[URLSpec]:
    """What only machines of our own ask: on MANAGEMENT_PORT, if there is one."""
    return [
        URLSpec(r"/health", HealthHandler),
        URLSpec(r"/readiness", ReadinessHandler),
        URLSpec(r"/metrics", MetricsHandler),
    ]
