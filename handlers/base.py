"""What all requests have in common: identity, access, errors, CORS, one log line."""

import logging
import re
import secrets
import socket
import struct
from collections.abc import Awaitable
from functools import cached_property
from typing import Any, Final
from uuid import UUID

import msgspec
from tornado.web import HTTPError, RequestHandler

from handlers.client_address import client_address, network_of
from handlers.rejections import BUG, rejection_of
from handlers.services import Services
from tracking.domain.access import Principal, may_watch
from tracking.errors import InvalidRequest, InvalidToken, NotFound, TrackingError
from tracking.store.read.tracks import booking_access

log = logging.getLogger("tracking.requests")

# The outage of a database that restarts; a client that waits so long finds it back.
RETRY_AFTER_S: Final = 2
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Asked every few seconds by machines.
PROBES: Final = ("/health", "/readiness", "/metrics")
METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")
# A share link's path is its token: the page, its data and its socket.
SHARE_TOKEN: Final = re.compile(r"((?:^/s|/shared)(?:/|%2[Ff]))[^/]+")
# SO_LINGER of no seconds: what is closed then is reset.
RESET: Final = struct.pack("ii", 1, 0)
SUBPROTOCOL_TOKEN: Final = "bearer."  # noqa: S105 - what stands before a token


class BaseHandler(RequestHandler):
    """Handlers raise TrackingError; this turns it into the answer."""

    route: str  # as metrics and the OpenAPI document name it
    # What the caller may read across origins.
    EXPOSED: Final = (
        "Content-Disposition, ETag, Retry-After, X-Request-ID, X-Track-Epoch, X-Track-Seq"
    )

    @property
    def services(self) -> Services:
        return self.application.settings["services"]  # type: ignore[no-any-return]

    @cached_property
    def request_id(self) -> str:
        """The gateway's, or one of our own."""
        given = self.request.headers.get("X-Request-ID", "")
        return given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

    def set_default_headers(self) -> None:
        """Called again for an error, which starts from nothing."""
        self.clear_header("Server")
        self.set_header("X-Request-ID", self.request_id)
        self.set_header("X-Content-Type-Options", "nosniff")
        allowed = self.services.settings.allowed_origins
        origin = self.request.headers.get("Origin", "")
        if allowed:
            self.set_header("Vary", "Origin")
        if origin and (origin in allowed or "*" in allowed):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", self.EXPOSED)

    @cached_property
    def client_address(self) -> str:
        """The caller's, as far as proxies are trusted to tell it."""
        return client_address(
            self.request.remote_ip or "",
            self.request.headers.get_list("X-Forwarded-For"),
            self.services.settings.trusted_proxies,
        )

    def prepare(self) -> None:
        """Raises TooManyRequests, before anything is looked at."""
        if self.route not in PROBES:
            self.services.limits.count_request(network_of(self.client_address))

    def head(self, *arguments: str) -> Awaitable[None] | None:
        """As GET; Tornado leaves the body out."""
        return self.get(*arguments)

    def options(self, *_: str) -> None:
        """CORS preflight."""
        self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed_methods()))
        self.set_header(
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, If-None-Match, X-Request-ID",
        )
        self.set_header("Access-Control-Max-Age", "3600")
        self.set_status(204)

    @classmethod
    def allowed_methods(cls) -> list[str]:
        """The methods that this handler itself has."""
        names = ("get", "post", "patch", "delete")
        found = [n for n in names if getattr(cls, n) is not getattr(RequestHandler, n)]
        return [n.upper() for n in (["get", "head", *found[1:]] if "get" in found else found)]

    def token(self) -> str:
        """The one access token of the request, from any of the three places."""
        found = set()
        scheme, _, header = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            found.add(header.strip())
        found |= set(self.get_query_arguments("token"))
        for protocol in self.subprotocols():
            if protocol.startswith(SUBPROTOCOL_TOKEN):
                found.add(protocol.removeprefix(SUBPROTOCOL_TOKEN))
        found.discard("")  # `?token=` beside a header says nothing
        if len(found) != 1:
            raise InvalidToken("no access token" if not found else "two different access tokens")
        return found.pop()

    def subprotocols(self) -> list[str]:
        """What a WebSocket client offers, tokens included."""
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        return [protocol.strip() for protocol in offered.split(",") if protocol.strip()]

    async def authorize(self, text: str) -> tuple[Principal, UUID]:
        """Token, id, access, in this order; an absent booking and another's are the same."""
        principal = await self.services.tokens.principal_once_renewed(self.token())
        booking_id = uuid_of(text, "booking id")
        if not may_watch(principal, await self.services.ask(booking_access, booking_id)):
            raise NotFound("no such booking")
        return principal, booking_id

    def whole_number(self, name: str, default: int) -> int:
        """A query parameter, or InvalidRequest."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise InvalidRequest(f"{name} is not a whole number")
        return int(text)

    def answer(self, data: object, status: int = 200) -> None:
        """The envelope that the apps expect."""
        self.set_status(status)
        self.write_json({"success": True, "data": data})

    def write_json(self, value: object) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(msgspec.json.encode(value))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Expected rejections are not worth a traceback; their status is in the access log."""
        if not isinstance(value, TrackingError | HTTPError):
            log.error("request %s failed", self.request_id, exc_info=(typ, value, tb))

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, TrackingError):
            status_code = rejection_of(error).status
        if self._headers_written:
            self.cut()
            return
        super().send_error(status_code, **kwargs)

    def cut(self) -> None:
        """Half an answer is out: without its end it must not look like a whole one.

        A reset says so to HTTP/1.0, too, where the end of a connection is the end of an answer.
        """
        stream = self.detach()
        if not stream.closed():
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            stream.close()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        is_known = rejection_of(error) is not BUG
        self.reject(status_code, str(error) if is_known else self._reason)

    def reject(self, status: int, message: str) -> None:
        """The error body that the apps show."""
        self.set_status(status)
        if status == 401:
            self.set_header("WWW-Authenticate", 'Bearer realm="service-tracking"')
        if status in (429, 503):
            self.set_header("Retry-After", str(RETRY_AFTER_S))
        if status == 405:
            self.set_header("Allow", ", ".join([*self.allowed_methods(), "OPTIONS"]))
        self.write_json({"success": False, "error": message})
        self.finish()

    def on_finish(self) -> None:
        route = self.route
        status = self.get_status()
        seconds = self.request.request_time()
        metrics = self.services.metrics
        metrics.requests.labels(route, self._known_method(), status).inc()
        metrics.request_seconds.labels(route).observe(seconds)

    def _known_method(self) -> str:
        """A label must not be the caller's choice."""
        method = self.request.method or ""
        return method if method in METHODS else "other"


def uuid_of(text: str, what: str) -> UUID:
    """Raises InvalidRequest for anything but the canonical form, in either case."""
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text.lower():
        raise InvalidRequest(f"the {what} is not a UUID")
    return found


def log_request(handler: RequestHandler) -> None:
    """One line a request, without its query: that may hold a token."""
    request = handler.request
    level = logging.WARNING if handler.get_status() >= 500 else logging.INFO
    if request.path in PROBES:
        level = logging.DEBUG
    log.log(
        level,
        "%s %s %s %.1f ms",
        handler.get_status(),
        request.method,
        _without_secrets(request.path),
        1000 * request.request_time(),
        extra={"request_id": getattr(handler, "request_id", "-")},
    )


def _without_secrets(path: str) -> str:
    return SHARE_TOKEN.sub(r"\1***", path)


class NotFoundHandler(BaseHandler):
    """Every path that is not in the table."""

    route = "unmatched"

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)
