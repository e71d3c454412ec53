"""Where a job's output goes: append-only logs, bounded spools, terminal rings.

Bytes are stored exactly as written. Which stream a run of bytes came from, and when, is
said beside them: the index is a sequence of records (offset, time, stream), each of which
holds up to the offset of the next. Whatever cannot be stored (past the bound, or on a full
disk) is dropped and counted; nothing here ever raises into the pump or blocks it.
"""

import errno
import os
import struct
import time
from typing import NamedTuple

from agent.keeper.spawn import CONTROL
from agent.keeper.state import State

INDEX = struct.Struct(">QdB")
"""offset of the first byte, wall-clock seconds, stream (1 stdout, 2 stderr)."""

INDEX_STEP_S = 0.01
"""Runs of one stream that follow each other within this share one index record."""

MEMORY_MAX_BYTES = 256 * 1024
"""Output of one short command that is kept in memory; more goes to a file."""

ALL_MEMORY_MAX_BYTES = 32 * 1024 * 1024
"""The same of all commands together; beyond it even short outputs go to files."""

SMALL_BYTES = 16 * 1024
"""Outputs up to this never count; 4096 of them are 64 MiB at the worst."""

RING_BYTES = 256 * 1024
"""What a terminal's client can see again when it comes back."""

CONTROL_MAX_BYTES = 32 * 1024 * 1024
"""What a command that is answered as a whole may say on its control pipe."""

RUNS_PER_READ = 512
"""Index records taken at a time, so that reading a choppy log stays bounded too."""


class Run(NamedTuple):
    """Bytes of one stream that follow each other."""

    offset: int
    stream: int
    time: float
    size: int


