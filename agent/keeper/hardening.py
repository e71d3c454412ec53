"""What the keeper makes of its own process before it starts others (man 2 prctl)."""

import contextlib
import ctypes
import os
import resource
import signal

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

OWN_OOM_SCORE = -900
"""The keeper dies last; not -1000, so that a leak in it can still be ended."""

CHILD_OOM_SCORE = 100
"""Children are always the better choice for the kernel, from their first moment."""


def prctl(option: int, value: int) -> None:
    """Set one property of the process.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def show_as(name: bytes) -> None:
    """Set the name under which process lists show this process, at most 15 bytes."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)


def hide() -> None:
    """Keep other processes of the uid from reading memory, environment, descriptors."""
    with contextlib.suppress(OSError):
        prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(4)[1]))


def wipe_environment() -> None:
    """Overwrite what the kernel shows as this process's environment (man 5 proc).

    For a process that starts nothing more: its own variables are gone too.
    """
    os.environ.clear()
    with contextlib.suppress(OSError), open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
        # Fields 50 and 51 of the line, the third being the first after the name.
        start, end = int(fields[47]), int(fields[48])
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def open_standard_fds() -> None:
    """Open what is closed of 0, 1 and 2, so that no socket gets such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


class Standing:
    """Priority, descriptor limit and OOM score: the keeper's own, and its children's.

    All three are inherited, so the children's are set around each spawn: set afterwards
    they would come too late for grandchildren.
    """

    def __init__(self) -> None:
        self._oom_fd = -1
        self._own_score = b"0"
        self._child_score = b"0"
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._child_files = (soft, hard)
        self._own_files = (hard, hard)

    def take(self) -> None:
        """Protect this process as far as the system permits."""
        # Opened while the process is still dumpable: afterwards its /proc files belong
        # to root, and only the opening is checked.
        with contextlib.suppress(OSError):
            self._oom_fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            current = int(os.pread(self._oom_fd, 16, 0))
            self._child_score = b"%d" % max(CHILD_OOM_SCORE, current)
            self._own_score = b"%d" % current
            self._write(b"%d" % OWN_OOM_SCORE)
            self._own_score = b"%d" % OWN_OOM_SCORE
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, 0)
        self.mine()

    def give(self, pid: int) -> None:
        """Give the keeper's own to a process that was started before it had them."""
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, self._own_files)
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{pid}/oom_score_adj", "wb") as file,
        ):
            file.write(self._own_score)

    def childs(self) -> None:
        """Take on what the process about to be started has to inherit."""
        if self._oom_fd >= 0:
            with contextlib.suppress(OSError):
                self._write(self._child_score)
        if self._child_files != self._own_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._child_files)

    def mine(self) -> None:
        """Take back the keeper's own."""
        if self._child_files != self._own_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own_files)
        if self._oom_fd >= 0:
            with contextlib.suppress(OSError):
                self._write(self._own_score)

    def _write(self, score: bytes) -> None:
        os.pwrite(self._oom_fd, score, 0)


def default_signals() -> list[int]:
    """Return every signal that a child starts with the default action of."""
    return sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})
