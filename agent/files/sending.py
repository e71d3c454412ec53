"""Puts file content on a connection without copying it through this process.

The kernel sends from the file to the socket (`man 2 sendfile`), on a duplicate of the
connection's descriptor, in a worker thread, for as long as the client takes it quickly.
When the client is slow the thread is given back, and the loop waits until the socket
takes more: any number of slow clients hold no thread.
"""

import asyncio
import errno
import os
import select
import time
from collections.abc import Awaitable, Callable

from agent.files.content import READ_BYTES, Content
from agent.files.threads import Threads

_CANNOT_SEND = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

TURN_S = 0.5
"""Time for which one client may hold a thread before others get their turn."""
CALL_BYTES = 8 * 1024 * 1024
"""Sent by one call, so that a turn can end in time."""
PATIENCE_MS = 20
"""Time for which a thread waits for a socket that has just taken a lot."""
FAST_BYTES = 256 * 1024
"""What a client must have taken since the last wait for the thread to wait for it."""
STALL_LIMIT_S = 600.0
"""Time for which a client may take nothing at all before it counts as gone."""


class ShortFileError(Exception):
    """The file ended before the length that was promised for it."""


class Wire:
    """The sending side of one connection, the headers of the answer already written.

    Args:
        transport: The connection.
        write: Writes bytes to it, waiting when the client is slow.
        threads: Where sending happens.
        stall_limit_s: Time for which the client may take nothing.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        write: Callable[[bytes], Awaitable[None]],
        threads: Threads,
        *,
        stall_limit_s: float = STALL_LIMIT_S,
    ) -> None:
        self._transport = transport
        self._write = write
        self._threads = threads
        self._stall_limit_s = stall_limit_s

    async def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionResetError: The client left, or takes nothing any more.
        """
        try:
            async with asyncio.timeout(self._stall_limit_s):
                await self._write(data)
        except TimeoutError as error:
            self._transport.abort()
            raise ConnectionResetError("the client takes nothing any more") from error

    async def send_file(self, content: Content, start: int, size_bytes: int) -> None:
        """Send `size_bytes` of a file from `start`, never more and never padding.

        Raises:
            ShortFileError: The file ended before.
            ConnectionResetError: The client left, or takes nothing any more.
        """
        fd = os.dup(self._transport.get_extra_info("socket").fileno())
        try:
            await self._flush(fd)
            while size_bytes:
                self._check_open()
                sent = await self._threads.run(
                    _send_turn, fd, content.fd, start, size_bytes
                )
                start += sent
                size_bytes -= sent
                if size_bytes:
                    await self._writable(fd)
        except _UnsupportedError:
            await self.send_copies(content, start, size_bytes)
        finally:
            os.close(fd)

    async def send_to_end(self, content: Content, start: int) -> None:
        """Send a file from `start` until it ends, whatever size it claims."""
        while data := await self._threads.run(content.read, start, READ_BYTES):
            await self.write(data)
            start += len(data)

    async def send_copies(self, content: Content, start: int, size_bytes: int) -> None:
        """Send as `send_file` does, but through this process's memory."""
        while size_bytes:
            data = await self._threads.run(
                content.read, start, min(size_bytes, READ_BYTES)
            )
            if not data:
                raise ShortFileError
            await self.write(data)
            start += len(data)
            size_bytes -= len(data)

    async def _flush(self, fd: int) -> None:
        """Wait until the transport holds nothing back: order is all there is."""
        while self._transport.get_write_buffer_size():
            self._check_open()
            await self._writable(fd)

    async def _writable(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_writer(fd, _wake, ready)
        try:
            async with asyncio.timeout(self._stall_limit_s):
                await ready
        except TimeoutError as error:
            self._transport.abort()
            raise ConnectionResetError("the client takes nothing any more") from error
        finally:
            loop.remove_writer(fd)

    def _check_open(self) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client left")


class _UnsupportedError(Exception):
    """The file system cannot send by itself."""


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _send_turn(sock: int, file: int, start: int, size_bytes: int) -> int:
    """Send for a while, in a thread; return how much went out."""
    ends = time.monotonic() + TURN_S
    sent = since_wait = 0
    while sent < size_bytes and time.monotonic() < ends:
        try:
            step = _send_once(
                sock, file, start + sent, min(size_bytes - sent, CALL_BYTES)
            )
        except _UnsupportedError:
            if not sent:
                raise
            break
        if step > 0:
            sent += step
            since_wait += step
        elif since_wait < FAST_BYTES or not _takes_more(sock):
            break
        else:
            since_wait = 0
    return sent


def _send_once(sock: int, file: int, start: int, size_bytes: int) -> int:
    """Return how much one call sent; 0 when the socket takes nothing just now."""
    try:
        sent = os.sendfile(sock, file, start, size_bytes)
    except BlockingIOError:
        return 0
    except ConnectionError as error:
        raise ConnectionResetError("the client left") from error
    except OSError as error:
        if error.errno in _CANNOT_SEND:
            raise _UnsupportedError from error
        raise
    if sent == 0:
        raise ShortFileError
    return sent


def _takes_more(sock: int) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(PATIENCE_MS))
