"""Remembers what git is doing for us, for the api that comes after us.

A git that is killed leaves locks behind, and a clone that is killed half a repository.
Each api process has a directory below the state directory, named for itself, with one
file per change that is under way:

    <state dir>/git/<host>.<pid>.<start time>/<number>

The next api waits until what the file names has ended (the keeper ends the children of an
api that died) and then removes what it left: the files that a clone has made, and locks
that were not there when the change began, unless another git is at work in the same
place, for then they may be its own.
"""

import contextlib
import itertools
import logging
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from agent.errors import AgentError
from agent.files.deletion import delete
from agent.files.journal import start_time

log = logging.getLogger("agent.git")

_OWNER = r"(?P<host>.*)\.(?P<pid>\d{1,9})\.(?P<start>\d{1,20})"
_MERGE_FILE = re.compile(r"\.merge_file_[A-Za-z0-9]{6}")
END_LIMIT_S = 8.0
"""Until what a dead api had started is killed; the keeper has asked it to end."""
LOOK_INTERVAL_S = 0.02
LOCKS_MAX = 10_000
"""Directories of refs that are looked through for locks."""


class Entry(msgspec.Struct, kw_only=True):
    """One change that is under way; names as bytes, since JSON has no others.

    Attributes:
        git_dirs: Where git keeps its own, and so its locks.
        work_tree: The root of the files.
        locks: The locks that were there before.
        clone: The directory that a clone fills; empty when it is none.
        made: Whether the clone made that directory.
        parents: Directories above it that the clone made, innermost first.
        group: The process group of the git of now; 0 before the first.
        group_start: When its leader started, in the kernel's ticks.
        since_ns: When the change began.
    """

    git_dirs: list[bytes] = msgspec.field(default_factory=list)
    work_tree: bytes = b""
    locks: list[bytes] = msgspec.field(default_factory=list)
    clone: bytes = b""
    made: bool = False
    parents: list[bytes] = msgspec.field(default_factory=list)
    group: int = 0
    group_start: int = 0
    since_ns: int = 0


@dataclass
class Note:
    """An entry of ours; all of it looks at the disk, so it belongs into threads."""

    entry: Entry
    path: str

    def begin(self) -> None:
        """Write it down, with the locks that are there already."""
        self.entry.since_ns = time.time_ns()
        self.entry.locks = [os.fsencode(each) for each in locks(self.entry)]
        self._write()

    def started(self, pid: int) -> None:
        """Write down which process group is at work now."""
        self.entry.group = pid
        self.entry.group_start = start_time(pid)
        self._write()

    def end(self, *, dirty: bool) -> None:
        """Forget it; when git was killed, remove the locks that it left."""
        if dirty:
            clean_locks(self.entry)
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _write(self) -> None:
        if not self.path:
            return
        with contextlib.suppress(OSError):
            # In the place of the one before, so that nobody reads half of it.
            with open(self.path + "~", "wb") as file:
                file.write(msgspec.json.encode(self.entry))
            os.replace(self.path + "~", self.path)


@dataclass
class Journal:
    """The changes of this process, and what dead ones had under way.

    Args:
        state_dir: The agent's state directory.
    """

    state_dir: str
    _own: str = field(default="", init=False)
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        self._host = re.sub(r"[^\w-]", "_", os.uname().nodename)
        self._root = os.path.join(self.state_dir, "git")

    def note(self, entry: Entry) -> Note:
        """Return a note of a change; without a journal it is kept in memory only."""
        try:
            if not self._own or not os.path.isdir(self._own):
                self._own = self._make_own()
            return Note(entry, os.path.join(self._own, str(next(self._numbers))))
        except OSError:
            return Note(entry, "")

    def close(self) -> None:
        """Remove this process's directory, unless something is still noted there."""
        if self._own:
            with contextlib.suppress(OSError):
                os.rmdir(self._own)

    def sweep(self) -> None:
        """Clear up after processes that died on this host."""
        with contextlib.suppress(OSError):
            for owner in os.listdir(self._root):
                match = re.fullmatch(_OWNER, owner, re.ASCII)
                if (
                    match is not None
                    and match["host"] == self._host
                    and start_time(int(match["pid"])) != int(match["start"])
                ):
                    _sweep_owner(os.path.join(self._root, owner))

    def _make_own(self) -> str:
        os.makedirs(self._root, mode=0o700, exist_ok=True)
        if os.path.islink(self._root):
            raise OSError("somebody else's journal")
        pid = os.getpid()
        own = os.path.join(self._root, f"{self._host}.{pid}.{start_time(pid)}")
        os.makedirs(own, mode=0o700, exist_ok=True)
        return own


