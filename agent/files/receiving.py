"""Takes a large body from its connection without the event loop's help.

The loop reads a body in pieces that are parsed, copied and queued in the only thread that
everybody else waits for, and a hand-over to another thread has them copied once more by
a processor that does not have them in its cache. Here one worker thread receives a piece,
on a duplicate of the connection's descriptor, and stores it before it receives the next.
As in `sending`, a slow client holds no thread: the loop waits until there is more.
"""

import asyncio
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto

from agent.errors import TimeLimitError
from agent.files.threads import Threads

Take = Callable[[bytes], bool]
"""Stores a piece, in a worker thread; returns whether it wants more before it is back."""

TURN_S = 0.5
"""Time for which one client may hold a thread before others get their turn."""
PIECE_BYTES = 256 * 1024
"""Received by one call: what fits into a processor's cache."""
PATIENCE_MS = 20
"""Time for which a thread waits for a client that has just sent a lot."""
FAST_BYTES = 256 * 1024
"""What a client must have sent since the last wait for the thread to wait for it."""


class _Turn(Enum):
    """Why a turn ended."""

    OVER = auto()
    STOPPED = auto()
    NOTHING_THERE = auto()


class Inlet:
    """The rest of a body that nobody else reads from its connection.

    Args:
        fd: The connection's descriptor, which does not block; it is duplicated.
        first: What was received of the body before.
        left_bytes: What is still to come, exactly.
        threads: Where receiving happens.
        stall_limit_s: Time for which the client may send nothing.

    Attributes:
        taken_bytes: What was received since.
        left_bytes: What is still to come.
    """

    def __init__(
        self,
        fd: int,
        first: Iterable[bytes],
        left_bytes: int,
        threads: Threads,
        stall_limit_s: float,
    ) -> None:
        self.taken_bytes = 0
        self.left_bytes = left_bytes
        self._first = deque(first)
        self._threads = threads
        self._stall_limit_s = stall_limit_s
        self._fd = os.dup(fd)

    def close(self) -> None:
        """Close the duplicate; the connection stays."""
        os.close(self._fd)

    async def pour(self, take: Take) -> bool:
        """Hand on what comes until `take` stops it; return whether there is more.

        Raises:
            ConnectionResetError: The client left.
            TimeLimitError: It sends nothing any more.
        """
        while self._first or self.left_bytes:
            turn = await self._threads.run(self._turn, take)
            if turn is _Turn.STOPPED:
                return True
            if turn is _Turn.NOTHING_THERE:
                await self._readable()
        return False

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._fd, _wake, ready)
        try:
            async with asyncio.timeout(self._stall_limit_s):
                await ready
        except TimeoutError as error:
            raise TimeLimitError("the client sent nothing for too long") from error
        finally:
            loop.remove_reader(self._fd)

    def _turn(self, take: Take) -> _Turn:
        """Receive for as long as there is something, or soon will be."""
        while self._first:
            if not take(self._first.popleft()):
                return _Turn.STOPPED
        ends = time.monotonic() + TURN_S
        since_wait = 0
        while self.left_bytes and time.monotonic() < ends:
            piece = self._receive()
            if piece:
                since_wait += len(piece)
                if not take(piece):
                    return _Turn.STOPPED
            elif since_wait < FAST_BYTES or not self._has_more():
                return _Turn.NOTHING_THERE
            else:
                since_wait = 0
        return _Turn.OVER

    def _receive(self) -> bytes:
        """Return the next piece; nothing when there is none just now."""
        try:
            piece = os.read(self._fd, min(self.left_bytes, PIECE_BYTES))
        except BlockingIOError:
            return b""
        except ConnectionError as error:
            raise ConnectionResetError("the client left") from error
        if not piece:
            raise ConnectionResetError("the client left")
        self.taken_bytes += len(piece)
        self.left_bytes -= len(piece)
        return piece

    def _has_more(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(PATIENCE_MS))


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
