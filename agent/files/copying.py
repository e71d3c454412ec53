"""Copies an entry, or a tree, as it is: links, holes, times, owners, attributes.

For moves to another file system. Nothing is followed and nothing that exists is written
to; what names one file twice in the tree does so in the copy. Goes down without
recursion, so only the length of a path bounds the depth.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from agent.errors import ConflictError, InvalidPathError

COPY_BYTES = 8 * 1024 * 1024
"""Copied by one call."""

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_KEPT = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL})
_NO_HOLES = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
_NO_COPY_CALL = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


class Copy:
    """One entry on its way to another place.

    Args:
        source: What is copied; a link is copied itself.
        target: Where to; nothing may stand there.
    """

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        self._linked: dict[tuple[int, int], str] = {}
        """Where files with several names went, by device and inode."""
        self._open: list[tuple[str, str, os.stat_result, Iterator[str]]] = []
        """The directories on the way down: source, target, status, names left."""

    def make(self) -> None:
        """Copy everything.

        Raises:
            ConflictError: A file was written to while it was copied.
            OSError: The system refuses; what was made so far is there.
        """
        self._copy(self._source, self._target)
        while self._open:
            source, target, status, names = self._open[-1]
            name = next(names, None)
            if name is None:
                self._open.pop()
                # After what is in it, which would change its times again.
                _keep(source, target, status)
            else:
                self._copy(f"{source}/{name}", f"{target}/{name}")

    def _copy(self, source: str, target: str) -> None:
        status = os.lstat(source)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(target, 0o700)
            self._open.append((source, target, status, iter(os.listdir(source))))
            return
        identity = (status.st_dev, status.st_ino)
        if identity in self._linked:
            os.link(self._linked[identity], target, follow_symlinks=False)
            return
        if stat.S_ISREG(mode):
            copy_file(source, target)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(source), target)
        else:
            os.mknod(target, stat.S_IFMT(mode) | 0o600, status.st_rdev)
        _keep(source, target, status)
        if status.st_nlink > 1:
            self._linked[identity] = target


def copy_file(source: str, target: str) -> None:
    """Copy the content of a regular file to a new one, holes as holes.

    Raises:
        ConflictError: It was written to meanwhile.
        OSError: The system refuses.
    """
    old = os.open(source, _READ)
    try:
        before = os.fstat(old)
        if not stat.S_ISREG(before.st_mode):
            raise InvalidPathError(f"invalid file path: not a regular file: {source}")
        new = os.open(target, _NEW, 0o600)
        try:
            for start, end in _filled(old, before.st_size):
                _copy_range(old, new, start, end)
            os.ftruncate(new, before.st_size)
            # The source goes afterwards, so here a power cut would lose everything.
            os.fsync(new)
        finally:
            os.close(new)
        after = os.fstat(old)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ConflictError(f"the file changed while it was moved: {source}")
    finally:
        os.close(old)


def _filled(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where a file is not a hole."""
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # A hole up to the end.
                return
            if error.errno not in _NO_HOLES:
                raise
            start, end = end, size_bytes
        yield start, end


def _copy_range(old: int, new: int, start: int, end: int) -> None:
    while start < end:
        count = min(end - start, COPY_BYTES)
        try:
            step = os.copy_file_range(old, new, count, start, start)
        except OSError as error:
            if error.errno not in _NO_COPY_CALL:
                raise
            os.lseek(new, start, os.SEEK_SET)
            step = os.sendfile(new, old, start, count)
        if step == 0:
            # Shorter than it was: told by whoever compares the times.
            return
        start += step


def _keep(source: str, target: str, status: os.stat_result) -> None:
    """Give a copy the owner, attributes, mode and times of what it was made from.

    What the system does not let us give is left, as `mv` leaves it; a copy that got
    another owner does not run with that one's rights.
    """
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_KEPT:
            raise
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    _keep_attributes(source, target)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, mode)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)


def _keep_attributes(source: str, target: str) -> None:
    with suppress(OSError):
        for name in os.listxattr(source, follow_symlinks=False):
            try:
                value = os.getxattr(source, name, follow_symlinks=False)
                os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    # Access lists are worth as much as the mode.
                    raise
