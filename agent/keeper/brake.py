"""Makes a terminal wait for a client that is attached and slow, but not for long.

An interpreter's worker waits for as long as it takes: its follower is the api, which lags
behind only where a client takes no output, and time limits end that.

A log on disk waits for its readers by itself; a terminal's ring does not. So its master
is left unread while a client is too far behind, which stops the program as a slow terminal
would; a client that does not catch up in `STALL_S` is sent away with its offset
(decisions 13). Nobody attached, nobody to wait for.
"""

from collections.abc import Sequence
from typing import Protocol

from agent.keeper.logs import RING_BYTES
from agent.keeper.loop import Loop, Timer
from agent.keeper.streams import Streams

STALL_S = 5.0
"""How long a terminal is not read for the sake of a client."""

STALL_MARK_BYTES = RING_BYTES // 2
"""How far behind a client may be before its terminal is not read; what one turn may still
read beyond it has room in the ring."""


class Reader(Protocol):
    """Somebody who follows a job's output."""

    offset: int

    def poke(self) -> None:
        """Hear that there is more, or that it is over."""

    def drop(self, why: str) -> None:
        """Be ended early."""


class Brake:
    """The brake of one terminal.

    Args:
        loop: The keeper's loop.
        streams: What is to be left unread.
        readers: The clients, as they come and go.
        mark_bytes: How far behind one may be before nothing is read.
        stall_s: How long nothing is read for its sake; None: until it has caught up.
    """

    def __init__(
        self,
        loop: Loop,
        streams: Streams,
        readers: Sequence[Reader],
        mark_bytes: int = STALL_MARK_BYTES,
        stall_s: float | None = STALL_S,
    ) -> None:
        self._loop = loop
        self._streams = streams
        self._readers = readers
        self._mark_bytes = mark_bytes
        self._stall_s = stall_s
        self._pulled = False
        self._stall: Timer | None = None

    def check(self, total: int) -> None:
        """Pull or release it, `total` bytes having come so far."""
        late = any(self._is_late(each, total) for each in self._readers)
        if late and not self._pulled:
            self._pulled = True
            self._streams.pause(paused=True)
            if self._stall_s is not None:
                self._stall = self._loop.later(
                    self._stall_s, lambda: self._stalled(total)
                )
        elif not late:
            self.release()

    def release(self) -> None:
        """Read again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._pulled:
            self._pulled = False
            self._streams.pause(paused=False)

    def _stalled(self, total: int) -> None:
        for each in list(self._readers):
            if self._is_late(each, total):
                each.drop("slow")
        self.release()

    def _is_late(self, reader: Reader, total: int) -> bool:
        return total - reader.offset > self._mark_bytes