class Log:
    """A log on disk that keeps the first `max_bytes` bytes, with its index.

    Args:
        state: Who makes the files.
        path: The file of the bytes.
        index_path: The file of the index.
        max_bytes: What is kept; the index may have a quarter of that besides.
    """

    first_offset = 0

    def __init__(
        self, state: State, path: str, index_path: str, max_bytes: int
    ) -> None:
        self._state = state
        self._path = path
        self._index_path = index_path
        self._max_bytes = max_bytes
        self._index_max_bytes = max(64 * 1024, max_bytes // 4)
        self._fd = -1
        self._index_fd = -1
        self._sealed = False
        self._readers = 0
        self._last = (0.0, 0)
        self.is_told = False
        self.size = 0
        self.index_size = 0
        self.total = 0

    @property
    def dropped(self) -> int:
        """Bytes that were written by the job but are not here."""
        return self.total - self.size

    def create(self) -> None:
        """Make the files, so that whoever looks finds an empty log.

        Does not raise: a log that cannot be made drops what it is given.
        """
        try:
            if self._fd < 0:
                self._fd = self._state.create(self._path)
            if self._index_fd < 0:
                self._index_fd = self._state.create(self._index_path)
        except OSError:
            return

    def append(self, view: memoryview, stream: int) -> None:
        """Store bytes of a stream."""
        self.total += len(view)
        room = min(len(view), self._max_bytes - self.size)
        if room <= 0 or not self._ready():
            return
        # The index first: bytes without their record would be the wrong stream's, while
        # a record without bytes is merely followed by another one.
        if not self._note(stream):
            return
        while room > 0:
            try:
                written = os.write(self._fd, view[:room])
            except OSError as error:
                _expect_full(error)
                return
            view = view[written:]
            room -= written
            self.size += written

    def read(
        self, offset: int, record: int, limit: int
    ) -> tuple[list[Run], bytes, int]:
        """Return what is stored from `offset` on, up to `limit` bytes.

        Args:
            offset: Where to begin.
            record: Number of an index record at or before `offset`; the result of the
                read before, or 0.
            limit: At most so many bytes.

        Returns:
            The runs, their bytes, and the record to go on with. Nothing when there is
            nothing yet.

        Raises:
            OSError: The files are gone or cannot be read.
        """
        runs, record = self.find(offset, record, limit)
        if not runs:
            return [], b"", record
        return self._bytes_of(runs, offset, record)

    def find(self, offset: int, record: int, limit: int) -> tuple[list[Run], int]:
        """Return what `read` does, but for the bytes.

        Raises:
            OSError: The files are gone or cannot be read.
        """
        if offset >= self.size:
            return [], record
        self._reopen()
        end = min(self.size, offset + limit)
        runs: list[Run] = []
        index = os.pread(
            self._index_fd, INDEX.size * RUNS_PER_READ, record * INDEX.size
        )
        records = list(
            INDEX.iter_unpack(index[: len(index) // INDEX.size * INDEX.size])
        )
        last = record * INDEX.size + len(index) >= self.index_size
        for number, (start, at, stream) in enumerate(records):
            if number + 1 < len(records):
                until = records[number + 1][0]
            elif last:
                until = self.size
            else:
                # The record after this one was not read: its end is not known yet.
                break
            if start >= end:
                break
            record += number and 1
            if until > offset:
                begin = max(start, offset)
                runs.append(Run(begin, stream, at, min(until, end) - begin))
        return runs, record

    def place(self) -> tuple[str, int, int] | None:
        """Return where the bytes are: path, device and inode; None when not on disk.

        Who was told reads them there by himself, so the file stays a while longer.

        Raises:
            OSError: The file is gone.
        """
        self._reopen()
        self.is_told = True
        facts = os.fstat(self._fd)
        return self._path, facts.st_dev, facts.st_ino

    def locate(self, offset: int) -> int:
        """Return the number of the index record that holds `offset`, for `read`.

        Raises:
            OSError: The files are gone or cannot be read.
        """
        self._reopen()
        low, high = 0, self.index_size // INDEX.size
        while high - low > 1:
            middle = (low + high) // 2
            record = os.pread(self._index_fd, INDEX.size, middle * INDEX.size)
            if INDEX.unpack(record)[0] <= offset:
                low = middle
            else:
                high = middle
        return low

    def _bytes_of(
        self, runs: list[Run], offset: int, record: int
    ) -> tuple[list[Run], bytes, int]:
        wanted = sum(run.size for run in runs)
        content = os.pread(self._fd, wanted, offset)
        if len(content) != wanted:
            raise OSError(errno.EIO, "the log was cut short")
        return runs, content, record

    def seal(self) -> None:
        """Close the files: nothing more will be written."""
        self._sealed = True
        if not self._readers:
            self._close()

    def hold(self) -> None:
        """Keep the files open for a reader."""
        self._readers += 1

    def release(self) -> None:
        """Take back one `hold`."""
        self._readers -= 1
        if self._sealed and not self._readers:
            self._close()

    def remove(self) -> None:
        """Close and delete the files."""
        self._sealed = True
        self._close()
        self._state.drop(self._path)
        self._state.drop(self._index_path)

    def _ready(self) -> bool:
        if self._fd < 0 or self._index_fd < 0:
            if self._sealed:
                return False
            self.create()
        return self._fd >= 0 and self._index_fd >= 0

    def _note(self, stream: int) -> bool:
        now = time.time()
        at, before = self._last
        if stream == before and 0 <= now - at < INDEX_STEP_S:
            return True
        if self.index_size + INDEX.size > self._index_max_bytes:
            return stream == before
        record = INDEX.pack(self.size, now, stream)
        try:
            written = os.pwrite(self._index_fd, record, self.index_size)
        except OSError as error:
            _expect_full(error)
            return False
        # A torn record is written over by the next one.
        if written == len(record):
            self.index_size += written
            self._last = (now, stream)
            return True
        return False

    def _reopen(self) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        if self._fd < 0:
            self._fd = os.open(self._path, flags)
        if self._index_fd < 0:
            self._index_fd = os.open(self._index_path, flags)

    def _close(self) -> None:
        for fd in (self._fd, self._index_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._index_fd = -1


class Memory:
    """What all short outputs together may hold in memory."""

    used = 0


class Spool:
    """The output of one command that is answered as a whole: its head and its tail.

    In memory while it is short, else in a file of at most `max_bytes`: the first half of
    that is the head and stays, the second half is written round and round.

    Args:
        state: Who makes the file.
        path: The file, made when needed.
        max_bytes: What is kept of the output.
        memory: The account of all spools.
    """

    def __init__(self, state: State, path: str, max_bytes: int, memory: Memory) -> None:
        self._state = state
        self._path = path
        self._memory = memory
        self._memory_max = min(MEMORY_MAX_BYTES, max_bytes)
        self._head_max = max_bytes - max_bytes // 2
        self._tail_max = max_bytes // 2
        self._booked = 0
        self._fd = -1
        self._no_file = False
        self.in_memory: bytearray | None = bytearray()
        self.control = bytearray()
        self.total = 0
        self.head = 0
        self.tail = 0

    @property
    def size(self) -> int:
        """Bytes that are stored."""
        if self.in_memory is not None:
            return len(self.in_memory)
        return self.head + min(self.tail, self._tail_max)

    @property
    def dropped(self) -> int:
        """Bytes that were written by the job but are not here."""
        return self.total - self.size

    first_offset = 0

    @property
    def path(self) -> str | None:
        """The file, when there is one."""
        return None if self.in_memory is not None else self._path

    @property
    def tail_start(self) -> int:
        """Where in the file the oldest byte of the tail is."""
        if self.tail <= self._tail_max:
            return self.head
        return self.head + self.tail % self._tail_max

    def append(self, view: memoryview, stream: int) -> None:
        """Store bytes; what came by the control pipe is no output and kept apart."""
        if stream == CONTROL:
            self.control += view[: CONTROL_MAX_BYTES - len(self.control)]
            return
        self.total += len(view)
        if self.in_memory is not None:
            if self._fits(len(view)):
                self.in_memory += view
                return
            if not self._spill():
                # No file can be had: what still fits is kept, the rest counted.
                self.in_memory += view[: self._memory_max - len(self.in_memory)]
                return
        self._store(view)

    def seal(self) -> None:
        """Close the file: nothing more will be written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Delete what is stored."""
        self.seal()
        self._memory.used -= self._booked
        self._booked = 0
        if self.in_memory is None:
            self._state.drop(self._path)
        self.in_memory = bytearray()

    def _fits(self, more: int) -> bool:
        assert self.in_memory is not None  # noqa: S101 - the caller looked
        wanted = len(self.in_memory) + more
        if wanted > self._memory_max:
            return False
        if wanted > SMALL_BYTES:
            step = wanted - self._booked
            if self._memory.used + step > ALL_MEMORY_MAX_BYTES:
                return False
            self._memory.used += step
            self._booked = wanted
        return True

    def _spill(self) -> bool:
        """Move to a file what is in memory; return False when that fails."""
        assert self.in_memory is not None  # noqa: S101 - the caller looked
        if self._no_file:
            return False
        self._no_file = True
        try:
            self._fd = self._state.create(self._path)
        except OSError:
            return False
        held, self.in_memory = self.in_memory, None
        self._store(memoryview(held))
        if self.size < len(held):
            # The disk is full: memory is the better place for what there is.
            self.in_memory, self.head, self.tail = held, 0, 0
            self.seal()
            self._state.drop(self._path)
            return False
        self._memory.used -= self._booked
        self._booked = 0
        return True

    def _store(self, view: memoryview) -> None:
        while view:
            in_head = self.head < self._head_max
            if in_head:
                room, at = self._head_max - self.head, self.head
            elif self._tail_max:
                # Going round more than once would write what is written over at once;
                # left out only where the room is there, lest a full disk leave holes.
                beyond = len(view) - self._tail_max
                if beyond > 0 and self.tail >= self._tail_max:
                    self.tail += beyond
                    view = view[beyond:]
                inside = self.tail % self._tail_max
                room, at = self._tail_max - inside, self.head + inside
            else:
                return
            try:
                written = os.pwrite(self._fd, view[:room], at)
            except OSError as error:
                _expect_full(error)
                return
            if in_head:
                self.head += written
            else:
                self.tail += written
            view = view[written:]


class Ring:
    """The last output of a terminal, in memory.

    Args:
        capacity: How many bytes are held.
    """

    def __init__(self, capacity: int = RING_BYTES) -> None:
        self._held = memoryview(bytearray(capacity))
        self._capacity = capacity
        self.total = 0
        self.seen = 0
        """Up to where those have come who followed it and have left."""

    @property
    def size(self) -> int:
        """The offset after the last byte, as of a log that lost nothing."""
        return self.total

    @property
    def first_offset(self) -> int:
        """The oldest byte that is still there."""
        return max(0, self.total - self._capacity)

    @property
    def dropped(self) -> int:
        """Bytes that have fallen off; a terminal's are not counted as lost."""
        return 0

    def append(self, view: memoryview, _stream: int) -> None:
        """Store bytes, over the oldest ones."""
        if len(view) > self._capacity:
            self.total += len(view) - self._capacity
            view = view[-self._capacity :]
        at = self.total % self._capacity
        first = min(len(view), self._capacity - at)
        self._held[at : at + first] = view[:first]
        self._held[: len(view) - first] = view[first:]
        self.total += len(view)

    def read(
        self, offset: int, record: int, limit: int
    ) -> tuple[list[Run], memoryview, int]:
        """Return what is held from `offset` on, up to `limit` bytes, as one run.

        Up to where the ring begins again, too, so that nothing has to be copied: the
        bytes are good until the next `append`.
        """
        offset = max(offset, self.first_offset)
        at = offset % self._capacity
        size = max(0, min(limit, self.total - offset, self._capacity - at))
        runs = [Run(offset, 1, time.time(), size)] if size else []
        return runs, self._held[at : at + size], record

    def saw(self, offset: int) -> None:
        """Hear up to where a follower has come that leaves."""
        self.seen = min(max(self.seen, offset), self.total)

    def locate(self, _offset: int) -> int:
        """Return 0: there is one run only."""
        return 0

    def create(self) -> None:
        """Do nothing: memory is there already."""

    def seal(self) -> None:
        """Do nothing: memory needs no closing."""

    def hold(self) -> None:
        """Do nothing, as `seal`."""

    def release(self) -> None:
        """Do nothing, as `seal`."""

    def remove(self) -> None:
        """Do nothing, as `seal`."""


def _expect_full(error: OSError) -> None:
    """Let a full disk pass; anything else is noted, and dropped all the same."""
    if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        from agent.keeper.log import say  # noqa: PLC0415 - never needed, if all is well

        say("warning", f"output could not be stored: {error}")
