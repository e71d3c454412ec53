"""One command of a session: a job that the session's shell runs, not a process of its own.

    queued --its turn--> running --the shell says its status--> draining --> finished

Everything else is as with any job: its output is stored and followed in the same way, and
its end is published after its last byte.
"""

import os
import time
from collections.abc import Callable, Iterable

from agent.keeper import tree
from agent.keeper.errors import Refusal
from agent.keeper.job import Exit, Job
from agent.keeper.loop import Loop, Timer
from agent.keeper.short_log import ShortLog
from agent.keeper.spawn import STDERR, STDOUT
from agent.keeper.stdin import STDIN_MAX_BYTES, Stdin

OPEN_AGAIN_S = 0.001
"""Until the first look whether the shell has opened its input; then twice that."""

TIMEOUT_CODE = 124
"""Of a command that its time limit has ended, where the shell knows of no failure."""

RETIRED_S = 30.0
"""Time that followers have to read the rest of a command whose session was deleted."""


class Command(Job):
    """A command; made and started by its `Session`.

    Args:
        loop: The keeper's loop.
        job_id: Its name.
        output: Where its output goes.
        text: What the shell is to run.
        takes_input: Whether its input is a pipe, else the null device.
        echoes: Whether what is written to it goes into its log too, as stdout.
    """

    def __init__(
        self,
        loop: Loop,
        job_id: str,
        output: ShortLog,
        text: bytes,
        *,
        takes_input: bool,
        echoes: bool,
    ) -> None:
        super().__init__(loop, job_id, output)
        self.state = "queued"
        self.owned = True
        self.terms.mode = "split"
        self.terms.kind = "session-command"
        self.text = text
        self.text_path: str | None = None
        self.number = 0
        self.takes_input = takes_input
        self.fifos: str | None = None
        self.timeout_s: float | None = None
        self.when_closed: Callable[[], None] = _nothing
        self._echoes = echoes
        self._shell: Job | None = None
        self._early = bytearray()
        self._no_more = False
        self._before: frozenset[int] = frozenset()
        self._spent = (0.0, 0.0)
        self._retire: Callable[[], None] | None = None
        self._retirement: Timer | None = None

    def begin(self, shell: Job, fifos: str, outputs: Iterable[int], stdin: int) -> None:
        """Become the command that the shell runs.

        Args:
            shell: The shell's job.
            fifos: The name of its pipes.
            outputs: The reading ends of stdout and stderr.
            stdin: The writing end of its input, or -1.
        """
        self.state = "running"
        self.pid = shell.pid
        self._shell = shell
        self.started = time.time()
        self._began = time.monotonic()
        self.fifos = fifos
        self._before = tree.children(shell.pid)
        self._spent = tree.times(shell.pid)
        for fd, stream in zip(outputs, (STDOUT, STDERR), strict=True):
            self._streams.add(fd, stream)
        if stdin >= 0:
            self._stdin = Stdin(self._loop, stdin)
            self._stdin.write(bytes(self._early))
            if self._no_more:
                self._end_when_open(OPEN_AGAIN_S)
        self._early.clear()

    def ended(self, code: int) -> None:
        """Take note of the status that the shell gives."""
        if self.ending == "timeout":
            # The rest of its text may have gone well once what ran had been killed.
            code = code or TIMEOUT_CODE
        signal = code - 128 if 128 < code <= 192 else 0
        self.conclude(Exit(code, self.ending, self.usage(), signal=signal))

    def usage(self) -> tuple[float, float, int]:
        """Return the processor time of the shell and what it waited for since `begin`."""
        user_s, system_s = tree.times(self.pid)
        before_user_s, before_system_s = self._spent
        return (
            max(0.0, user_s - before_user_s),
            max(0.0, system_s - before_system_s),
            0,
        )

    def say(self, text: bytes, stream: int) -> None:
        """Store what was not read from its pipes."""
        self.output.append(memoryview(text), stream)
        self._changed(len(text))

    # -- input --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue input, also before the command has begun.

        Raises:
            Refusal: `full` when it is not read, `conflict` when it cannot be.
        """
        if not self.takes_input:
            raise Refusal("conflict", f"command {self.id} takes no input")
        if self._no_more:
            raise Refusal("conflict", f"command {self.id} takes no input any more")
        if self.state == "queued":
            if len(self._early) + len(data) > STDIN_MAX_BYTES:
                raise Refusal("full", "the command has not begun to read its input")
            self._early += data
        else:
            super().write(data)
        if self._echoes:
            self.say(data, STDOUT)

    def end_input(self) -> None:
        """Close the input once what is queued was written."""
        if not self.takes_input:
            raise Refusal("conflict", f"command {self.id} takes no input")
        if self._no_more:
            raise Refusal("conflict", f"command {self.id} takes no input any more")
        if self.state != "queued":
            self._input()
            self._end_when_open(OPEN_AGAIN_S)
        self._no_more = True

    def _end_when_open(self, pause_s: float) -> None:
        """Close the input, but not before the shell has opened its end.

        Closed earlier, what was written would be gone, and the shell would wait for a
        writer that never comes. That is the time between two lines of the shell's
        script; there is nothing else that would tell of its end.
        """
        if self._stdin is None or self.state != "running" or self._shell is None:
            return
        try:
            is_open = (
                os.readlink(f"/proc/{self.pid}/fd/0") not in self._shell.input_names()
            )
        except OSError:
            is_open = True
        if is_open:
            self._stdin.end()
        else:
            self._loop.later(pause_s, lambda: self._end_when_open(pause_s * 2))

    # -- its processes ------------------------------------------------------------

    def members(self) -> list[tree.Process]:
        """Return the living processes of the command; the shell is none of them."""
        if self._shell is None or self._shell.state != "running":
            # Its number may be another's by now.
            return []
        processes = tree.table()
        fresh = {
            each.pid
            for each in processes.values()
            if each.parent == self.pid and each.pid not in self._before
        }
        # What has lost its parent came to the keeper, and is known by its output.
        fresh |= {
            each.pid
            for each in processes.values()
            if each.parent == os.getpid()
            and each.pid != self.pid
            and tree.holds(each.pid, self.pipes())
        }
        below = tree.descendants(processes, fresh)
        found = [processes[pid] for pid in fresh] + below
        return [each for each in found if each.alive]

    def signal(self, number: int, *, group: bool) -> None:
        """Signal the command's processes; the shell itself when it has none.

        Raises:
            Refusal: It does not run, or the number is none.
        """
        del group
        if self.state == "queued":
            raise Refusal("conflict", f"command {self.id} has not begun")
        if self.state != "running":
            raise Refusal("conflict", f"command {self.id} has ended")
        members = self.members()
        if not members and self._shell is not None:
            self._shell.signal(number, group=False)
            return
        for each in members:
            fd = tree.hold(each)
            if fd >= 0:
                tree.send(fd, number)
                os.close(fd)

    def pipes(self) -> frozenset[str]:
        """Return what its pipes are called in /proc/<pid>/fd."""
        if self.fifos is None or not self._streams:
            return frozenset()
        return frozenset((f"{self.fifos}.out", f"{self.fifos}.err"))

    # -- its end ------------------------------------------------------------------

    def _maybe_closed(self) -> None:
        super()._maybe_closed()
        if self.closed:
            closed, self.when_closed = self.when_closed, _nothing
            closed()

    def retire(self, remove: Callable[[], None]) -> None:
        """Be removed, by `remove`, as soon as those who follow have read the rest."""
        self._streams.close_all()
        self.finish()
        self._maybe_closed()
        if not self.readers:
            remove()
            return
        self._retire = remove
        self._retirement = self._loop.later(RETIRED_S, self._retired)

    def reader_moved(self) -> None:
        """Hear that a reader has caught up a little, or left."""
        super().reader_moved()
        if self._retire is not None and not self.readers:
            self._retired()

    def _retired(self) -> None:
        remove, self._retire = self._retire, None
        if self._retirement is not None:
            self._retirement.cancel()
        if remove is not None:
            remove()


def _nothing() -> None:
    """Do nothing."""
