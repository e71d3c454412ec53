r"""A session: one long-lived shell that runs commands, one after the other.

The shell reads its script from a pipe, a few lines for each command:

    command . <directory>/command.sh </dev/null >1.out 2>1.err
    command printf '<mark> <number> %s\\n' "$?"

The command's text is in a file that the shell sources, so that no quote, heredoc or
backslash of it reaches our own lines; its output goes to named pipes that only it has; and
the shell's own standard output, which no command ever sees, tells the status. Nothing
helps the shell: no process is started but what the command itself starts. The prefix
(`command`, in zsh `builtin`) makes a function of the same name harmless, and a syntax error
survivable in shells where it would end a sourced script's shell (dash, busybox ash).
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent.keeper import fields, tree
from agent.keeper.accounts import Accounts, signal_name
from agent.keeper.command import Command
from agent.keeper.errors import Refusal, reason
from agent.keeper.fifos import Fifos
from agent.keeper.frames import Header
from agent.keeper.job import Exit, Job
from agent.keeper.limits import Loan
from agent.keeper.logs import Run
from agent.keeper.loop import Loop, Timer
from agent.keeper.spawn import STDERR, STDOUT
from agent.keeper.state import State

QUEUE_MAX = 1024
"""Commands that wait for their turn in one session."""

KEPT_MAX = 10_000
"""Commands that one session remembers; the oldest that have ended are forgotten."""

TEXT_MAX_BYTES = 16 * 1024
"""A command's text that is held in memory; a longer one stays in a file."""

READY_S = 5.0
"""Time that a shell's start-up files have; then it is started without them."""

UNKILLED_S = 0.2
"""After a time limit: time that the shell has to tell the end of what was killed."""

NOISE_MAX_BYTES = 64 * 1024
"""What the shell itself says at its end, as an EXIT trap does."""


class Keep(Protocol):
    """What a session needs of the keeper's jobs."""

    accounts: Accounts

    def start_shell(self, header: Header, shell: Callable[[str], Job]) -> Job:
        """Start a shell; `shell` makes its job, given its name."""

    def adopt(self, command: Command) -> None:
        """Make a command known as a job."""

    def drop(self, job: Job) -> None:
        """Forget a job and its output."""

    def end(self, job: Job, grace_s: float, done: Callable[[int], None]) -> None:
        """End a job and all that came of it."""

    def cause(self, job: Job, code: int) -> str:
        """Return which bound a job that ended with a code has met, or nothing."""


class Mouth:
    """Where the standard output of a session's shell goes: to the session."""

    first_offset = 0
    size = 0
    dropped = 0

    def __init__(self, hear: Callable[[memoryview], None]) -> None:
        self._hear = hear
        self.total = 0

    def append(self, view: memoryview, stream: int) -> None:
        """Pass on what the shell says; what it complains of is not a command's."""
        if stream == STDOUT:
            self._hear(view)

    def read(
        self, _offset: int, record: int, _limit: int
    ) -> tuple[list[Run], bytes, int]:
        """Return nothing: it is not kept."""
        return [], b"", record

    def locate(self, _offset: int) -> int:
        """Return 0, as there is nothing."""
        return 0

    def seal(self) -> None:
        """Do nothing: there is nothing to close."""

    hold = release = remove = seal


class Shell(Job):
    """The job of a session's shell.

    Args:
        loop: The keeper's loop.
        job_id: Its name.
        session: Whose shell it is.
    """

    def __init__(self, loop: Loop, job_id: str, session: "Session") -> None:
        super().__init__(loop, job_id, Mouth(session.hear))
        self.owned = True
        self._session = session

    def pipes(self) -> frozenset[str]:
        """Return the names of its own pipes and those of its commands."""
        return super().pipes() | self._session.pipes()


