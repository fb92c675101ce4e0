"""Frames as clients send them, judged as RFC 6455 asks. IOLoop thread.

Tornado 6.6 accepts unmasked frames, and answers a broken one by closing the socket without a close
frame. Here each gets its close code; then our direction is shut down, and what still comes is read
until the client closes: a socket that is closed with unread bytes in it is reset, and a reset may
overtake the close frame.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from tornado.util import _websocket_mask
from tornado.websocket import WebSocketProtocol13

from tracking.wire import close_codes
from tracking.wire.close_codes import CloseCode

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
CLOSE: Final = 0x8
OPCODES: Final = frozenset({CONTINUATION, TEXT, 0x2, CLOSE, 0x9, 0xA})
FIN: Final = 0x80
RESERVED_BITS: Final = 0x70
MASKED: Final = 0x80
LONGEST_CONTROL: Final = 125
# Codes that an endpoint may send (section 7.4): by the RFC or IANA, by libraries, by applications.
SENDABLE: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
DISCARD_BYTES: Final = 64 << 10
# A client sends a pong now and then, and few messages: so many frames at once, then so many a
# second. A message of one-byte fragments is a flood, too.
FRAME_BURST: Final = 200
FRAME_RATE: Final = 20.0


class StrictProtocol(WebSocketProtocol13):
    """Tornado's protocol with its reading of frames replaced (`_receive_frame`, private there)."""

    # More than 30 attributes in an object's dict cost 1.3 kB: Tornado has 29.
    __slots__ = ("_allowance", "_counted_at", "_fragments", "_has_failed", "_opcode", "fail")

    fail: Callable[[CloseCode], None]

    def __init__(self, handler: Any, params: Any, fail: Callable[[CloseCode], None]) -> None:
        super().__init__(handler, False, params)
        self.fail = fail
        self._has_failed = False
        self._fragments: bytearray | None = None
        self._opcode = TEXT  # of the message that comes in fragments
        self._allowance, self._counted_at = float(FRAME_BURST), asyncio.get_running_loop().time()

    async def _receive_frame(self) -> None:
        if self._has_failed:
            await self._discard()
            return
        first, second = await self._read_bytes(2)
        length = await self._length(second & ~MASKED)
        problem = self._problem(first, second, length)
        if problem is not None:
            self._fail(problem)
            return
        mask = await self._read_bytes(4)
        data = _websocket_mask(mask, await self._read_bytes(length))
        self._dispatch(bool(first & FIN), first & 0x0F, data)

    async def _length(self, length: int) -> int:
        if length == 126:
            return int(struct.unpack("!H", await self._read_bytes(2))[0])
        if length == 127:
            return int(struct.unpack("!Q", await self._read_bytes(8))[0])
        return length

    def _problem(self, first: int, second: int, length: int) -> CloseCode | None:
        """What is wrong with a frame of this head."""
        opcode, before = first & 0x0F, len(self._fragments or b"")
        is_control = opcode >= CLOSE
        if first & RESERVED_BITS or opcode not in OPCODES or not second & MASKED:
            return close_codes.PROTOCOL_ERROR
        if is_control and (length > LONGEST_CONTROL or not first & FIN):
            return close_codes.PROTOCOL_ERROR
        if not is_control and (opcode == CONTINUATION) != (self._fragments is not None):
            return close_codes.PROTOCOL_ERROR
        if not is_control and before + length > self.params.max_message_size:
            return close_codes.TOO_BIG
        return None if self._may_send() else close_codes.TOO_MANY

    def _may_send(self) -> bool:
        now = asyncio.get_running_loop().time()
        earned = (now - self._counted_at) * FRAME_RATE
        self._allowance = min(self._allowance + earned, float(FRAME_BURST)) - 1
        self._counted_at = now
        return self._allowance >= 0

    def _dispatch(self, is_final: bool, opcode: int, data: bytes) -> None:
        """A whole message is handed on; control frames may stand between its fragments."""
        if opcode < CLOSE:
            if opcode != CONTINUATION:
                self._opcode, self._fragments = opcode, bytearray()
            assert self._fragments is not None
            self._fragments += data
            if not is_final:
                return
            opcode, data, self._fragments = self._opcode, bytes(self._fragments), None
        problem = _payload_problem(opcode, data)
        if problem is not None:
            self._fail(problem)
        else:
            self._handle_message(opcode, data)

    def _fail(self, code: CloseCode) -> None:
        self._has_failed = True
        self.fail(code)
        if self.stream.closed() or self.stream.writing():
            return  # the close frame waits behind the rest
        try:
            self.stream.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._abort()  # the client has gone already

    async def _discard(self) -> None:
        """Until the client closes, or Tornado gives up waiting for that: five seconds."""
        self._wire_bytes_in += len(await self.stream.read_bytes(DISCARD_BYTES, partial=True))


def _payload_problem(opcode: int, data: bytes) -> CloseCode | None:
    """Text is UTF-8; a close frame is empty, or a code and a reason."""
    if opcode == CLOSE and data:
        if len(data) < 2 or int.from_bytes(data[:2]) not in SENDABLE:
            return close_codes.PROTOCOL_ERROR
        data = data[2:]
    if opcode in (TEXT, CLOSE):
        try:
            data.decode()
        except UnicodeDecodeError:
            return close_codes.BAD_TEXT
    return None
