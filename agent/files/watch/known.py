"""Remembers which inode each entry of a watched tree is, to tell a move when it is one.

A bounded table, filled by one walk that asks nothing but the directories themselves, and
kept up by what the watcher sees. Every entry is remembered with a moment at which it was
surely not yet looked at: an entry that has the same inode number and was born before that
moment is the same one, for a number is free for others only when its bearer is gone.
"""

import os
import time
from collections import deque
from typing import NamedTuple

ENTRIES_MAX = 65_536
"""Remembered of one tree: some 9 MiB."""

_CLOCK_REALTIME_COARSE = 5
"""Linux's number of the clock (linux/time.h), which Python has no name for."""
UNKNOWN = 0
"""The inode of an entry that went before it could be looked at."""


class Entry(NamedTuple):
    """What is remembered of one entry."""

    inode: int
    is_dir: bool
    since: float


class Listed(NamedTuple):
    """What a directory says of one entry."""

    inode: int
    is_dir: bool


class _Directory:
    """A directory, its files by their inodes; `later` is when those came that are newer."""

    __slots__ = ("entries", "inode", "later", "since")

    def __init__(self, inode: int, since: float) -> None:
        self.inode = inode
        self.since = since
        self.entries: dict[str, int | _Directory] = {}
        self.later: dict[str, float] = {}

    def count(self) -> int:
        """Return how many entries are below."""
        total = 0
        open_ = [self]
        while open_:
            found = open_.pop().entries
            total += len(found)
            open_ += [each for each in found.values() if isinstance(each, _Directory)]
        return total


class Known:
    """The entries below one directory; paths are relative to it.

    Args:
        root: Its absolute path.
        recursive: Whether what is in the directories below is wanted, too.
        bound: How many entries are remembered.

    Attributes:
        full: The bound was reached since the last walk.
        lost: Something came that does not fit what is remembered; walk again.
    """

    def __init__(self, root: str, *, recursive: bool, bound: int = ENTRIES_MAX) -> None:
        self._root = root
        self._recursive = recursive
        self._bound = bound
        self._top = _Directory(UNKNOWN, now())
        self._count = 0
        self.full = self.lost = False

    @property
    def whole(self) -> bool:
        """Whether every entry is here, as far as it could be seen."""
        return not self.full and not self.lost

    def scan(self) -> None:
        """Walk the tree, the uppermost directories first, and remember it afresh."""
        since = now()
        self._top = _Directory(UNKNOWN, since)
        self._count = 0
        self.full = self.lost = False
        open_ = deque([("", self._top)])
        while open_:
            path, directory = open_.popleft()
            for name, found in listed(os.path.join(self._root, path)).items():
                if not self._has_room():
                    return
                if not found.is_dir:
                    directory.entries[name] = found.inode
                    continue
                below = _Directory(found.inode, since)
                directory.entries[name] = below
                if self._recursive:
                    open_.append((f"{path}/{name}" if path else name, below))

    def find(self, path: str) -> Entry | None:
        """Return what is remembered of an entry."""
        parent, name = self._parent(path)
        found = parent.entries.get(name) if parent else None
        if parent is None or found is None:
            return None
        since = parent.later.get(name, parent.since)
        if isinstance(found, _Directory):
            return Entry(found.inode, is_dir=True, since=since)
        return Entry(found, is_dir=False, since=since)

    def names(self, path: str) -> list[str]:
        """Return the names that are remembered in a directory."""
        found = self._directory(path)
        return list(found.entries) if found else []

    def put(self, path: str, inode: int, *, is_dir: bool, since: float) -> None:
        """Remember an entry that was looked at after the moment `since`."""
        parent, name = self._parent(path)
        if parent is None:
            self.lost = True
            return
        old = parent.entries.get(name)
        if isinstance(old, _Directory) and is_dir and old.inode == inode:
            return
        self.drop(path)
        if self._has_room():
            parent.entries[name] = _Directory(inode, since) if is_dir else inode
            parent.later[name] = since

    def drop(self, path: str) -> None:
        """Forget an entry and what is below it."""
        self._take(path)

    def move(self, source: str, path: str, *, since: float) -> None:
        """Let an entry, and what is below it, have another name."""
        taken = self._take(source)
        self.drop(path)
        parent, name = self._parent(path)
        if taken is None or parent is None:
            self.lost = True
            return
        parent.entries[name] = taken
        parent.later[name] = since
        self._count += _size(taken)

    def _has_room(self) -> bool:
        if self._count >= self._bound:
            self.full = True
            return False
        self._count += 1
        return True

    def _take(self, path: str) -> "int | _Directory | None":
        parent, name = self._parent(path)
        taken = parent.entries.pop(name, None) if parent else None
        if parent is None or taken is None:
            return None
        parent.later.pop(name, None)
        self._count -= _size(taken)
        return taken

    def _parent(self, path: str) -> tuple[_Directory | None, str]:
        directory, _, name = path.rpartition("/")
        return self._directory(directory), name

    def _directory(self, path: str) -> _Directory | None:
        found: int | _Directory | None = self._top
        for name in path.split("/") if path else ():
            if not isinstance(found, _Directory):
                return None
            found = found.entries.get(name)
        return found if isinstance(found, _Directory) else None


def _size(entry: int | _Directory) -> int:
    return 1 + (entry.count() if isinstance(entry, _Directory) else 0)


def now() -> float:
    """Return the present moment of the clock that new files are stamped by."""
    return time.clock_gettime(_CLOCK_REALTIME_COARSE)


def listed(directory: str) -> dict[str, Listed]:
    """Return the entries of a directory, none of anything else."""
    try:
        with os.scandir(directory) as entries:
            return {
                each.name: Listed(each.inode(), each.is_dir(follow_symlinks=False))
                for each in entries
            }
    except OSError:
        # It went meanwhile, or is not ours to read.
        return {}
