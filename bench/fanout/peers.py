"""What stands beside the service: `python -m bench.fanout.peers KIND`, told by JSON lines.

`socket.send` and `floor` (our own way of sending) are bare loops: no WebSocket library, nothing
kept for a viewer but its socket. The message is the service's own.
"""

import asyncio
import gc
import json
import logging
import resource
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import websockets
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from bench.fanout.offers import NOBODY, offer, waypoint
from handlers.application import BACKLOG
from server import GC_THRESHOLDS
from tracking.live.sender import fastest_sender
from tracking.wire.messages import Message, location_update

# The answer to the one key that our viewers send (RFC 6455, section 1.3).
ACCEPT: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT_AT: Final = 4  # behind the frame's head

Publish = Callable[[Message], None]


def bare(listener: socket.socket, kind: str) -> Publish:
    """Accept, answer the handshake, and keep the socket."""
    sockets: list[socket.socket] = []
    asyncio.get_running_loop().add_reader(listener, _accept, listener, sockets)
    send = fastest_sender()

    def by_socket(message: Message) -> None:
        for each in sockets:
            each.send(message.frame)

    def by_ours(message: Message) -> None:
        send([each.fileno() for each in sockets], message.frame)

    return by_socket if kind == "socket.send" else by_ours


def _accept(listener: socket.socket, sockets: list[socket.socket]) -> None:
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.recv(65536)  # a small request on the same machine comes whole
    accepted.sendall(ACCEPT)
    accepted.setblocking(False)
    sockets.append(accepted)


def tornado(listener: socket.socket) -> Publish:
    """`write_message` to each, as its documentation shows."""
    viewers: set[WebSocketHandler] = set()

    class Handler(WebSocketHandler):
        def open(self, *_: str, **__: str) -> None:
            self.set_nodelay(True)
            viewers.add(self)

        def on_close(self) -> None:
            viewers.discard(self)

    HTTPServer(Application([("/.*", Handler)])).add_socket(listener)

    def publish(message: Message) -> None:
        text = message.frame[TEXT_AT:]
        for viewer in viewers:
            viewer.write_message(text)

    return publish


async def by_websockets(listener: socket.socket) -> Publish:
    """`websockets.broadcast`, without compression and keepalive, its fastest."""
    viewers: set[Any] = set()

    async def handler(viewer: Any) -> None:
        viewers.add(viewer)
        await viewer.wait_closed()
        viewers.discard(viewer)

    await websockets.serve(handler, sock=listener, compression=None, ping_interval=None)

    def publish(message: Message) -> None:
        websockets.broadcast(viewers, message.frame[TEXT_AT:].decode())

    return publish


async def serve(kind: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    match kind:
        case "write_message":
            publish = tornado(listener)
        case "websockets":
            publish = await by_websockets(listener)
        case _:
            publish = bare(listener, kind)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        job = json.loads(line)
        gc.collect()
        gc.freeze()
        number = await offer(
            lambda number, due: publish(location_update(waypoint(NOBODY, number + 1, due))),
            job["rate"],
            job["seconds"],
        )
        print(json.dumps({"published": number}), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(*GC_THRESHOLDS)  # as the service has them: the comparison is of the sending
    asyncio.run(serve(sys.argv[1]))
