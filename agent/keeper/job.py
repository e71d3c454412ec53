"""One process started for somebody, from its start to its last byte.

    running --leader exits--> draining --pipes quiet or closed--> finished
    finished --pipes closed--> closed

Completion is the exit of the leader, never the end of a pipe: a background child may
hold the pipe for as long as it likes, with a working stdout. The end is published after
the last byte is stored. What comes later goes into the log of a job that is followed, and
to nowhere for one that is answered as a whole: its answer has been given.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Protocol

from agent.keeper import spawn
from agent.keeper.brake import Brake, Reader
from agent.keeper.cgroup import Group
from agent.keeper.errors import Refusal
from agent.keeper.frames import Header
from agent.keeper.ladder import Ladder
from agent.keeper.limits import Limits
from agent.keeper.live import TURN_BYTES, WAITING_MARK_BYTES, LiveOutput
from agent.keeper.logs import Run, Spool
from agent.keeper.loop import Loop, Timer
from agent.keeper.state import write_exit
from agent.keeper.stdin import Stdin, Terminal
from agent.keeper.streams import Streams

QUIET_S = 0.05
"""After the exit: silence after which the output counts as complete."""

DRAIN_S = 0.15
"""After the exit: the longest wait for silence (contract 30, 3.6)."""

KILL_S = 0.5
"""After a time limit: the longest that the answer waits for the tree to be gone."""


class Terms:
    """What is known of a job before it starts.

    Attributes:
        tag: What its processes carry in their environment.
        mode: `merged`, `split` or `pty`.
        directory: Of a kept job: where its log and its end are.
        script: A file to be removed when the leader has read it, at its exit.
        size: Rows and columns of its terminal.
        limits: What it may use.
        group: The group that bounds its tree, if it has one.
        told: What the timeline is told of it, besides the rest.
        program: What it runs, as far as the timeline is told.
    """

    __slots__ = (
        "directory",
        "group",
        "kind",
        "label",
        "limits",
        "mode",
        "program",
        "script",
        "size",
        "tag",
        "told",
    )

    def __init__(self) -> None:
        self.tag = b""
        self.kind = ""
        self.label = ""
        self.mode = "merged"
        self.directory: str | None = None
        self.script: str | None = None
        self.size = (0, 0)
        self.limits = Limits()
        self.group: Group | None = None
        self.told: Header = {}
        self.program = ""


class Output(Protocol):
    """Where a job's output goes, and whence it is read."""

    total: int

    @property
    def first_offset(self) -> int:
        """The oldest byte that is there."""

    @property
    def size(self) -> int:
        """The offset after the last byte that is there."""

    @property
    def dropped(self) -> int:
        """Bytes that were not kept."""

    def append(self, view: memoryview, stream: int) -> None:
        """Store bytes of a stream."""

    def read(
        self, offset: int, record: int, limit: int
    ) -> tuple[list[Run], bytes | memoryview, int]:
        """Return what is stored from an offset on."""

    def locate(self, offset: int) -> int:
        """Return the record that holds an offset."""

    def seal(self) -> None:
        """Take note that nothing more comes."""

    def hold(self) -> None:
        """Stay readable for a reader."""

    def release(self) -> None:
        """Take back one `hold`."""

    def remove(self) -> None:
        """Delete what is stored."""


class Exit:
    """How a job ended, as it is told and written down."""

    __slots__ = ("code", "ended", "lasted_s", "reason", "signal", "usage")

    def __init__(
        self,
        code: int,
        reason: str = "",
        usage: tuple[float, float, int] = (0.0, 0.0, 0),
        *,
        signal: int = 0,
    ) -> None:
        self.code = code
        self.signal = signal
        self.reason = reason or ("signalled" if signal else "exited")
        self.ended = time.time()
        self.lasted_s = 0.0
        self.usage = usage

    @classmethod
    def of_status(
        cls, status: int, why: str, usage: tuple[float, float, int]
    ) -> "Exit":
        """Return what a wait status stands for; `why` it was ended, if it was."""
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return cls(128 - code, why, usage, signal=-code)
        return cls(code, why, usage)


