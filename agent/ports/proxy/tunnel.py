"""Bytes in both directions once a client and an application have agreed on a protocol.

Nothing is read into them: subprotocols, extensions, pings and close codes are between the
two ends. Whichever end is slow holds the other back, and one that has said its last word
may still listen.
"""

import asyncio
import contextlib

from agent.ports.proxy.upstream import Upstream


class Tunnel:
    """A client and an application, joined; takes what the client sends.

    Args:
        client: The client's transport.
        upstream: The connection to the application, which has answered 101.
    """

    def __init__(self, client: asyncio.Transport, upstream: Upstream) -> None:
        self._client = client
        self._upstream = upstream
        self._client_ended = False
        self._upstream_ended = False

    async def join(self) -> None:
        """Go on until both ends have said their last word, or one is lost."""
        self._upstream.on_room = self._let_client
        try:
            await self._upstream.pour(ToClient(self))
        finally:
            self._upstream.on_room = None

    def cut(self) -> None:
        """End it at once: the client is gone, or the agent stops."""
        self._upstream.abort()
        self._client.abort()

    def take(self, data: bytes) -> None:
        """Hand a piece on to the application."""
        self._upstream.write(data)

    def take_end(self) -> None:
        """Tell the application that the client sends no more."""
        self._client_ended = True
        _end(self._upstream.transport)
        self._close_if_over()

    def answer(self, data: bytes) -> None:
        """Hand a piece on to the client."""
        if not self._client.is_closing():
            self._client.write(data)

    def answer_end(self) -> None:
        """Tell the client that the application sends no more."""
        if not self._upstream_ended:
            self._upstream_ended = True
            _end(self._client)
            self._close_if_over()

    def _close_if_over(self) -> None:
        if self._client_ended and self._upstream_ended:
            self._upstream.close()

    def _let_client(self, has_room: bool) -> None:
        """Let the client send, or have it wait for the application."""
        if self._client.is_closing():
            return
        if has_room:
            self._client.resume_reading()
        else:
            self._client.pause_reading()


class ToClient:
    """Takes what the application sends.

    Args:
        tunnel: Where it goes through.
    """

    def __init__(self, tunnel: Tunnel) -> None:
        self.take = tunnel.answer
        self.take_end = tunnel.answer_end


def _end(transport: asyncio.Transport | None) -> None:
    """Say that no more comes, after what is on its way."""
    if transport is not None and not transport.is_closing():
        # It may be lost already, which the transport learns a moment later.
        with contextlib.suppress(OSError):
            transport.write_eof()
