"""Deletes entries and trees without ever following a link.

A tree is walked by descriptors, one directory open at a time, going back up through `..`
and checking that it leads where we came from. So neither the length of the path nor the
depth is bounded, and nobody who swaps a directory for a link can lead us elsewhere.
"""

import errno
import os
import re
import stat
from contextlib import suppress

from agent.errors import ConflictError, InvalidPathError, InvalidRequestError

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ATTEMPTS = 8
"""Times a directory is emptied again because others keep filling it."""


def delete(path: str, *, recursive: bool) -> None:
    """Delete the entry `path`; a directory only, with all in it, if `recursive`.

    Raises:
        InvalidRequestError: A directory, without `recursive`.
        InvalidPathError: `/`, or a path that ends in `.` or `..`.
        ConflictError: A mount point, or others fill the tree as fast as it is emptied.
        OSError: It is missing, or the system refuses.
    """
    # A trailing slash would make the system follow a link.
    path = path.rstrip("/") or "/"
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    if not recursive:
        raise InvalidRequestError("cannot delete directory without recursive flag")
    parent, name = os.path.split(path)
    if not name or name in {".", ".."}:
        raise InvalidPathError(
            "invalid file path: name the directory itself, and not the root, to delete it"
        )
    _refuse_mounts(os.path.join(os.path.realpath(parent), name))
    _Tree(parent, name).delete()


def _refuse_mounts(path: str) -> None:
    for mounted in mount_points():
        if mounted == path or mounted.startswith(path + "/"):
            raise ConflictError(
                f"a file system is mounted at {mounted}; unmount it first"
            )


def mount_points() -> list[str]:
    """Return where file systems, and single files, are mounted."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        # Without /proc the system still refuses to remove the mount point itself.
        return []
    return [os.fsdecode(_unescape(line.split(b" ")[4])) for line in lines]


def _unescape(text: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), text)


class _Tree:
    """One directory on its way out."""

    def __init__(self, parent: str, name: str) -> None:
        # Without a right to read, one may still search.
        self._fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._above: list[tuple[str, tuple[int, int], int]] = []
        """For every level: our name in the parent, the parent's identity, attempts."""
        self._name = name

    def delete(self) -> None:
        try:
            self._descend(self._name)
            while self._above:
                below = self._empty()
                if below is None:
                    self._ascend()
                else:
                    self._descend(below)
        finally:
            os.close(self._fd)

    def _empty(self) -> str | None:
        """Delete all but directories; return the name of one, if there is any."""
        with os.scandir(self._fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    return entry.name
                # Somebody else may have been faster, or put a directory there.
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(entry.name, dir_fd=self._fd)
        return None

    def _descend(self, name: str, attempts: int = ATTEMPTS) -> None:
        try:
            below = os.open(name, _OPEN_DIRECTORY, dir_fd=self._fd)
        except (FileNotFoundError, NotADirectoryError):
            # Inside the tree somebody else was faster; what is there now comes next.
            if not self._above:
                raise
            return
        except PermissionError:
            # What cannot be read can still be removed when there is nothing in it.
            with suppress(OSError):
                os.rmdir(name, dir_fd=self._fd)
                return
            raise
        self._above.append((name, _identity(self._fd), attempts))
        os.close(self._fd)
        self._fd = below

    def _ascend(self) -> None:
        """Go to the parent and remove the directory that was emptied."""
        name, identity, attempts = self._above.pop()
        # The tree's own parent may be one that we must not read.
        access = os.O_RDONLY if self._above else os.O_PATH
        above = os.open("..", access | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = above
        if _identity(above) != identity:
            raise ConflictError("the directory was moved while it was being deleted")
        try:
            os.rmdir(name, dir_fd=above)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or attempts == 0:
                raise
            self._descend(name, attempts - 1)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
