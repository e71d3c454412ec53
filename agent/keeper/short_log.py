"""The log of a command that most likely writes little: in memory while it is short.

A session may run thousands of commands, most of which write a line: two files for each
would cost more than the command itself. What gets longer, and what comes when all short
logs together have filled their share, goes to files as any other log does.
"""

import bisect
import os
import time

from agent.keeper.logs import INDEX, INDEX_STEP_S, Log, Memory, Run
from agent.keeper.state import State

SHORT_BYTES = 16 * 1024
"""Held in memory of one log, its index included."""

ALL_SHORT_BYTES = 16 * 1024 * 1024
"""The same of all logs together."""

RUN_BYTES = 128
"""What one record of the index takes in memory."""


class ShortLog(Log):
    """A log that is on disk only when it is long.

    Args:
        state: Who makes the files.
        path: The file of the bytes, if it comes to that.
        index_path: The file of the index.
        max_bytes: What is kept.
        memory: The account of all short logs.
    """

    def __init__(
        self,
        state: State,
        path: str,
        index_path: str,
        max_bytes: int,
        memory: Memory,
    ) -> None:
        super().__init__(state, path, index_path, max_bytes)
        self._memory = memory
        self._held: bytearray | None = bytearray()
        self._records: list[tuple[int, float, int]] = []
        self._booked = 0
        self._no_file = False

    def append(self, view: memoryview, stream: int) -> None:
        """Store bytes of a stream."""
        if self._held is None:
            super().append(view, stream)
            return
        if self._fits(len(view)) or not self._spill():
            self._hold(view, stream)
        else:
            super().append(view, stream)

    def _fits(self, more: int) -> bool:
        assert self._held is not None  # noqa: S101 - the caller looked
        wanted = len(self._held) + more + (len(self._records) + 1) * RUN_BYTES
        if wanted > SHORT_BYTES:
            return False
        step = wanted - self._booked
        if self._memory.used + step > ALL_SHORT_BYTES:
            return False
        self._memory.used += step
        self._booked = wanted
        return True

    def _hold(self, view: memoryview, stream: int) -> None:
        """Keep bytes in memory, up to what a short log may have."""
        assert self._held is not None  # noqa: S101 - the caller looked
        self.total += len(view)
        bound = min(self._max_bytes, SHORT_BYTES)
        room = bound - self.size - len(self._records) * RUN_BYTES
        if room <= 0:
            return
        now = time.time()
        at, before = self._last
        if not (stream == before and 0 <= now - at < INDEX_STEP_S):
            self._records.append((self.size, now, stream))
            self._last = (now, stream)
        self._held += view[:room]
        self.size = len(self._held)

    def _spill(self) -> bool:
        """Move to files what is in memory; return False when that fails."""
        held, records = self._held, self._records
        assert held is not None  # noqa: S101 - the caller looked
        if self._no_file or self._max_bytes <= len(held):
            return False
        index = b"".join(INDEX.pack(*record) for record in records)
        if not (self._ready() and self._write_both(held, index)):
            # The disk is full: memory is the better place for what there is.
            self._no_file = True
            self._close()
            self._state.drop(self._path)
            self._state.drop(self._index_path)
            return False
        self._held, self._records = None, []
        self.index_size = len(index)
        self._memory.used -= self._booked
        self._booked = 0
        return True

    def _write_both(self, held: bytearray, index: bytes) -> bool:
        try:
            return os.write(self._fd, held) == len(held) and (
                os.pwrite(self._index_fd, index, 0) == len(index)
            )
        except OSError:
            return False

    def read(
        self, offset: int, record: int, limit: int
    ) -> tuple[list[Run], bytes, int]:
        """Return what is stored from `offset` on, as `Log.read`."""
        if self._held is None:
            return super().read(offset, record, limit)
        end = min(self.size, offset + limit)
        runs: list[Run] = []
        for number in range(self.locate(offset), len(self._records)):
            start, at, stream = self._records[number]
            if start >= end:
                break
            record = number
            following = number + 1 < len(self._records)
            until = self._records[number + 1][0] if following else self.size
            begin = max(start, offset)
            runs.append(Run(begin, stream, at, min(until, end) - begin))
        return runs, bytes(self._held[offset:end]), record

    def place(self) -> tuple[str, int, int] | None:
        """Return where the bytes are, or None while they are in memory."""
        return super().place() if self._held is None else None

    def locate(self, offset: int) -> int:
        """Return the number of the index record that holds `offset`."""
        if self._held is None:
            return super().locate(offset)
        return max(0, bisect.bisect_right(self._records, offset, key=_start) - 1)

    def remove(self) -> None:
        """Close and delete what is stored."""
        self._sealed = True
        self._memory.used -= self._booked
        self._booked = 0
        if self._held is None:
            super().remove()


def _start(record: tuple[int, float, int]) -> int:
    return record[0]
