"""The output of a job that lives for as long as it is wanted: an interpreter's worker.

A log of its whole life would fill up one day and be of no use to anybody: who runs code
follows it while it runs. So this holds what its followers have not been sent yet, and a
little of what came last, in memory. While a follower is behind, the job's pipes are left
unread (see `Brake`), which makes the worker wait; with nobody following it drains.
"""

import time
from collections import deque
from collections.abc import Sequence

from agent.keeper.brake import Reader
from agent.keeper.logs import INDEX_STEP_S, Run

LAST_BYTES = 64 * 1024
"""Held of what everybody has been sent: the last words of a worker that did not start."""

LAST_PIECES = 64
"""The same, counted in pieces, which cost memory of their own."""

PIECE_BYTES = 32 * 1024
"""Bytes of one stream that are held as one piece."""

WAITING_MARK_BYTES = 256 * 1024
"""What a follower may be behind before the worker's pipes are not read."""

TURN_BYTES = 256 * 1024
"""Read of one pipe before the mark is looked at again."""

MAX_BYTES = 16 * 1024 * 1024
"""More is never held: once the worker has ended, nothing makes its survivors wait."""


class _Piece:
    __slots__ = ("content", "offset", "stream", "time")

    def __init__(self, offset: int, stream: int, at: float) -> None:
        self.offset = offset
        self.stream = stream
        self.time = at
        self.content = bytearray()

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + len(self.content)


class LiveOutput:
    """What a job's followers have still to be sent.

    Attributes:
        readers: The followers, as they come and go.
        total: All bytes that have come.
    """

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._held = 0
        self.readers: Sequence[Reader] = ()
        self.total = 0
        self.dropped = 0

    @property
    def size(self) -> int:
        """The offset after the last byte."""
        return self.total

    @property
    def first_offset(self) -> int:
        """The oldest byte that is still there."""
        return self._pieces[0].offset if self._pieces else self.total

    def append(self, view: memoryview, stream: int) -> None:
        """Hold bytes of a stream, and forget what nobody waits for."""
        now = time.time()
        for start in range(0, len(view), PIECE_BYTES):
            self._hold(view[start : start + PIECE_BYTES], stream, now)
        self._forget()

    def _hold(self, view: memoryview, stream: int, now: float) -> None:
        last = self._pieces[-1] if self._pieces else None
        if (
            last is None
            or last.stream != stream
            or len(last.content) + len(view) > PIECE_BYTES
            or not 0 <= now - last.time < INDEX_STEP_S
        ):
            last = _Piece(self.total, stream, now)
            self._pieces.append(last)
        last.content += view
        self.total += len(view)
        self._held += len(view)

    def _forget(self) -> None:
        wanted = min((each.offset for each in self.readers), default=self.total)
        # The newest piece stays: it is the last that was said.
        while len(self._pieces) > 1 and (
            self._held > LAST_BYTES or len(self._pieces) > LAST_PIECES
        ):
            oldest = self._pieces[0]
            if oldest.end > wanted:
                if self._held <= MAX_BYTES:
                    return
                self.dropped += len(oldest.content)
            self._held -= len(oldest.content)
            self._pieces.popleft()

    def read(
        self, offset: int, record: int, limit: int
    ) -> tuple[list[Run], bytes, int]:
        """Return what is held from `offset` on, up to `limit` bytes."""
        runs: list[Run] = []
        parts: list[bytes] = []
        for piece in self._pieces:
            if piece.end <= offset:
                continue
            begin = max(piece.offset, offset) - piece.offset
            part = bytes(piece.content[begin : begin + limit])
            if not part:
                break
            runs.append(Run(piece.offset + begin, piece.stream, piece.time, len(part)))
            parts.append(part)
            limit -= len(part)
        return runs, b"".join(parts), record

    def locate(self, _offset: int) -> int:
        """Return 0: there are no records."""
        return 0

    def seal(self) -> None:
        """Do nothing: memory needs no closing."""

    def hold(self) -> None:
        """Do nothing, as `seal`."""

    def release(self) -> None:
        """Do nothing, as `seal`."""

    def remove(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._held = 0
