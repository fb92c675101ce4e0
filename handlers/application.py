"""The Tornado application and its HTTP server: limits, and what Tornado does not do by itself."""

import logging
import resource
import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.routing import URLSpec
from tornado.web import Application

from handlers.base import NotFoundHandler, log_request
from handlers.http_server import PatientServer
from handlers.listener import Listener
from handlers.services import ManagementServices
from tracking.tokens import MAX_TOKEN_LENGTH

log = logging.getLogger("tracking.server")

MAX_BODY_BYTES: Final = 64 << 10
# A request may hold its token twice, in a header and in its query.
MAX_HEADER_BYTES: Final = 2 * MAX_TOKEN_LENGTH + (16 << 10)
# The apps send nothing; a refreshed token is the largest message that makes sense.
MAX_MESSAGE_BYTES: Final = 2 * MAX_TOKEN_LENGTH
# A connection that does not finish its request's head in so long is not a client.
IDLE_TIMEOUT_S: Final = 30

BACKLOG: Final = 4096


class TrackingApplication(Application):
    """Knows the absolute form of a request's target, too (RFC 9112, section 3.2.2)."""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        uri = request.uri or ""
        if uri.lower().startswith(("http://", "https://")):
            target = urlsplit(uri)
            request.path = target.path or "/"
            request.uri = request.path + (f"?{target.query}" if target.query else "")
        return super().find_handler(request, **kwargs)


def http_server(table: Sequence[URLSpec], services: ManagementServices) -> PatientServer:
    """A server for these routes; it has no socket yet."""
    application = TrackingApplication(
        list(table),
        services=services,
        default_handler_class=NotFoundHandler,
        log_function=log_request,
        compress_response=True,
        websocket_max_message_size=MAX_MESSAGE_BYTES,
    )
    return PatientServer(
        application,
        # Tornado believes X-Real-Ip and X-Scheme, too: `client_address` reads what is to be read.
        xheaders=False,
        idle_connection_timeout=IDLE_TIMEOUT_S,
        body_timeout=IDLE_TIMEOUT_S,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=MAX_BODY_BYTES,
        max_buffer_size=MAX_BODY_BYTES * 2,
    )


def descriptors() -> int:
    """How many this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listen(
    server: HTTPServer,
    address: str,
    port: int,
    what: str,
    inherited: Sequence[socket.socket] = (),
) -> None:
    """Accept connections on all addresses of that name; OSError, with the port, if it is taken.

    What a supervisor has opened already takes the place of address and port: its queue stays while
    processes change.
    """
    try:
        bound = list(inherited) or bind_sockets(port, address or None, backlog=BACKLOG)
    except OSError as error:
        text = f"cannot listen on port {port}: {error.strerror}"
        raise OSError(error.errno, text) from None
    sockets = [Listener.of(each, descriptors()) for each in bound]
    server.add_sockets(sockets)
    for each in sockets:
        name = each.getsockname()
        if each.family == socket.AF_UNIX:
            log.info("%s on %s", what, name)
        else:
            log.info("%s on %s port %d", what, *name[:2])
