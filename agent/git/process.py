"""One run of the git program, in a worker thread.

GitPython starts it; here it is watched. It has ended when the process has, not when its
pipes are closed: what it left in the background (a connection that ssh shares) may hold
those for hours. What it writes is bounded. To end one early its whole group is asked,
so that git removes its locks and half-made clones, and after the grace time killed.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.errors import (
    AgentError,
    InvalidRequestError,
    TooLargeError,
    UnavailableError,
)
from agent.git.standstill import Standstill

STDERR_TAIL_BYTES = 64 * 1024
"""Of what git says about itself, the end of which says why it failed."""
BLOCK_BYTES = 256 * 1024
GRACE_S = 5.0
"""Between asking git to end and killing it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """What to run.

    Attributes:
        words: The command line, its program first.
        cwd: Where it runs.
        environment: Its whole environment.
        stdin: What it reads.
        stdout_max_bytes: What it may write; more ends it.
        on_start: Told the process id, which is the group's and the session's too.
        on_stderr: Told what it says about itself, as it comes.
        standstill: Looks for what it may wait for without end.
    """

    words: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    stdin: bytes = b""
    stdout_max_bytes: int = 0
    on_start: Callable[[int], None] | None = None
    on_stderr: Callable[[bytes], None] | None = None
    standstill: Standstill = field(default_factory=Standstill)


@dataclass(frozen=True)
class Output:
    """What came of a run."""

    code: int
    stdout: bytes
    stderr: bytes
    cancelled: bool = False

    @property
    def text(self) -> str:
        """The output without the line's end, names as the file system has them."""
        return os.fsdecode(self.stdout).removesuffix("\n")