class Job:
    """A job; made and started by `Jobs`.

    Args:
        loop: The keeper's loop.
        job_id: Its name.
        output: Where its output goes.
    """

    def __init__(self, loop: Loop, job_id: str, output: Output | Spool) -> None:
        self._loop = loop
        self.id = job_id
        self.output = output
        self.terms = Terms()
        self.pid = 0
        self.state = "running"
        self.started = time.time()
        self.exit: Exit | None = None
        self.ending = ""
        """Why it is being ended, if it is: `timeout` or `deleted`."""
        self.ladder: Ladder | None = None
        self.owned = False
        """Whether it belongs to a session, and is forgotten with that only."""
        self.held = False
        """Whether its result, answered as a whole, stays until it is forgotten."""
        self.waiting: list[Callable[[Job], None]] = []
        self.readers: list[Reader] = []
        self._began = time.monotonic()
        self._streams = Streams(loop, output.append, self._changed)
        self._stdin: Stdin | None = None
        self._terminal = -1
        self._brake: Brake | None = None
        self._limit: Timer | None = None
        self._drain: Timer | None = None
        self._deadline = 0.0
        self._last_byte = 0.0

    # -- life ---------------------------------------------------------------------

    def attach(self, started: spawn.Started) -> None:
        """Take over a process that was started for this job."""
        self.pid = started.pid
        for fd, stream in started.outputs:
            self._streams.add(fd, stream)
        if started.terminal >= 0:
            self._terminal = started.terminal
            self._stdin = Terminal(self._loop, started.terminal, self._streams)
            self._brake = Brake(self._loop, self._streams, self.readers)
        elif started.stdin >= 0:
            self._stdin = Stdin(self._loop, started.stdin)
        if isinstance(self.output, LiveOutput):
            self.output.readers = self.readers
            self._streams.turn_bytes = TURN_BYTES
            self._brake = Brake(
                self._loop, self._streams, self.readers, WAITING_MARK_BYTES, None
            )

    def limit(self, timeout_s: float, action: Callable[[], None]) -> None:
        """Call `action` when the leader still runs after `timeout_s`."""
        self._limit = self._loop.later(timeout_s, action)

    def leader_exited(self, status: int, usage: tuple[float, float, int]) -> None:
        """Take note of the leader's end, as wait4(2) told it."""
        self.conclude(Exit.of_status(status, self.ending, usage))

    def conclude(self, how: Exit) -> None:
        """Take note of the end; it is published once the output is complete."""
        if self._limit is not None:
            self._limit.cancel()
        how.lasted_s = time.monotonic() - self._began
        self.exit = how
        self.state = "draining"
        if self.terms.script is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.terms.script)
        if self._brake is not None:
            self._brake.release()
        self._streams.to_the_last = True
        self._streams.pump_all()
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
        if self.state != "draining":
            return
        if self._drain is not None:
            self._drain.cancel()
        self._streams.pump_all()
        self.state = "finished"
        if self._stdin is not None:
            self._stdin.close()
        if self.terms.directory is not None:
            # A full disk must not lose the end: it stays in memory all the same.
            with contextlib.suppress(OSError):
                write_exit(self.terms.directory, self.exit_record())
        if isinstance(self.output, Spool):
            self.discard_rest()
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action(self)
        self._maybe_closed()

    def discard_rest(self) -> None:
        """From now on read what survivors write, but keep none of it."""
        self._streams.discard()
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

    @property
    def is_past(self) -> bool:
        """Whether it is a session's, and over in every way."""
        return self.owned and self.closed

    def _maybe_closed(self) -> None:
        if self.closed:
            self.output.seal()
            for reader in list(self.readers):
                reader.poke()

    # -- output and input ---------------------------------------------------------

    def _changed(self, count: int) -> None:
        """Hear from the streams that bytes were stored, or that one was closed."""
        for reader in self.readers:
            reader.poke()
        if self._brake is not None and self.state == "running":
            self._brake.check(self.output.total)
        if self.state == "draining":
            if count:
                self._last_byte = time.monotonic()
            if not self._streams and self.ending != "timeout":
                self.finish()
        elif self.state == "finished":
            self._maybe_closed()

    def reader_moved(self) -> None:
        """Hear that a reader has caught up a little, or left."""
        if self._brake is not None and self.state == "running":
            self._brake.check(self.output.total)

    def write(self, data: bytes) -> None:
        """Queue input.

        Raises:
            Refusal: `full` when it is not read, `conflict` when it cannot be.
        """
        self._input().write(data)

    def end_input(self) -> None:
        """Close the input once what is queued was written; a terminal is sent EOF."""
        self._input().end()

    def _input(self) -> Stdin:
        if self._stdin is None or self.state != "running":
            raise Refusal("conflict", f"job {self.id} takes no input")
        return self._stdin

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal.

        Raises:
            Refusal: It has none, or has ended.
        """
        if self._terminal < 0 or not self._streams:
            raise Refusal("conflict", f"job {self.id} has no terminal")
        spawn.resize(self._terminal, rows, columns)
        self.terms.size = (rows, columns)

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

    def input_names(self) -> frozenset[str]:
        """Return what its input is called in /proc/<pid>/fd."""
        return self._stdin.names() if self._stdin is not None else frozenset()

    def pipes(self) -> frozenset[str]:
        """Return the names of the pipes that what came of it may still hold."""
        return self._streams.names()

    def summary(self) -> Header:
        """Return what there is to tell about the job."""
        terms, output = self.terms, self.output
        return {
            "id": self.id,
            "pid": self.pid,
            "kind": terms.kind,
            "label": terms.label,
            "state": "closed" if self.closed else self.state,
            "output": terms.mode,
            "kept": terms.directory is not None,
            "directory": terms.directory,
            "started": self.started,
            "rows": terms.size[0],
            "columns": terms.size[1],
            "first_offset": output.first_offset,
            "stored_bytes": output.size,
            "output_bytes": output.total,
            "dropped_bytes": output.dropped,
            "subscribers": len(self.readers),
            "exit": self.exit_record() if self.state == "finished" else None,
        }
