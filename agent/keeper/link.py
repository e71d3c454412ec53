"""The keeper's end of the line to one api: frames in, frames out, never blocking.

The line is closed, and the api counts as dead, when something else than frames comes
over it, or when more waits to be taken up by the api than `QUEUE_MAX_BYTES`.
"""

import socket
from collections import deque
from collections.abc import Callable

from agent.keeper.frames import Decoder, FrameError, Header, head
from agent.keeper.log import say
from agent.keeper.loop import READ, WRITE, Loop

QUEUE_MAX_BYTES = 64 * 1024 * 1024
"""Answers that an api has not taken up; one that lets so many pile up does not live."""

LINE_BYTES = 384 * 1024
"""Asked of the kernel for what is under way, which grants less to ordinary users: a piece
of a log should go in one call, without a copy of what did not fit."""

CROWDED_BYTES = 1024 * 1024
"""With so much waiting, followers are not served; answers still are."""


class Link:
    """The line to one api process.

    Args:
        loop: The keeper's loop.
        line: The keeper's end of the socket pair.
        on_frame: Called with each frame.
        on_closed: Called once, when the line is closed from the other side or unusable.
        on_room: Called when what waited has been taken up.
    """

    def __init__(
        self,
        loop: Loop,
        line: socket.socket,
        on_frame: Callable[[Header, bytes], None],
        on_closed: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        line.setblocking(False)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINE_BYTES)
        self._loop = loop
        self._line = line
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._on_room = on_room
        self._decoder = Decoder()
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self.open = True
        loop.add(line.fileno(), READ, self._event)

    @property
    def crowded(self) -> bool:
        """Whether the api does not take up what it is sent."""
        return self._queued > CROWDED_BYTES

    def send(self, header: Header, payload: bytes | memoryview = b"") -> None:
        """Send a frame, now or as soon as the api takes it; to a closed line, not.

        The payload may change afterwards: what has to wait is copied.
        """
        if not self.open:
            return
        pieces: list[bytes | memoryview] = [head(header, len(payload))]
        if payload:
            pieces.append(payload)
        self._put(pieces)

    def _put(self, pieces: list[bytes | memoryview]) -> None:
        sent = 0
        if not self._queue:
            try:
                sent = self._line.sendmsg(pieces)
            except BlockingIOError:
                pass
            except OSError:
                self.fail("its line is closed")
                return
        for piece in pieces:
            if sent < len(piece):
                self._queue.append(memoryview(bytes(piece[sent:])))
                self._queued += len(piece) - sent
            sent = max(0, sent - len(piece))
        if self._queued > QUEUE_MAX_BYTES:
            self.fail("it does not take up its answers")
        elif self._queue:
            self._loop.change(self._line.fileno(), READ | WRITE)

    def close(self) -> None:
        """Close the line, without telling."""
        if self.open:
            self.open = False
            self._loop.remove(self._line.fileno())
            self._line.close()
            self._queue.clear()
            self._queued = 0

    def fail(self, why: str) -> None:
        """Close the line because of what the api did, and tell."""
        if self.open:
            if why:
                say("error", f"line to the api closed: {why}")
            self.close()
            self._on_closed()

    def _event(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self.open and events & ~WRITE:
            self._receive()

    def _flush(self) -> None:
        while self._queue:
            try:
                sent = self._line.send(self._queue[0])
            except BlockingIOError:
                return
            except OSError:
                self.fail("")
                return
            self._queued -= sent
            if sent < len(self._queue[0]):
                self._queue[0] = self._queue[0][sent:]
            else:
                self._queue.popleft()
        self._loop.change(self._line.fileno(), READ)
        self._on_room()

    def _receive(self) -> None:
        try:
            with self._decoder.space() as space:
                size = self._line.recv_into(space)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.fail("")
            return
        try:
            frames = self._decoder.received(size)
        except FrameError as error:
            self.fail(str(error))
            return
        for header, payload in frames:
            if self.open:
                self._on_frame(header, payload)
