"""Who descends from whom, by /proc (man 5 proc), and signals that hit nobody else.

A tree is more than children of children: what called setsid is found by the session of
what it came from, and what escaped altogether by the tag in its environment. The keeper
is the subreaper of all of them, so an escapee's parent is the keeper.
"""

import contextlib
import os
import signal
from typing import NamedTuple


class Process(NamedTuple):
    """A line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    state: str

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return self.state not in {"Z", "X", "x"}


Table = dict[int, Process]


def look_up(pid: int) -> Process | None:
    """Return one process, or None when there is none."""
    try:
        line = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name may hold spaces and parentheses; what counts comes after the last one.
    _, _, rest = line.rpartition(b") ")
    values = rest.split(b" ", 20)
    if len(values) < 20:
        return None
    return Process(
        pid,
        int(values[1]),
        int(values[2]),
        int(values[3]),
        int(values[19]),
        values[0].decode(),
    )


def _read(path: str) -> bytes:
    """Return a file of /proc.

    By few system calls: a file object takes nine, and this is done for every command.

    Raises:
        OSError: The process is gone.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = piece = os.read(fd, 4096)
        # A line ends short of a page; a list of numbers may need several reads.
        while piece and not content.endswith(b"\n"):
            piece = os.read(fd, 4096)
            content += piece
        return content
    finally:
        os.close(fd)


def table() -> Table:
    """Return all processes that can be seen."""
    found: Table = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := look_up(int(name))) is not None:
            found[process.pid] = process
    return found


def descendants(processes: Table, roots: set[int]) -> list[Process]:
    """Return everything below `roots` (themselves left out), parents first."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    seen = set(roots)
    level = list(roots)
    while level:
        below = [
            child
            for pid in level
            for child in children.get(pid, ())
            if child.pid not in seen
        ]
        found += below
        level = [child.pid for child in below]
        seen.update(level)
    return found


def children(pid: int) -> frozenset[int]:
    """Return the processes that a single-threaded process has started and not lost."""
    try:
        text = _read(f"/proc/{pid}/task/{pid}/children")
        return frozenset(map(int, text.split()))
    except OSError:
        # Either it is gone, or the kernel was built without CONFIG_PROC_CHILDREN.
        return frozenset(each.pid for each in table().values() if each.parent == pid)


_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def times(pid: int) -> tuple[float, float]:
    """Return user and system seconds of a process and the children it waited for."""
    try:
        values = _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    except OSError:
        return 0.0, 0.0
    # Fields 14 to 17 of man 5 proc; the first one here is the third.
    user, system, childrens_user, childrens_system = map(int, values[11:15])
    return (
        (user + childrens_user) / _TICKS_PER_S,
        (system + childrens_system) / _TICKS_PER_S,
    )


OWNER = b"TOOLBOX_OWNER="


def owner(pid: int) -> bytes | None:
    """Return the tag in a process's environment, or None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = bytearray()
        while piece := os.read(fd, 65536):
            content += piece
    except OSError:
        return None
    finally:
        os.close(fd)
    for variable in content.split(b"\0"):
        if variable.startswith(OWNER):
            return bytes(variable[len(OWNER) :])
    return None


def holds(pid: int, pipes: frozenset[str]) -> bool:
    """Return whether a process has one of these pipes open (`pipe:[inode]`)."""
    directory = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                if os.readlink(f"{directory}/{name}") in pipes:
                    return True
    except OSError:
        return False
    return False


def takes_default(pid: int, number: int) -> bool:
    """Return whether a signal would end a process: not caught, ignored or blocked."""
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    masks = [line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    return not any(int(mask.split()[1], 16) >> (number - 1) & 1 for mask in masks)


def hold(process: Process) -> int:
    """Return a pidfd of exactly this process, or -1 when it is gone.

    The start time is compared after the pidfd is open: whatever is found then is what
    the pidfd refers to, so the number cannot have become another's in between.
    """
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return -1
    current = look_up(process.pid)
    if current is None or current.started != process.started or not current.alive:
        os.close(fd)
        return -1
    return fd


def send(fd: int, number: int) -> None:
    """Signal the process of a pidfd; one that has ended, or may not be, is left."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(fd, number)