class Session:
    """A session; made by `Sessions`.

    Args:
        loop: The keeper's loop.
        state: Who makes files.
        keep: The keeper's jobs.
        name: The client's name for it.
        directory: Where its files and pipes are.
        header: What the shell is started with.
    """

    def __init__(
        self,
        loop: Loop,
        state: State,
        keep: Keep,
        name: str,
        directory: str,
        header: Header,
    ) -> None:
        self._loop = loop
        self._state = state
        self._keep = keep
        self._header = header
        self._directory = directory
        self._fifos = Fifos(state, directory)
        self._prefix = fields.raw(fields.text(header, "prefix"))
        self._mark = b"\x01" + os.urandom(6).hex().encode()
        self._heard = bytearray()
        self._noise = bytearray()
        self._queue: deque[Command] = deque()
        self._running: Command | None = None
        self._loan: Loan | None = None
        self._ready = False
        self._is_plain = False
        self._is_gone = False
        self._patience: Timer | None = None
        self._count = 0
        self.name = name
        self.commands: dict[str, Command] = {}
        self.ended = False
        self.deleted = False
        state.make_directory(directory)
        self.shell = self._start()

    def _start(self) -> Job:
        shell = self._keep.start_shell(
            self._header, lambda job_id: Shell(self._loop, job_id, self)
        )
        shell.waiting.append(self._shell_ended)
        self._patience = self._loop.later(READY_S, self._start_plainly)
        shell.write(self._status_line(b"hello", b"0"))
        return shell

    def _status_line(self, number: bytes, status: bytes) -> bytes:
        mark = self._mark.replace(b"\x01", b"\\001")
        return b"%s printf '%s %s %%s\\n' %s\n" % (self._prefix, mark, number, status)

    def _start_plainly(self) -> None:
        """Start the shell again, without the files that kept it from being ready."""
        if self._ready or self.deleted:
            return
        if self._is_plain:
            self._keep.end(self.shell, 0, lambda _left: None)
            return
        self._is_plain = True
        shell = self.shell
        self._header = {
            **self._header,
            "argv": self._header.get("plain"),
            "unset": ["BASH_ENV", "ENV"],
        }
        self._keep.end(shell, 0, lambda _left: self._keep.drop(shell))
        self._heard.clear()
        try:
            self.shell = self._start()
        except Refusal:
            self._over(Exit(-1, "start-failed"))

    # -- commands -----------------------------------------------------------------

    def run(self, command: Command) -> None:
        """Run a command when all before it have ended.

        Raises:
            Refusal: `gone` when the shell has ended; `too-many`; `os` when there is no
                room for its text.
        """
        if self.ended or self.deleted:
            raise Refusal("gone", "session has ended")
        if len(self._queue) >= QUEUE_MAX:
            raise Refusal("too-many", f"{QUEUE_MAX} commands wait in this session")
        self._count += 1
        command.number = self._count
        if len(command.text) > TEXT_MAX_BYTES:
            path = os.path.join(self._directory, f"{self._count}.sh")
            self._write(path, command.text)
            command.text, command.text_path = b"", path
        if self._ready and self._running is None and not self._queue:
            self._begin(command)
        else:
            self._queue.append(command)
        self.commands[command.id] = command
        self._keep.adopt(command)
        self._forget_oldest()

    def get(self, job_id: str) -> Command:
        """Return a command.

        Raises:
            Refusal: There is none of that name in this session.
        """
        command = self.commands.get(job_id)
        if command is None:
            raise Refusal("not-found", "command not found")
        return command

    def text_of(self, command: Command) -> bytes:
        """Return a command's text as it was sent; empty when its file is gone."""
        if command.text_path is None:
            return command.text
        try:
            with open(command.text_path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def _begin(self, command: Command) -> None:
        """Let the shell run a command.

        Raises:
            Refusal: `os`, when its text cannot be written or its pipes cannot be made.
        """
        path = command.text_path
        if path is None:
            path = os.path.join(self._directory, "command.sh")
            self._write(path, command.text)
        try:
            name, outputs = self._fifos.outputs()
        except OSError as error:
            raise Refusal("os", reason("pipes", error), error.errno or 0) from error
        stdin = -1
        if command.takes_input:
            try:
                stdin = self._fifos.input(name)
            except OSError as error:
                for fd in outputs:
                    os.close(fd)
                raise Refusal("os", reason("input", error), error.errno or 0) from error
        self._running = command
        command.terms.group = self.shell.terms.group
        command.begin(self.shell, name, outputs, stdin)
        self._lend(command)
        command.when_closed = lambda: self._fifos.give_back(name)
        self._keep.accounts.started(command)
        if command.timeout_s:
            command.limit(command.timeout_s, lambda: self._time_over(command))
        source = _quoted(f"{name}.in") if command.takes_input else b"/dev/null"
        self.shell.write(
            b"%s . %s <%s >%s 2>%s\n"
            % (
                self._prefix,
                _quoted(path),
                source,
                _quoted(f"{name}.out"),
                _quoted(f"{name}.err"),
            )
            + self._status_line(b"%d" % command.number, b'"$?"')
        )

    def _lend(self, command: Command) -> None:
        """Bound the shell for the time of a command; what it starts is bounded too."""
        limits = command.terms.limits
        if not limits:
            command.terms.limits = self.shell.terms.limits
            return
        with contextlib.suppress(OSError):
            used_s = sum(tree.times(self.shell.pid))
            self._loan = Loan(self.shell.pid, limits, used_s)

    def _write(self, path: str, text: bytes) -> None:
        try:
            try:
                fd = self._open(path)
            except FileNotFoundError:
                self._state.make_directory(self._directory)
                fd = self._open(path)
            try:
                rest = memoryview(text)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                # Cut now and not when it was opened: a file that is emptied and
                # written anew is flushed by ext4 when it is closed (man 5 ext4,
                # auto_da_alloc), which takes longer than all the rest of a command.
                os.ftruncate(fd, len(text))
            finally:
                os.close(fd)
        except OSError as error:
            raise Refusal("os", reason("command", error), error.errno or 0) from error

    def _open(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def _next(self) -> None:
        while self._queue and self._running is None and self._ready:
            command = self._queue.popleft()
            try:
                self._begin(command)
            except Refusal as refusal:
                command.say(f"{refusal.message}\n".encode(), STDERR)
                self._never_ran(command, "start-failed")

    def _forget_oldest(self) -> None:
        excess = len(self.commands) - KEPT_MAX
        if excess <= 0:
            return
        closed = [each for each in self.commands.values() if each.closed]
        for command in closed[:excess]:
            self._forget(command)

    def _forget(self, command: Command) -> None:
        del self.commands[command.id]
        if command.text_path is not None:
            self._state.drop(command.text_path)
        command.retire(lambda: self._keep.drop(command))

    # -- what the shell says ------------------------------------------------------

    def hear(self, view: memoryview) -> None:
        """Take what the shell itself has written to its standard output."""
        self._heard += view
        while (end := self._heard.find(b"\n")) >= 0:
            line = bytes(self._heard[:end])
            del self._heard[: end + 1]
            before, mark, after = line.partition(self._mark)
            words = after.split()
            if mark and len(words) == 2 and words[1].isdigit():
                self._told(words[0], int(words[1]))
            else:
                self._noise += before + mark + after + b"\n"
        # Of a trap, most likely: the last words of a shell that is ending.
        if len(self._heard) > NOISE_MAX_BYTES:
            self._noise += self._heard
            self._heard.clear()
        del self._noise[:-NOISE_MAX_BYTES]

    def _told(self, number: bytes, status: int) -> None:
        self._noise.clear()
        running = self._running
        if number == b"hello":
            self._ready = True
            if self._patience is not None:
                self._patience.cancel()
        elif running is not None and number == b"%d" % running.number:
            self._running = None
            self._done_with(running)
            running.ending = running.ending or self._keep.cause(running, status)
            running.ended(status)
        self._next()

    def _done_with(self, command: Command) -> None:
        if self._loan is not None and self.shell.state == "running":
            self._loan.give_back()
        self._loan = None
        if command.takes_input and command.fifos is not None:
            self._fifos.drop_input(command.fifos)

    def _time_over(self, command: Command) -> None:
        """End what a command runs; and the shell, if it is the shell that runs."""
        if command.state != "running":
            return
        command.ending = "timeout"
        for each in command.members():
            fd = tree.hold(each)
            if fd >= 0:
                tree.send(fd, 9)
                os.close(fd)

        def insist() -> None:
            if command.state == "running" and not self.deleted:
                self._keep.end(self.shell, 0, lambda _left: None)

        self._loop.later(UNKILLED_S, insist)

    # -- the end ------------------------------------------------------------------

    def _shell_ended(self, shell: Job) -> None:
        if shell is not self.shell:
            return
        is_ours = not self.deleted and not shell.ending
        if is_ours and not self._ready and not self._is_plain:
            self._start_plainly()
            return
        assert shell.exit is not None  # noqa: S101 - that is what it tells
        how = shell.exit
        self._over(Exit(how.code, how.reason, signal=how.signal))

    def _over(self, how: Exit) -> None:
        self.ended = True
        if self._patience is not None:
            self._patience.cancel()
        running, self._running = self._running, None
        if running is not None:
            self._done_with(running)
            last_words = bytes(self._noise + self._heard)
            if last_words:
                running.say(last_words, STDOUT)
            why = "deleted" if self.deleted else running.ending or how.reason
            running.conclude(Exit(how.code, why, running.usage(), signal=how.signal))
        queued, self._queue = self._queue, deque()
        for command in queued:
            self._never_ran(command, "deleted" if self.deleted else "not-started")
        if not self.deleted:
            told: Header = {"session": self.name, "exitCode": how.code}
            if how.signal:
                told["signal"] = signal_name(how.signal)
            self._keep.accounts.tell("session.ended", {**told, "reason": how.reason})

    def _never_ran(self, command: Command, why: str) -> None:
        self._keep.accounts.never_started(command, why)
        command.conclude(Exit(-1, why))

    def end(self, grace_s: float, done: Callable[[int], None]) -> None:
        """End the shell and all that came of it, and forget the commands."""
        self.deleted = True

        def gone(left: int) -> None:
            self._gone()
            done(left)

        self._keep.end(self.shell, grace_s, gone)

    def _gone(self) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self.shell.finish()
        if not self.ended:
            # It could not be killed: nobody will ever tell.
            self._over(Exit(-1, "lost"))
        for command in list(self.commands.values()):
            self._forget(command)
        self._keep.drop(self.shell)
        self._state.drop(self._directory)

    def summary(self) -> Header:
        """Return what there is to tell, the commands left out."""
        told: Header = {
            "session": self.name,
            "pid": self.shell.pid,
            "job": self.shell.id,
            "started": self.shell.started,
            "ended": self.ended or self.deleted,
            "commands": len(self.commands),
        }
        return told

    def pipes(self) -> frozenset[str]:
        """Return the names of the pipes that commands of it may still hold."""
        held = (each.pipes() for each in self.commands.values())
        return frozenset().union(*held)


def _quoted(path: str) -> bytes:
    """Return a path as a word of a shell's line."""
    return b"'" + os.fsencode(path).replace(b"'", b"'\\''") + b"'"
