"""Opens files for reading so that nothing can block, and reads them.

A FIFO, a device or a terminal may block for ever when it is opened, or do something when
it is closed; so what is there is looked at first, opened only if it is a regular file,
and looked at again.
"""

import errno
import os
import stat

from agent.errors import InvalidPathError
from agent.files.paths import tell_as

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

READ_BYTES = 1024 * 1024
"""Read from the disk by one call."""


class Content:
    """An open regular file.

    Args:
        fd: Its descriptor, closed by `close`.
        status: Its status when it was opened.
    """

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.size_bytes = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.inode = status.st_ino

    @property
    def is_virtual(self) -> bool:
        """Whether the size says nothing: files of procfs claim to be empty."""
        return self.size_bytes == 0

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return up to `size_bytes` from `offset`, fewer only at the end of the file."""
        first = self._read_once(offset, size_bytes)
        if len(first) == size_bytes or not first:
            return first
        pieces = [first]
        offset += len(first)
        size_bytes -= len(first)
        while size_bytes and (piece := self._read_once(offset, size_bytes)):
            pieces.append(piece)
            offset += len(piece)
            size_bytes -= len(piece)
        return b"".join(pieces)

    def _read_once(self, offset: int, size_bytes: int) -> bytes:
        try:
            return os.pread(self.fd, size_bytes, offset)
        except BlockingIOError:
            # A kernel log that would wait for its next line: that is its end.
            return b""

    def read_cached(self) -> bytes | None:
        """Return all of the file if that needs no wait for the disk; else None."""
        buffer = bytearray(self.size_bytes)
        try:
            size_bytes = os.preadv(self.fd, (buffer,), 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:
            # This file system cannot say; most that cannot live in memory.
            return self.read(0, self.size_bytes)
        return bytes(buffer) if size_bytes == self.size_bytes else None

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_content(path: str, given: str) -> Content:
    """Open the regular file `path`, links followed; errors name it as `given`.

    Raises:
        IsADirectoryError: It is a directory.
        InvalidPathError: It is no regular file otherwise.
        OSError: It is missing, or the system refuses.
    """
    try:
        _check(_look_at(path), given)
        fd = os.open(path, _READ)
        try:
            status = os.fstat(fd)
            _check(status, given)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        # Not `told_as`: small downloads come through here, and it costs them a tenth.
        tell_as(error, given)
        raise
    return Content(fd, status)


def _look_at(path: str) -> os.stat_result:
    found = os.lstat(path)
    if not stat.S_ISLNK(found.st_mode):
        return found
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _check(status: os.stat_result, given: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), given)
    raise InvalidPathError(f"invalid file path: not a regular file: {given}")
