"""One process started for somebody, from its start to its last byte.

    running --leader exits--> draining --pipes quiet or closed--> finished
    finished --pipes closed--> closed

Completion is the exit of the leader, never the end of a pipe: a background child may
hold the pipe for as long as it likes, with a working stdout. The end is published after
the last byte is stored. What comes later goes into the log of a kept job, and to nowhere
for a short one, whose answer has been given.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from agent.keeper import spawn
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header
from agent.keeper.ladder import Ladder
from agent.keeper.logs import RING_BYTES, Log, Ring, Spool
from agent.keeper.loop import READ, WRITE, Loop, Timer
from agent.keeper.state import write_exit

READ_BYTES = 256 * 1024
"""One read; larger ones gain nothing."""

TURN_BYTES = 1024 * 1024
"""Read of one stream per turn of the loop, so that none keeps the others waiting. Also
the largest pipe: so much read after the exit is all that was written before it."""

PIPE_BYTES = 1024 * 1024
"""What a pipe is grown to once its writer has filled it; idle ones stay small, since the
kernel grants every user a limited sum (man 7 pipe)."""

DEFAULT_PIPE_BYTES = 64 * 1024

QUIET_S = 0.05
"""After the exit: silence after which the output counts as complete."""

DRAIN_S = 0.15
"""After the exit: the longest wait for silence (contract 30, 3.6)."""

KILL_S = 0.5
"""After a time limit: the longest that the answer waits for the tree to be gone."""

STDIN_MAX_BYTES = 1024 * 1024
"""Input that waits for its reader; more is refused as `full`."""

STALL_S = 5.0
"""How long a terminal is not read for the sake of an attached client that is slow."""

STALL_MARK_BYTES = RING_BYTES - 64 * 1024
"""How far an attached client may be behind before its terminal is not read."""

_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)


class Reader(Protocol):
    """Somebody who follows a job's output."""

    offset: int

    def poke(self) -> None:
        """Hear that there is more, or that it is over."""

    def drop(self, why: str) -> None:
        """Be ended early."""


class Exit:
    """How a job ended, as it is told and written down."""

    __slots__ = ("code", "ended", "lasted_s", "reason", "signal", "usage")

    def __init__(self, code: int, number: int, why: str, lasted_s: float) -> None:
        self.code = code
        self.signal = number
        self.reason = why
        self.ended = time.time()
        self.lasted_s = lasted_s
        self.usage: tuple[float, float, int] = (0.0, 0.0, 0)


