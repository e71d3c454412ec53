"""Reaches the entries of a directory without ever following a link inside it.

Every directory on the way is opened by its name in the one above, so nobody who swaps a
directory for a link can lead a restore elsewhere. Paths are bytes, relative to the root.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What looking for a path fails with when nothing of ours can be there."""


class Ground:
    """A directory that a checkpoint was taken of.

    Everything here blocks, and belongs to one thread at a time.

    Args:
        root: Its absolute path, links resolved.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._held: tuple[bytes, int] | None = None

    def close(self) -> None:
        """Close what is open."""
        self._let_go()
        os.close(self._fd)

    def full(self, path: bytes) -> bytes:
        """Return the absolute path of an entry, for messages and journals."""
        return os.path.join(self.root, path)

    def directory(self, path: bytes) -> int:
        """Return the descriptor of a directory, good until the next call.

        Raises:
            OSError: A part of the path is missing, a link, or no directory.
        """
        if not path:
            return self._fd
        if self._held is None or self._held[0] != path:
            self._let_go()
            self._held = (path, self._walk(path))
        return self._held[1]

    def _walk(self, path: bytes) -> int:
        fd = self._fd
        for name in path.split(b"/"):
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError as error:
                error.filename = os.fsdecode(self.full(path))
                raise
            finally:
                if fd != self._fd:
                    os.close(fd)
            fd = below
        return fd

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held[1])
            self._held = None

    def status(self, path: bytes) -> os.stat_result | None:
        """Return the status of what stands at `path` itself; None: nothing does."""
        parent, _, name = path.rpartition(b"/")
        with self.told(path):
            try:
                return os.stat(
                    name, dir_fd=self.directory(parent), follow_symlinks=False
                )
            except OSError as error:
                if error.errno in MISSING:
                    return None
                raise

    def obstacle(self, path: bytes) -> bytes | None:
        """Return the first part of `path` at which something else than a directory is.

        The path's own entry does not count, only what it lies in.
        """
        names = path.split(b"/")
        for count in range(1, len(names)):
            above = b"/".join(names[:count])
            found = self.status(above)
            if found is None:
                return None
            if not stat.S_ISDIR(found.st_mode):
                return above
        return None

    def nearest(self, path: bytes) -> bytes:
        """Return the deepest directory that is there on the way to the entry `path`."""
        parent = path.rpartition(b"/")[0]
        while parent:
            found = self.status(parent)
            if found is not None and stat.S_ISDIR(found.st_mode):
                break
            parent = parent.rpartition(b"/")[0]
        return parent

    def remove(self, path: bytes) -> bool:
        """Remove a file or link; tell whether it was there."""
        parent, _, name = path.rpartition(b"/")
        with self.told(path):
            try:
                os.unlink(name, dir_fd=self.directory(parent))
            except OSError as error:
                if error.errno in MISSING:
                    return False
                raise
        return True

    def remove_directory(self, path: bytes) -> bool:
        """Remove a directory when nothing is in it; tell whether that was so."""
        parent, _, name = path.rpartition(b"/")
        if self._held is not None:
            # It may be the very directory, or one above it.
            self._let_go()
        with suppress(OSError):
            os.rmdir(name, dir_fd=self.directory(parent))
            return True
        return False

    def make_directory(self, path: bytes, mode: int) -> bool:
        """Make a directory; tell whether it was missing."""
        parent, _, name = path.rpartition(b"/")
        with self.told(path):
            try:
                os.mkdir(name, mode, dir_fd=self.directory(parent))
            except FileExistsError:
                return False
        return True

    @contextmanager
    def told(self, path: bytes) -> Iterator[None]:
        """Let every `OSError` raised inside name the entry."""
        try:
            yield
        except OSError as error:
            error.filename = os.fsdecode(self.full(path))
            error.filename2 = None
            raise
