"""Looks at processes through /proc, and ends those that a test is answerable for."""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from pathlib import Path

END_LIMIT_S = 5.0


def alive(pid: int) -> bool:
    """Tell whether the process exists and has not ended (a zombie has)."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in {"Z", "X"}


def children(pid: int) -> list[int]:
    """Return the direct children, zombies included."""
    return [each for each in _pids() if (_stat(each) or ["", ""])[1] == str(pid)]


def tree(pid: int) -> set[int]:
    """Return all descendants, without the process itself."""
    parents = {each: fields[1] for each in _pids() if (fields := _stat(each))}
    found: set[int] = set()
    front = {str(pid)}
    while front:
        found_now = {each for each, parent in parents.items() if parent in front}
        found |= found_now
        front = {str(each) for each in found_now}
    return found


def tagged(variable: str, value: str) -> set[int]:
    """Return the processes that were started with this variable and value."""
    wanted = f"{variable}={value}".encode()
    found = set()
    for pid in _pids():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found


def wait_gone(pid: int, limit_s: float = END_LIMIT_S) -> bool:
    """Wait until the process has ended; False when it has not within the limit."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiter = select.poll()
        waiter.register(descriptor, select.POLLIN)
        return bool(waiter.poll(limit_s * 1000))
    finally:
        os.close(descriptor)


def end_all(pids: Iterable[int]) -> None:
    """Kill these processes and wait until they have ended."""
    found = list(pids)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in found:
        wait_gone(pid)


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/pid/stat from the state on; empty when it is gone."""
    with contextlib.suppress(OSError):
        # The name stands in brackets and may hold anything, brackets included.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return []
