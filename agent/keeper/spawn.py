"""Starts processes: `posix_spawn`, own session, nothing inherited but 0, 1 and 2.

glibc's `posix_spawn` is a vfork, so its price does not depend on the keeper's size, and
it makes the new session before it goes through the file actions: opening a terminal as
descriptor 0 therefore makes it the controlling one (man 3 posix_spawn, man 4 tty). It has
no working directory, which is why the keeper goes there for the moment; it is alone in its
process, so nobody notices.
"""

import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
from typing import NoReturn

from agent.keeper.cgroup import Group
from agent.keeper.errors import Refusal, reason
from agent.keeper.hardening import Standing, default_signals
from agent.keeper.limits import Limits, take_on

STDOUT = 1
STDERR = 2
CONTROL = 3
"""What a program of ours says besides its output: both the stream and the descriptor."""

_WINDOW = struct.Struct("HHHH")


Action = tuple[int, int, int] | tuple[int, int, str, int, int]


class Started:
    """A process that was started, and the keeper's ends of what it was given.

    Attributes:
        pid: The process; also its group's and its session's number.
        outputs: Descriptors to read, with the stream each one is.
        stdin: Descriptor to write to, or -1.
        terminal: The master when it is a terminal, or -1.
    """

    __slots__ = ("outputs", "pid", "stdin", "terminal")

    def __init__(self) -> None:
        self.pid = 0
        self.outputs: list[tuple[int, int]] = []
        self.stdin = -1
        self.terminal = -1


class Plan:
    """What is to be started, and with what.

    Attributes:
        argv: Program and arguments.
        environment: All of its variables.
        cwd: Its directory, absolute.
        output: `merged`, `split` or `pty`.
        stdin: `null` or `pipe`; a terminal has its own.
        control: A pipe as descriptor 3 too, whose bytes are a stream of their own.
        size: Rows and columns of a terminal.
        limits: What it may use.
        group: The group that bounds its tree, if it has one.
    """

    __slots__ = (
        "argv",
        "control",
        "cwd",
        "environment",
        "group",
        "limits",
        "output",
        "size",
        "stdin",
    )

    def __init__(
        self, argv: list[bytes], cwd: bytes, environment: dict[bytes, bytes]
    ) -> None:
        self.argv = argv
        self.cwd = cwd
        self.environment = environment
        self.output = "merged"
        self.stdin = "null"
        self.control = False
        self.size = (24, 80)
        self.limits = Limits()
        self.group: Group | None = None


