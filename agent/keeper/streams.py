"""Reads what a job writes: pipes and terminals, always emptied, a share at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable
from functools import partial

from agent.keeper.loop import READ, WRITE, Loop, Timer

READ_BYTES = 256 * 1024
"""One read; larger ones gain nothing."""

TURN_BYTES = 1024 * 1024
"""Read of one stream per turn of the loop, so that none keeps the others waiting. Also
the largest pipe: so much read after the exit is all that was written before it."""

PIPE_BYTES = 1024 * 1024
"""What a pipe is grown to once its writer has filled it; idle ones stay small, since the
kernel grants every user a limited sum (man 7 pipe)."""

DEFAULT_PIPE_BYTES = 64 * 1024

SIP_BYTES = 64 * 1024
"""Read of a terminal before its readers are served; where many terminals have something
to say they share this, so that a key's echo does not wait for twenty floods."""

LEAST_SIP_BYTES = 4 * 1024
"""What a terminal has at a time; less would cost more than it gives others."""

LOOK_AGAIN_S = 0.25
"""Between looks at a terminal that its leader has closed without ending."""

# One for all reads of the process: what was read is stored before the next read.
_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)


class Streams:
    """The reading ends of one job.

    Args:
        loop: The keeper's loop.
        store: Called with bytes, valid during the call only, and their stream.
        changed: Called after bytes were stored or a stream was closed, with the number
            of bytes.
    """

    def __init__(
        self,
        loop: Loop,
        store: Callable[[memoryview, int], None],
        changed: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._store = store
        self._changed = changed
        self._open: dict[int, int] = {}
        self._grown: set[int] = set()
        self._paused = False
        self._writing = False
        self._write: Callable[[], None] | None = None
        self._rest: Timer | None = None
        self.turn_bytes = TURN_BYTES
        """Read of one stream before its readers are served."""
        self.to_the_last = False
        """Whether every read goes on until nothing is left: the writer has ended."""

    def add(self, fd: int, stream: int) -> None:
        """Read a descriptor from now on, and close it at its end."""
        self._open[fd] = stream
        self._loop.add(fd, READ, partial(self._event, fd))

    def __bool__(self) -> bool:
        return bool(self._open)

    def pump_all(self) -> None:
        """Store what is there to be read."""
        for fd in list(self._open):
            self._pump(fd)

    def names(self) -> frozenset[str]:
        """Return what the pipes are called in /proc/<pid>/fd, on either side."""
        return frozenset(f"pipe:[{os.fstat(fd).st_ino}]" for fd in self._open)

    def discard(self) -> None:
        """From now on store nothing of what is read."""
        self._store = _nowhere

    def close_all(self) -> None:
        """Read no more, though somebody may still write."""
        for fd in list(self._open):
            self._close(fd)

    # A terminal is one descriptor for both directions.

    def write_too(self, write: Callable[[], None]) -> None:
        """Say what to call when the terminal takes input."""
        self._write = write

    def want_to_write(self, *, wanted: bool) -> None:
        """Call what `write_too` said, as soon as the terminal takes input."""
        if wanted != self._writing:
            self._writing = wanted
            self._watch()

    def pause(self, *, paused: bool) -> None:
        """Leave the output where it is, until told otherwise."""
        if paused != self._paused:
            self._paused = paused
            self._watch()

    def _watch(self) -> None:
        if self._rest is None:
            events = (0 if self._paused else READ) | (WRITE if self._writing else 0)
            for fd in self._open:
                self._loop.change(fd, events)

    def _leave_open(self, fd: int) -> None:
        """Keep a terminal that nobody has open now, and look again after a while.

        Its leader still runs: closing the master would hang it up, in the midst of
        closing its own descriptors as `cat` does before it exits; and it may come back
        by way of /dev/tty.
        """
        if self._rest is not None:
            return
        self._loop.remove(fd)
        self._rest = self._loop.later(LOOK_AGAIN_S, partial(self._look_again, fd))

    def _look_again(self, fd: int) -> None:
        self._rest = None
        if fd in self._open:
            self._loop.add(fd, READ, partial(self._event, fd))
            self._watch()

    def _event(self, fd: int, events: int) -> None:
        if events & WRITE and self._write is not None:
            self._write()
        # A hang-up is told of even while nothing is asked for, and has to be read then.
        if events & ~WRITE and fd in self._open:
            self._changed(self._pump(fd))

    def _pump(self, fd: int) -> int:
        return self._pump_pipe(fd) if self._write is None else self._pump_terminal(fd)

    def _pump_pipe(self, fd: int) -> int:
        taken = 0
        while taken < TURN_BYTES:
            count = _read(fd, _buffer)
            if count == 0:
                self._close(fd)
            if count <= 0:
                break
            taken += count
            self._store(_view[:count], self._open[fd])
            if count >= DEFAULT_PIPE_BYTES:
                self._grow(fd)
            elif not self.to_the_last:
                # Less than a pipe holds was there; the loop will tell of more.
                break
        return taken

    def _pump_terminal(self, fd: int) -> int:
        """Read a sip, or all that is left once the leader has ended.

        A terminal has never more than 4 KiB, and its writer waits while nobody reads; so
        it is asked again at once, and what it gave is stored in one go.
        """
        share = max(LEAST_SIP_BYTES, SIP_BYTES // self._loop.ready)
        taken = 0
        count = 1
        while count > 0 and (taken < share or self.to_the_last):
            sip = 0
            while sip < share and (count := _read(fd, _view[sip:])) > 0:
                sip += count
            if sip:
                self._store(_view[:sip], self._open[fd])
            taken += sip
        if count == 0:
            self._ended(fd)
        return taken

    def _ended(self, fd: int) -> None:
        if not self.to_the_last:
            self._leave_open(fd)
        else:
            self._close(fd)

    def _grow(self, fd: int) -> None:
        if fd not in self._grown:
            self._grown.add(fd)
            # Refused to terminals, and past the user's sum.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _close(self, fd: int) -> None:
        del self._open[fd]
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._loop.remove(fd)
        os.close(fd)


def _nowhere(_view: memoryview, _stream: int) -> None:
    """Store nothing."""


def _read(fd: int, room: bytearray | memoryview) -> int:
    """Read into a buffer; return the number of bytes, 0 at the end, -1 for none yet."""
    try:
        return os.readv(fd, [room])
    except BlockingIOError:
        return -1
    except OSError:
        # A terminal whose other side is closed reads as EIO.
        return 0
