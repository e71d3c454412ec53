"""Finds the pipe that keeps a git waiting.

Git opens its own files, and those like `.gitignore` that anybody may put among the
others, without asking what they are. One that is a pipe holds it up until somebody
writes there, which is never; a few such calls would take every thread there is. To look
through all files before each call would cost as much as the call. So only a git that
stands still (all of its processes sleep, and have not run since the look before) makes
us look for such a pipe, and less and less often, since it may well wait for a remote.
"""

import itertools
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

FIRST_LOOK_S = 1.0
"""After the start; the second look is as much later, and the pause doubles from there."""
PAUSE_MAX_S = 60.0
ENTRIES_MAX = 1_000_000
"""That one look goes through."""
READ_EVERYWHERE = frozenset(
    {b".gitignore", b".gitattributes", b".gitmodules", b".mailmap"}
)
"""What git reads of any directory among the files."""
_OWN = b".git"


@dataclass
class Standstill:
    """Watches one run.

    Args:
        git_dirs: Where git keeps its own: any pipe there counts.
        work_tree: The root of the files; nothing, when they are not to be looked at.
    """

    git_dirs: Sequence[str] = ()
    work_tree: str = ""
    _due: float = field(default=0.0, init=False)
    _pause_s: float = field(default=FIRST_LOOK_S, init=False)
    _seen: int = field(default=-1, init=False)

    def started(self) -> None:
        """Begin to count."""
        self._due = time.monotonic() + FIRST_LOOK_S

    def pause_s(self) -> float:
        """Return for how long nothing is to be looked at."""
        return max(0.0, self._due - time.monotonic())

    def pipe(self, group: int) -> str:
        """Return the pipe that a group of processes may wait for; mostly nothing."""
        if time.monotonic() < self._due:
            return ""
        ran, before = _ran(group), self._seen
        self._seen = ran
        if ran < 0 or ran != before:
            self._due = time.monotonic() + FIRST_LOOK_S
            return ""
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        found = next(self._pipes(), b"")
        self._due = time.monotonic() + self._pause_s
        return os.fsdecode(found)

    def _pipes(self) -> Iterator[bytes]:
        for each in dict.fromkeys(self.git_dirs):
            for entry in itertools.islice(_entries(os.fsencode(each)), ENTRIES_MAX):
                if _is_pipe(entry):
                    yield entry.path
        if self.work_tree:
            files = _entries(os.fsencode(self.work_tree), below=_OWN)
            for entry in itertools.islice(files, ENTRIES_MAX):
                if entry.name in READ_EVERYWHERE and _is_pipe(entry):
                    yield entry.path


def _ran(group: int) -> int:
    """Return for how many ticks a group has run; -1 when it is not asleep (`man 5 proc`)."""
    total = 0
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                words = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue
        if int(words[2]) == group:
            if words[0] not in {b"S", b"Z"}:
                return -1
            total += int(words[11]) + int(words[12])
    return total


def _entries(top: bytes, below: bytes = b"objects") -> Iterator["os.DirEntry[bytes]"]:
    """Give all entries, without those below directories of one name, links not followed.

    Of git's objects only packs could be waited for, and those git looks at first.
    """
    front = [top]
    while front:
        try:
            listed = os.scandir(front.pop())
        except OSError:
            continue
        with listed:
            for entry in listed:
                yield entry
                if entry.is_dir(follow_symlinks=False) and entry.name != below:
                    front.append(entry.path)


def _is_pipe(entry: "os.DirEntry[bytes]") -> bool:
    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
        return False
    try:
        return stat.S_ISFIFO(entry.stat().st_mode)
    except OSError:
        return False
