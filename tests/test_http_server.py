"""handlers.http_server: a server that ends owes nobody an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from handlers.http_server import PatientServer

REQUEST = b"GET /%s HTTP/1.1\r\nHost: here\r\n\r\n"
LONG_S = 60.0


class Quick(RequestHandler):
    def get(self) -> None:
        self.write("answer")


class Slow(RequestHandler):
    def initialize(self, begun: asyncio.Event, may_end: asyncio.Event) -> None:
        self.begun, self.may_end = begun, may_end

    async def get(self) -> None:
        self.begun.set()
        await self.may_end.wait()
        self.write("answer")


class Scene:
    """A server, and events that hold its slow handler."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        events = {"begun": self.begun, "may_end": self.may_end}
        routes = [("/quick", Quick), ("/slow", Slow, events), ("/socket", WebSocketHandler)]
        self.server = PatientServer(Application(routes))  # type: ignore[arg-type]
        listening, self.port = bind_unused_port()
        self.server.add_socket(listening)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def accepted(self, number: int) -> None:
        while len(self.server._known) < number:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    made.server.stop()
    await made.server.close_all_connections()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LONG_S):
        return await reader.readuntil(b"answer")


@pytest.mark.gen_test
async def test_who_was_accepted_and_has_not_asked_yet_gets_an_answer() -> None:
    async with scene() as s:
        reader, writer = await s.connect()
        await s.accepted(1)
        s.server.stop()
        ending = asyncio.ensure_future(s.server.finish(LONG_S))
        await asyncio.sleep(0)
        assert not ending.done()
        writer.write(REQUEST % b"quick")
        assert b"Connection: close" in await answer(reader)
        assert await reader.read() == b""
        await ending
        writer.close()


@pytest.mark.gen_test
async def test_a_request_that_takes_its_time_gets_its_answer() -> None:
    async with scene() as s:
        reader, writer = await s.connect()
        writer.write(REQUEST % b"quick")
        await answer(reader)
        writer.write(REQUEST % b"slow")  # the second one of its connection
        await s.begun.wait()
        s.server.stop()
        ending = asyncio.ensure_future(s.server.finish(LONG_S))
        await asyncio.sleep(0)
        assert not ending.done()
        s.may_end.set()
        await answer(reader)
        await ending
        writer.close()


@pytest.mark.gen_test
async def test_between_two_requests_and_with_an_open_socket_nobody_is_waited_for() -> None:
    async with scene() as s:
        reader, writer = await s.connect()
        writer.write(REQUEST % b"quick")
        await answer(reader)
        viewer = await websocket_connect(f"ws://127.0.0.1:{s.port}/socket")
        s.server.stop()
        async with asyncio.timeout(LONG_S / 2):
            await s.server.finish(LONG_S)
        assert await reader.read() == b""
        viewer.close()
        writer.close()


@pytest.mark.gen_test
async def test_who_never_asks_is_closed_when_the_time_is_over() -> None:
    async with scene() as s:
        reader, writer = await s.connect()
        await s.accepted(1)
        s.server.stop()
        await s.server.finish(0.05)
        assert await reader.read() == b""
        writer.close()