class Spawner:
    """Starts processes for the keeper."""

    def __init__(self) -> None:
        self.standing = Standing()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._signals = default_signals()

    def start(self, plan: Plan) -> Started:
        """Start a process as planned.

        Raises:
            Refusal: `start-failed`, with the reason in words; `too-many` when
                descriptors or processes have run out.
        """
        started = Started()
        theirs: list[int] = []
        try:
            actions = self._connect(plan, started, theirs)
            started.pid = self._spawn(plan, actions)
        except BaseException as error:
            for fd in _all_fds(started):
                os.close(fd)
            if isinstance(error, OSError):
                raise _failure("cannot start a process", error) from error
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return started

    def _connect(self, plan: Plan, started: Started, theirs: list[int]) -> list[Action]:
        """Make the pipes or the terminal; return the child's side of them."""
        dup2 = os.POSIX_SPAWN_DUP2
        if plan.output == "pty":
            return _connect_terminal(plan, started, theirs)
        stdin = self._null
        if plan.stdin == "pipe":
            stdin, started.stdin = os.pipe2(os.O_CLOEXEC)
            theirs.append(stdin)
            os.set_blocking(started.stdin, False)
        actions: list[Action] = [(dup2, stdin, 0)]
        out = _output_pipe(STDOUT, started, theirs)
        err = _output_pipe(STDERR, started, theirs) if plan.output == "split" else out
        actions += [(dup2, out, 1), (dup2, err, 2)]
        if plan.control:
            # The last one: until here descriptor 3 may be one of the others.
            control = _output_pipe(CONTROL, started, theirs)
            actions.append((dup2, control, CONTROL))
        return actions

    def _spawn(self, plan: Plan, actions: list[Action]) -> int:
        program = _find(plan.argv[0], plan.environment)
        try:
            os.chdir(plan.cwd)
        except OSError as error:
            shown = os.fsdecode(plan.cwd)
            raise Refusal(
                "start-failed", reason(f"chdir {shown}", error), error.errno or 0
            ) from error
        self.standing.childs()
        try:
            if plan.limits:
                return self._fork(program, plan, actions)
            return os.posix_spawn(
                program,
                plan.argv,
                plan.environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=self._signals,
            )
        except OSError as error:
            shown = os.fsdecode(plan.argv[0])
            raise _failure(f"exec {shown}", error) from error
        finally:
            self.standing.mine()
            os.chdir("/")

    def _fork(self, program: bytes, plan: Plan, actions: list[Action]) -> int:
        """Start a process with bounds, which `posix_spawn` knows nothing of.

        A plain fork is sound here, since the keeper has one thread; it costs as much as
        the keeper is large, so only what is bounded pays for it.

        Raises:
            OSError: The program cannot be run, or the bounds cannot be set.
        """
        told, tell = os.pipe2(os.O_CLOEXEC)
        # No handler of ours may run in the child, nor wake up the keeper.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._become(program, plan, actions, tell)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(tell)
        with open(told, "rb") as answers:
            number = answers.read()
        if number:
            os.waitpid(pid, 0)
            raise OSError(int(number), os.strerror(int(number)))
        return pid

    def _become(
        self, program: bytes, plan: Plan, actions: list[Action], tell: int
    ) -> NoReturn:
        """Be the program; a failure is told as its number."""
        try:
            os.setsid()
            for each in self._signals:
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for action in actions:
                _act(action)
            if plan.group is not None:
                plan.group.enter()
            take_on(plan.limits.rlimits(has_group=plan.group is not None))
            os.execve(program, plan.argv, plan.environment)  # noqa: S606 - as `posix_spawn`
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or errno.EINVAL))
        finally:
            os._exit(127)


def _act(action: Action) -> None:
    """Do in the child what `posix_spawn` would do."""
    if len(action) == 5:
        _, number, path, flags, mode = action
        fd = os.open(str(path), flags, mode)
    else:
        _, fd, number = action
    if fd == number:
        os.set_inheritable(fd, True)
    else:
        os.dup2(fd, number)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set a terminal's size; its foreground group is told by the kernel."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, _WINDOW.pack(rows, columns, 0, 0))


def _connect_terminal(plan: Plan, started: Started, theirs: list[int]) -> list[Action]:
    master, slave = os.openpty()
    started.terminal = master
    started.outputs.append((master, STDOUT))
    theirs.append(slave)
    os.set_blocking(master, False)
    resize(master, *plan.size)
    # Opened by the child itself: that is what makes it the controlling terminal.
    return [
        (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]


def _output_pipe(stream: int, started: Started, theirs: list[int]) -> int:
    ours, their = os.pipe2(os.O_CLOEXEC)
    started.outputs.append((ours, stream))
    theirs.append(their)
    os.set_blocking(ours, False)
    return their


def _all_fds(started: Started) -> set[int]:
    fds = {fd for fd, _ in started.outputs}
    return fds | {started.stdin} if started.stdin >= 0 else fds


def _find(name: bytes, environment: dict[bytes, bytes]) -> bytes:
    """Return the program's path, searched along the PATH that the child will have."""
    if b"/" in name:
        return name
    for directory in environment.get(b"PATH", os.defpath.encode()).split(b":"):
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise Refusal(
        "start-failed", f"exec {os.fsdecode(name)}: not found on PATH", errno.ENOENT
    )


def _failure(what: str, error: OSError) -> Refusal:
    number = error.errno or 0
    if number in {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}:
        return Refusal("too-many", reason(what, error), number)
    return Refusal("start-failed", reason(what, error), number)


def close_quietly(fd: int) -> None:
    """Close a descriptor, whatever the system says to it."""
    with contextlib.suppress(OSError):
        os.close(fd)
