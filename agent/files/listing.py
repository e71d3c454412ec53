"""Lists directories: sorted, as deep as asked, in blocks of finished JSON.

A block at a time, because a hundred thousand entries are 25 MB of JSON, which neither
the memory nor the thread that holds the interpreter should carry in one piece. Runs in a
worker thread; nothing here knows of the loop.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from agent import wire
from agent.files.attributes import describe
from agent.files.models import FileInfo
from agent.files.paths import Paths, shown_root, told_as
from agent.wire import UNSET

BLOCK_ENTRIES = 10_000
"""Entries in one block, about 2.5 MB of JSON: what one trip to a thread makes."""
BATCH_ENTRIES = 500
"""Entries encoded by one call, which holds the interpreter meanwhile: under 1 ms."""
OPEN_LEVELS = 32
"""Levels of one listing that keep a descriptor; deeper ones go by path."""


class _Level:
    """A directory being listed: the names still to come, and how to look at them."""

    def __init__(self, path: str, prefix: str, depth_left: int, flags: int = 0) -> None:
        self.path = path
        self.prefix = prefix
        self.depth_left = depth_left
        self._flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags
        self._fd = os.open(path, self._flags)
        try:
            self.names = iter(sort_names(os.listdir(self._fd)))
        except OSError:
            self.close()
            raise

    def reopen(self) -> None:
        """Look at names by descriptor again, which is faster, if that is possible."""
        if self._fd < 0:
            with suppress(OSError):
                self._fd = os.open(self.path, self._flags)

    def status(self, name: str) -> tuple[bool, os.stat_result] | None:
        """Return whether `name` is a link, and the status of what it leads to.

        A link that leads nowhere has its own status. None: the entry is gone, or the
        directory may be read but not searched.
        """
        at = self._fd if self._fd >= 0 else None
        if at is None:
            name = f"{self.path}/{name}"
        try:
            own = os.stat(name, dir_fd=at, follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISLNK(own.st_mode):
            return False, own
        try:
            return True, os.stat(name, dir_fd=at)
        except OSError:
            return True, own

    def close(self) -> None:
        """Close the descriptor; the names are looked at by path from now on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Listing:
    """The entries below one directory; between two blocks nothing is open.

    Args:
        paths: How the path resolves.
        given: The directory as the client named it; a link to one is followed.
        depth: Levels below the directory, 1 or more.
        with_paths: Whether entries tell their path.

    Attributes:
        done: Whether the last block was made.
    """

    def __init__(
        self, paths: Paths, given: str, depth: int, *, with_paths: bool
    ) -> None:
        self.done = False
        self._paths = paths
        self._given = given
        self._depth = depth
        self._with_paths = with_paths
        self._shown = shown_root(given)
        self._levels: list[_Level] = []
        self._entries = self._walk()

    def block(self) -> bytes:
        """Return the next piece of the JSON array, its brackets included.

        Raises:
            InvalidPathError: The path is none.
            OSError: The directory cannot be listed; only the first block raises.
        """
        begins = not self._levels
        try:
            if begins:
                self._open_root()
            self._levels[-1].reopen()
            pieces = list(self._batches())
        finally:
            for level in self._levels:
                level.close()
        opening = b"[" if begins else b"," if pieces else b""
        return opening + b",".join(pieces) + (b"]" if self.done else b"")

    def _open_root(self) -> None:
        with told_as(self._given):
            self._levels.append(
                _Level(self._paths.resolve(self._given), "", self._depth)
            )

    def _batches(self) -> Iterator[bytes]:
        """Yield one block as pieces of JSON, without brackets."""
        made = 0
        while made < BLOCK_ENTRIES and not self.done:
            batch = list(islice(self._entries, BATCH_ENTRIES))
            self.done = len(batch) < BATCH_ENTRIES
            made += len(batch)
            if batch:
                yield wire.encode(batch)[1:-1]

    def _walk(self) -> Iterator[FileInfo]:
        """Go through the entries, each directory followed by what is in it."""
        while self._levels:
            level = self._levels[-1]
            for name in level.names:
                found = level.status(name)
                if found is None:
                    continue
                path = self._shown + level.prefix + name if self._with_paths else UNSET
                is_link, status = found
                is_dir = stat.S_ISDIR(status.st_mode)
                yield describe(name, path, status, is_dir=is_dir)
                if is_dir and not is_link and level.depth_left > 1:
                    self._descend(level, name)
                    break
            else:
                self._levels.pop().close()

    def _descend(self, level: _Level, name: str) -> None:
        """Begin to list a directory below; what cannot be read is left out."""
        if len(self._levels) > OPEN_LEVELS:
            level.close()
        path, prefix = f"{level.path}/{name}", f"{level.prefix}{name}/"
        with suppress(OSError):
            self._levels.append(
                _Level(path, prefix, level.depth_left - 1, os.O_NOFOLLOW)
            )


def sort_names(names: list[str]) -> list[str]:
    """Return `names` in the order of their bytes."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        # Bytes that are not UTF-8 stand as characters that sort elsewhere.
        return sorted(names, key=os.fsencode)
    # UTF-8 sorts as its characters do.
    return sorted(names)