class Job:
    """A job; made and started by `Jobs`.

    Args:
        loop: The keeper's loop.
        job_id: Its name.
        output: Where its output goes.
        on_finished: Called once, when its end is known and its output stored.
        on_closed: Called once, when nothing can write to it any more.
    """

    def __init__(
        self,
        loop: Loop,
        job_id: str,
        output: Log | Spool | Ring,
        on_finished: Callable[["Job"], None],
        on_closed: Callable[["Job"], None],
    ) -> None:
        self._loop = loop
        self._on_finished = on_finished
        self._on_closed = on_closed
        self.id = job_id
        self.tag = b""
        self.output = output
        self.kind = ""
        self.label = ""
        self.mode = "merged"
        self.kept = False
        self.directory: str | None = None
        self.script: str | None = None
        self.pid = 0
        self.state = "running"
        self.started = time.time()
        self.exit: Exit | None = None
        self.waiting: list[Callable[[Job], None]] = []
        self.readers: list[Reader] = []
        self.ladder: Ladder | None = None
        self.ending = ""
        self.forgotten = False
        self.size = (0, 0)
        self.pumped = 0
        self._began = time.monotonic()
        self._streams: dict[int, int] = {}
        self._grown: set[int] = set()
        self._stdin = -1
        self._terminal = -1
        self._input = bytearray()
        self._input_ends = False
        self._limit: Timer | None = None
        self._drain: Timer | None = None
        self._deadline = 0.0
        self._last_byte = 0.0
        self._stall: Timer | None = None
        self._discarding = False

    # -- life ---------------------------------------------------------------------

    def attach(self, started: spawn.Started) -> None:
        """Take over a process that was started for this job."""
        self.pid = started.pid
        self._stdin = started.stdin
        self._terminal = started.terminal
        for fd, stream in started.outputs:
            self._streams[fd] = stream
            if fd == self._terminal:
                self._stdin = fd
                self._loop.add(fd, READ, self._terminal_event)
            else:
                self._loop.add(fd, READ, partial(self._readable, fd))

    def limit(self, timeout_s: float, action: Callable[[], None]) -> None:
        """Call `action` when the leader still runs after `timeout_s`."""
        self._limit = self._loop.later(timeout_s, action)

    def leader_exited(self, status: int, usage: tuple[float, float, int]) -> None:
        """Take note of the leader's end, as wait4(2) told it."""
        if self._limit is not None:
            self._limit.cancel()
        code = os.waitstatus_to_exitcode(status)
        why = self.ending or ("signalled" if code < 0 else "exited")
        lasted_s = time.monotonic() - self._began
        self.exit = Exit(128 - code if code < 0 else code, max(0, -code), why, lasted_s)
        self.exit.usage = usage
        self.state = "draining"
        if self.script is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.script)
        self.resume()
        for fd in list(self._streams):
            self._pump(fd)
        if self.ending == "timeout" and self.ladder is not None:
            # Answered when nothing of it is left alive: a survivor of the pipe is none.
            self.ladder.when_done(lambda _left: self.finish())
            self._drain = self._loop.later(KILL_S, self.finish)
        elif not self._streams:
            self.finish()
        else:
            now = time.monotonic()
            self._last_byte, self._deadline = now, now + DRAIN_S
            self._drain = self._loop.later(QUIET_S, self._quiet)

    def _quiet(self) -> None:
        now = time.monotonic()
        until = min(self._last_byte + QUIET_S, self._deadline)
        if now < until:
            self._drain = self._loop.later(until - now, self._quiet)
        else:
            self.finish()

    def finish(self) -> None:
        """Publish the end: nothing written before the exit is missing any more."""
        if self.state != "draining" or self.exit is None:
            return
        if self._drain is not None:
            self._drain.cancel()
        for fd in list(self._streams):
            self._pump(fd)
        self.state = "finished"
        self._close_input()
        if self.directory is not None:
            # A full disk must not lose the end: it stays in memory all the same.
            with contextlib.suppress(OSError):
                write_exit(self.directory, dict(self.exit_record()))
        self._on_finished(self)
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action(self)
        self._maybe_closed()

    def discard_rest(self) -> None:
        """From now on read what survivors write, but keep none of it."""
        self._discarding = True
        self.output.seal()

    def exit_record(self) -> Header:
        """Return the end as a header."""
        assert self.exit is not None  # noqa: S101 - asked of ended jobs only
        user_s, system_s, max_rss_bytes = self.exit.usage
        return {
            "exit_code": self.exit.code,
            "signal": self.exit.signal,
            "reason": self.exit.reason,
            "started": self.started,
            "ended": self.exit.ended,
            "duration_s": self.exit.lasted_s,
            "output_bytes": self.output.total,
            "dropped_bytes": self.output.dropped,
            "user_s": user_s,
            "system_s": system_s,
            "max_rss_bytes": max_rss_bytes,
        }

    @property
    def closed(self) -> bool:
        """Whether no byte can come any more."""
        return self.state == "finished" and not self._streams

    def abandon(self) -> None:
        """Close everything; for a job that is no longer of interest to anybody."""
        for fd in list(self._streams):
            self._close_stream(fd)
        self._close_input()
        for timer in (self._limit, self._drain, self._stall):
            if timer is not None:
                timer.cancel()

    # -- output -------------------------------------------------------------------

    def _readable(self, fd: int, _events: int) -> None:
        self._pump(fd)
        if self.state == "finished":
            self._maybe_closed()
        elif (
            self.state == "draining" and not self._streams and self.ending != "timeout"
        ):
            self.finish()

    def _terminal_event(self, events: int) -> None:
        fd = self._terminal
        if events & WRITE:
            self._flush_input(events)
        # A hang-up is told of even while nothing is asked for, and has to be read then.
        if events & ~WRITE and fd in self._streams:
            self._readable(fd, events)

    def _pump(self, fd: int) -> None:
        """Store what is there, at most `TURN_BYTES`."""
        stream = self._streams[fd]
        taken = 0
        while taken < TURN_BYTES:
            try:
                count = os.readv(fd, [_buffer])
            except BlockingIOError:
                break
            except OSError:
                # A terminal whose other side is closed reads as EIO.
                count = 0
            if count == 0:
                self._close_stream(fd)
                break
            taken += count
            if not self._discarding:
                self.output.append(_view[:count], stream)
            if count < DEFAULT_PIPE_BYTES and self.state == "running":
                break
            if count >= DEFAULT_PIPE_BYTES:
                self._grow(fd)
        if taken:
            self._received(taken)

    def _received(self, count: int) -> None:
        self.pumped += count
        if self.state == "draining":
            self._last_byte = time.monotonic()
        for reader in self.readers:
            reader.poke()
        if self._terminal >= 0 and self.readers:
            self._hold_back()

    def _grow(self, fd: int) -> None:
        if fd not in self._grown:
            self._grown.add(fd)
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _close_stream(self, fd: int) -> None:
        del self._streams[fd]
        self._loop.remove(fd)
        if fd == self._terminal:
            self._terminal = self._stdin = -1
            self._input.clear()
        os.close(fd)

    def _maybe_closed(self) -> None:
        if self.closed:
            self.output.seal()
            for reader in list(self.readers):
                reader.poke()
            self._on_closed(self)

    # -- a terminal's slow clients ------------------------------------------------

    def _hold_back(self) -> None:
        """Stop reading a terminal while an attached client is too far behind."""
        if self._stall is None and self._late_readers():
            self._loop.change(self._terminal, self._terminal_events(reading=False))
            self._stall = self._loop.later(STALL_S, self._stalled)

    def _late_readers(self) -> list[Reader]:
        total = self.output.total
        return [each for each in self.readers if total - each.offset > STALL_MARK_BYTES]

    def _stalled(self) -> None:
        for reader in self._late_readers():
            reader.drop("slow")
        self.resume()

    def resume(self) -> None:
        """Read the terminal again, unless a client is still too far behind."""
        if self._stall is None:
            return
        if self._late_readers() and self.state == "running":
            return
        self._stall.cancel()
        self._stall = None
        if self._terminal >= 0:
            self._loop.change(self._terminal, self._terminal_events(reading=True))

    def _terminal_events(self, *, reading: bool) -> int:
        return (READ if reading else 0) | (WRITE if self._input else 0)

    # -- input --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue input.

        Raises:
            Refusal: `full` when the reader does not keep up, `conflict` when there is
                nobody to read it.
        """
        if self._stdin < 0 or self._input_ends:
            raise Refusal("conflict", f"job {self.id} takes no input")
        if len(self._input) + len(data) > STDIN_MAX_BYTES:
            raise Refusal("full", f"job {self.id} does not read its input")
        waiting = bool(self._input)
        self._input += data
        if not waiting:
            self._flush_input(0)

    def end_input(self) -> None:
        """Close the input once what is queued was written; a terminal is sent EOF."""
        if self._terminal >= 0:
            self.write(b"\x04")
            return
        self._input_ends = True
        if not self._input:
            self._close_input()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal.

        Raises:
            Refusal: It has none, or has ended.
        """
        if self._terminal < 0:
            raise Refusal("conflict", f"job {self.id} has no terminal")
        spawn.resize(self._terminal, rows, columns)
        self.size = (rows, columns)

    def _flush_input(self, _events: int) -> None:
        try:
            written = os.write(self._stdin, self._input) if self._input else 0
        except BlockingIOError:
            written = 0
        except OSError:
            # Nobody reads any more; what is queued is as lost as it would be in a pipe.
            self._input.clear()
            self._close_input()
            return
        del self._input[:written]
        self._watch_input()
        if not self._input and self._input_ends:
            self._close_input()

    def _watch_input(self) -> None:
        if self._terminal >= 0:
            reading = self._stall is None
            self._loop.change(self._terminal, self._terminal_events(reading=reading))
            return
        self._loop.remove(self._stdin)
        if self._input:
            self._loop.add(self._stdin, WRITE, self._flush_input)

    def _close_input(self) -> None:
        if self._stdin >= 0 and self._stdin != self._terminal:
            self._loop.remove(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    # -- the rest -----------------------------------------------------------------

    def signal(self, number: int, *, group: bool) -> None:
        """Signal the leader, or its process group.

        Raises:
            Refusal: The leader has ended, or the number is none.
        """
        if self.state != "running":
            raise Refusal("conflict", f"job {self.id} has ended")
        # Not reaped yet, so neither number can have become another's.
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except (OSError, OverflowError) as error:
            raise Refusal("invalid", f"signal {number}: {error}") from error

    def summary(self) -> Header:
        """Return what there is to tell about the job."""
        oldest = self.output.first_offset if not isinstance(self.output, Spool) else 0
        return {
            "id": self.id,
            "pid": self.pid,
            "kind": self.kind,
            "label": self.label,
            "state": "closed" if self.closed else self.state,
            "output": self.mode,
            "kept": self.kept,
            "directory": self.directory,
            "started": self.started,
            "rows": self.size[0],
            "columns": self.size[1],
            "first_offset": oldest,
            "stored_bytes": self.output.size,
            "output_bytes": self.output.total,
            "dropped_bytes": self.output.dropped,
            "subscribers": len(self.readers),
            "exit": self.exit_record() if self.state == "finished" else None,
        }