@dataclass(eq=False)
class Process:
    """One run; `run`, or `start`, `step` and `finish`, in a thread; `cancel` from any."""

    call: Call
    _wake: int = field(default=-1, init=False)
    _cancelled: bool = field(default=False, init=False)
    _child: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _pidfd: int = field(default=-1, init=False)
    _pid: int = field(default=0, init=False)
    _exited: bool = field(default=False, init=False)
    _kill_at: float | None = field(default=None, init=False)
    _stderr: bytearray = field(default_factory=bytearray, init=False)

    def __post_init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)

    def cancel(self) -> None:
        """Have it end; whoever waits for it gets what it had."""
        if not self._cancelled:
            self._cancelled = True
            with contextlib.suppress(OSError):
                os.eventfd_write(self._wake, 1)

    def run(self) -> Output:
        """Run it to its end.

        Raises:
            AgentError: There is no git program.
            TooLargeError: It wrote more than it may; it was ended.
        """
        found = bytearray()
        try:
            self.start()
            while (block := self.step()) is not None:
                found += block
                if len(found) > self.call.stdout_max_bytes > 0:
                    raise TooLargeError("git's answer is too large to be told as one")
        finally:
            code = self.finish()
        return Output(code, bytes(found), bytes(self._stderr), self._cancelled)

    def start(self) -> None:
        """Start the program.

        Raises:
            AgentError: It cannot be started.
        """
        stdin = _readable(self.call.stdin) if self.call.stdin else None
        try:
            child = spawn(self.call, stdin)
        finally:
            if stdin is not None:
                os.close(stdin)
        try:
            self._pidfd = os.pidfd_open(child.pid)
        except OSError as error:
            child.kill()
            child.communicate()
            raise UnavailableError(f"git cannot be watched: {error}") from error
        self._child = child
        self._pid = child.pid
        self.call.standstill.started()
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None  # noqa: S101 - GitPython asks for both
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ)
        if self.call.on_start is not None:
            self.call.on_start(child.pid)

    def step(self) -> bytes | None:
        """Return what it wrote next, once there is something; None when it has ended.

        Raises:
            InvalidRequestError: It waits for a pipe; `finish` ends it.
        """
        child = self._child
        if child is None or child.stdout is None or child.stderr is None:
            return None
        stdout, stderr = child.stdout.fileno(), child.stderr.fileno()
        while not self._exited:
            self._press()
            ready = {key.fd for key, _ in self._selector.select(self._pause_s())}
            if not ready:
                self._look()
            if stderr in ready:
                self._say(self._take(stderr))
            if stdout in ready and (block := self._take(stdout)):
                return block
            # Last, so that what it wrote before is taken first.
            self._exited = self._pidfd in ready
        while block := self._take(stderr):
            self._say(block)
        return self._take(stdout) or None

    def finish(self) -> int:
        """End what still runs, give everything back, and return the exit code."""
        child = self._child
        code = -1 if child is None else self._reap(child)
        self._selector.close()
        for descriptor in (self._pidfd, self._wake):
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfd = self._wake = -1
        self._child = None
        return code

    def _reap(self, child: "subprocess.Popen[bytes]") -> int:
        if not self._exited:
            self.cancel()
            while self.step() is not None:
                """What it still says is nobody's."""
        if self._cancelled:
            # Not reaped yet, so its number is still that of its group alone.
            _signal_group(child.pid, signal.SIGKILL)
        code = child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        return code

    @property
    def pid(self) -> int:
        """Its process id, which is its group's and its session's; 0 before the start."""
        return self._pid

    @property
    def stderr(self) -> bytes:
        """The end of what it said about itself."""
        return bytes(self._stderr)

    @property
    def cancelled(self) -> bool:
        """Whether it was to end early."""
        return self._cancelled

    def _pause_s(self) -> float:
        if self._kill_at is not None:
            return self._kill_at - time.monotonic()
        return self.call.standstill.pause_s()

    def _look(self) -> None:
        """See whether it waits for what never comes."""
        if self._cancelled:
            return
        pipe = self.call.standstill.pipe(self._pid)
        if pipe:
            raise InvalidRequestError(f"{pipe} is a pipe, for which git would wait")

    def _press(self) -> None:
        """Ask a cancelled one to end, once; kill it when its time is over."""
        if not self._cancelled or self._child is None:
            return
        if self._kill_at is None:
            with contextlib.suppress(OSError):
                os.eventfd_read(self._wake)
            _signal_group(self._child.pid, signal.SIGTERM)
            self._kill_at = time.monotonic() + GRACE_S
        elif time.monotonic() >= self._kill_at:
            _signal_group(self._child.pid, signal.SIGKILL)
            self._kill_at = time.monotonic() + GRACE_S

    def _take(self, descriptor: int) -> bytes:
        try:
            block = os.read(descriptor, BLOCK_BYTES)
        except BlockingIOError:
            return b""
        if not block and descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)
        return block

    def _say(self, block: bytes) -> None:
        self._stderr += block
        del self._stderr[:-STDERR_TAIL_BYTES]
        if block and self.call.on_stderr is not None:
            self.call.on_stderr(block)


def spawn(call: Call, stdin: int | None) -> "subprocess.Popen[bytes]":
    """Start a call through GitPython's command wrapper, in a session of its own.

    Raises:
        AgentError: There is no git program.
    """
    # Here, because starting the agent loads no GitPython, which takes 120 ms; its import
    # runs git once, so it fails where there is none.
    try:
        from git.cmd import Git  # noqa: PLC0415
        from git.exc import GitCommandNotFound  # noqa: PLC0415
    except ImportError as error:
        raise AgentError("git is not installed in this sandbox") from error
    # It would log every command line.
    logging.getLogger("git").setLevel(logging.WARNING)
    try:
        process = Git(call.cwd).execute(
            list(call.words),
            istream=stdin,
            as_process=True,
            env=dict(call.environment),
            start_new_session=True,
        )
    except GitCommandNotFound as error:
        raise AgentError("git is not installed in this sandbox") from error
    except OSError as error:
        raise UnavailableError(f"git cannot be started: {error.strerror}") from error
    child = process.proc
    # Its own wrapper would end it a second time.
    process.proc = None
    assert child is not None  # noqa: S101 - it has just been made
    return child


def _readable(content: bytes) -> int:
    """Return a descriptor that gives `content`; no pipe, which would need a writer."""
    descriptor = os.memfd_create("git-stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
