"""Tornado's server, which at the end closes no connection whose request it owes an answer.

IOLoop thread.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)


class PatientServer(HTTPServer):
    """Knows whom it owes something: a request has come, or a first one is on its way.

    The others are between two requests; closing those is what their clients have to expect.
    """

    def initialize(self, *arguments: Any, **options: Any) -> None:
        super().initialize(*arguments, **options)
        self._known: set[object] = set()
        self._owed: set[object] = set()
        self._paid = asyncio.Event()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """A connection was accepted, or has got its answer and may bring the next request."""
        if server_conn in self._known:
            self._pay(server_conn)
        else:
            self._known.add(server_conn)
            self._owed.add(server_conn)
        return _Request(super().start_request(server_conn, request_conn), self._owed, server_conn)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self._known.discard(server_conn)
        self._pay(server_conn)

    def _pay(self, server_conn: object) -> None:
        self._owed.discard(server_conn)
        if not self._owed:
            self._paid.set()

    def stop(self) -> None:
        """Accept no more; each answer is the last one of its connection, and says so."""
        super().stop()
        self.conn_params.no_keep_alive = True

    async def finish(self, at_most_s: float) -> None:
        """Returns when everybody has an answer, or after that time, with all connections closed."""
        self._paid.clear()
        if self._owed:
            try:
                await asyncio.wait_for(self._paid.wait(), at_most_s)
            except TimeoutError:
                pass  # who sends no request, or one that takes too long, comes again elsewhere
        await self.close_all_connections()


class _Request(HTTPMessageDelegate):
    """Tells when its head has come."""

    def __init__(
        self, delegate: HTTPMessageDelegate, owed: set[object], server_conn: object
    ) -> None:
        self._delegate = delegate
        self._owed = owed
        self._server_conn = server_conn

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._owed.add(self._server_conn)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()
