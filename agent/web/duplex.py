"""A websocket for bytes in both directions, whose user minds pings and pace.

Pongs go out even while a client takes no output, so that its input (an interrupt, say)
still arrives; sending waits for the client once its transport is full, and a frame is
always sent as a whole: cancelling a send never spoils the stream.
"""

import struct
import time
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import WSMsgType

from agent.web.websockets import (
    FRAME_BYTES,
    WEBSOCKETS,
    check_upgrade,
    reason_bytes,
)

BINARY = 0x82
"""The first byte of a message in one frame: FIN, and the opcode."""

SHORT = struct.Struct(">BB")
LONG = struct.Struct(">BBH")
"""Heads of frames of less than 126 bytes and of more; `FRAME_BYTES` is below 65536."""

PONG_ROOM_BYTES = 256 * 1024
"""With so much waiting to be sent, a client that only pings is read no further."""


class Duplex:
    """One open websocket.

    Args:
        request: Was upgraded.
        socket: Was made by `accept_raw`.
        writer: What preparing it gave.

    Attributes:
        heard: When the client gave the last sign of life, by the monotonic clock.
    """

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        writer: AbstractStreamWriter,
    ) -> None:
        self._request = request
        self._writer = writer
        self._sent = 0
        self.socket = socket
        self.heard = time.monotonic()

    async def receive(self) -> bytes | None:
        """Return the next message, text as its UTF-8 bytes; None when it is closed."""
        while True:
            message = await self.socket.receive()
            self.heard = time.monotonic()
            match message.type:
                case WSMsgType.BINARY:
                    return bytes(message.data)
                case WSMsgType.TEXT:
                    return str(message.data).encode()
                case WSMsgType.PING:
                    await self._pong(message.data)
                case WSMsgType.PONG:
                    """A sign of life."""
                case _:
                    return None

    async def _pong(self, data: bytes) -> None:
        await self.socket.pong(data)
        if self._waiting_bytes() > PONG_ROOM_BYTES:
            await self.room()

    def send(self, data: bytes) -> None:
        """Send binary messages of at most `FRAME_BYTES`; `room` waits for the client.

        Made into frames here, because aiohttp's two writes for each of them are most of
        what a flooding terminal costs.

        Raises:
            ConnectionResetError: The client is gone.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing() or self.socket.closed:
            raise ConnectionResetError("the client is gone")
        self._sent += len(data)
        if len(data) <= FRAME_BYTES:
            transport.write(_head(len(data)) + data)
            return
        whole = memoryview(data)
        frames = [
            whole[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES)
        ]
        transport.write(
            b"".join(part for each in frames for part in (_head(len(each)), each))
        )

    async def room(self) -> None:
        """Wait until the client has taken up most of what it was sent.

        Raises:
            ConnectionResetError: The client is gone.
        """
        await self._writer.drain()

    async def tell(self, text: str) -> None:
        """Send a text message.

        Raises:
            ConnectionResetError: The client is gone.
        """
        await self.socket.send_str(text)

    async def send_text(self, text: bytes) -> None:
        """Send a text message, and wait for the client once its transport is full.

        Raises:
            ConnectionResetError: The client is gone.
        """
        await self.socket.send_frame(text, WSMsgType.TEXT)
        await self.room()

    async def ping(self) -> None:
        """Send a ping, which nothing waits for the answer of."""
        await self.socket.ping()

    async def close(self, code: int, reason: str) -> None:
        """Close it, once all that was sent has left; wait shortly for the client's word."""
        await self.socket.close(code=code, message=reason_bytes(reason))

    def abort(self) -> None:
        """Drop the connection."""
        if self._request.transport is not None:
            self._request.transport.abort()

    @property
    def moved(self) -> int:
        """How many bytes of output have left for the client's side."""
        return self._sent - self._waiting_bytes()

    def _waiting_bytes(self) -> int:
        transport = self._request.transport
        return 0 if transport is None else transport.get_write_buffer_size()


def _head(size: int) -> bytes:
    """Return what goes before a whole binary message (RFC 6455 §5.2), not masked."""
    return SHORT.pack(BINARY, size) if size < 126 else LONG.pack(BINARY, 126, size)


class Door:
    """An upgrade that is proper and has not been answered yet.

    Until `open` a failure is still told by plain HTTP. To be used with `async with`, which
    ends with the websocket closed.

    Args:
        request: Asks for the upgrade.
        message_bytes: Longer messages close the websocket with 1009.

    Raises:
        InvalidRequestError: It does not ask for an upgrade, or not properly.
    """

    def __init__(self, request: web.Request, message_bytes: int) -> None:
        check_upgrade(request)
        self._request = request
        self._message_bytes = message_bytes
        self._socket: web.WebSocketResponse | None = None

    async def open(self) -> Duplex:
        """Answer the upgrade."""
        sockets = self._request.app[WEBSOCKETS]
        self._socket = await sockets.accept_raw(self._request, self._message_bytes)
        writer = await self._socket.prepare(self._request)
        return Duplex(self._request, self._socket, writer)

    @property
    def response(self) -> web.WebSocketResponse:
        """The answer, once there is one."""
        assert self._socket is not None  # noqa: S101 - for the types
        return self._socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._request.app[WEBSOCKETS].forget(self._socket)