def _sweep_owner(directory: str) -> None:
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            with open(path, "rb") as file:
                entry = msgspec.json.decode(file.read(), type=Entry)
            if not name.endswith("~"):
                _clear_up(entry)
        with contextlib.suppress(OSError):
            os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _clear_up(entry: Entry) -> None:
    _wait_for_end(entry)
    if entry.clone:
        remove_clone(entry)
        log.warning("removed what a clone that was killed had left")
    else:
        clean_locks(entry)


def _wait_for_end(entry: Entry) -> None:
    """Wait until a dead api's git has ended, and kill it when it does not."""
    if not entry.group:
        return
    deadline = time.monotonic() + END_LIMIT_S
    while _is_alive(entry) and time.monotonic() < deadline:
        time.sleep(LOOK_INTERVAL_S)
    if _is_alive(entry):
        with contextlib.suppress(OSError):
            os.killpg(entry.group, signal.SIGKILL)
        time.sleep(LOOK_INTERVAL_S)


def _is_alive(entry: Entry) -> bool:
    """Tell whether anything of a group runs, and its number is not another's by now."""
    started = start_time(entry.group)
    if started not in {0, entry.group_start}:
        return False
    return any(
        fields[2] == str(entry.group) and fields[0] not in {"Z", "X"}
        for fields in _processes()
    )


def _processes() -> Iterator[list[str]]:
    """Give what `man 5 proc` tells of each process from its state on."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{name}/stat", encoding="latin-1") as file,
            ):
                yield file.read().rpartition(") ")[2].split()


def remove_clone(entry: Entry) -> None:
    """Remove what a clone has made, and nothing that was there before."""
    target = os.fsdecode(entry.clone)
    with contextlib.suppress(OSError, AgentError):
        if entry.made:
            delete(target, recursive=True)
        else:
            for name in os.listdir(target):
                delete(os.path.join(target, name), recursive=True)
    for parent in entry.parents:
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def clean_locks(entry: Entry) -> None:
    """Remove the locks, and files for a merge's driver, that a killed git has left."""
    before = {os.fsdecode(each) for each in entry.locks}
    left = [each for each in locks(entry) if each not in before]
    left += _merge_files(entry)
    if not left or _somebody_works(entry):
        return
    for each in left:
        with contextlib.suppress(OSError):
            if os.lstat(each).st_mtime_ns >= entry.since_ns - 10**9:
                os.unlink(each)
                log.warning("removed what a git of ours that was killed had left")


def _merge_files(entry: Entry) -> list[str]:
    """Return what git has put among the files for a merge's driver to read."""
    if not entry.work_tree:
        return []
    top = os.fsdecode(entry.work_tree)
    with contextlib.suppress(OSError):
        return [
            os.path.join(top, name)
            for name in os.listdir(top)
            if _MERGE_FILE.fullmatch(name)
        ]
    return []


def locks(entry: Entry) -> list[str]:
    """Return the locks in a repository."""
    found: list[str] = []
    for each in dict.fromkeys(entry.git_dirs):
        git_dir = os.fsdecode(each)
        with contextlib.suppress(OSError):
            found += [
                os.path.join(git_dir, name)
                for name in os.listdir(git_dir)
                if name.endswith(".lock")
            ]
        walked = os.walk(os.path.join(git_dir, "refs"))
        for top, _, names in itertools.islice(walked, LOCKS_MAX):
            found += [os.path.join(top, name) for name in names if name[-5:] == ".lock"]
    return found


def _somebody_works(entry: Entry) -> bool:
    """Tell whether a git that is not ours runs in the same place."""
    roots = [os.fsdecode(each) for each in [*entry.git_dirs, entry.work_tree] if each]
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/comm", encoding="latin-1") as file:
                if not file.read().startswith("git"):
                    continue
            cwd = os.readlink(f"/proc/{name}/cwd")
            if any(cwd == root or cwd.startswith(root + "/") for root in roots):
                return True
    return False
