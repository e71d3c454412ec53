"""Replaces a file's content so that everybody sees the old or the new, never a mix.

The content goes to a temporary file beside the target, which is renamed over it once it
is whole. Links are followed first, so that they are written through. Where a rename
cannot keep what the file is (several hard links, a mount of its own, a directory that we
may not write to, an owner or attributes that we cannot give) the content is first stored
whole in a temporary file and then copied into the file; space for it is taken before the
first byte of the old content is lost. Devices such as /dev/null are written directly.

All of this blocks, so it runs in worker threads; one upload is in one thread at a time.
Nothing is flushed to the disk before the answer: what is promised is that a client, and
every process in the sandbox, sees the file, not that it outlives a power cut.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto

from agent.errors import InvalidPathError
from agent.files.directories import make_directories
from agent.files.journal import Journal, temporary_name
from agent.files.paths import Paths

Buffer = bytes | memoryview

MAX_LINKS = 40
"""Links followed one after the other, as the kernel does."""
PIECES_PER_CALL = 512
"""Buffers written by one call; the kernel takes 1024."""
COPY_BYTES = 8 * 1024 * 1024
"""Copied by one call when a file is filled in place."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_RENAME = frozenset({*_REFUSED, errno.EBUSY, errno.EXDEV})
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


class _Way(Enum):
    """How the content gets to where it belongs."""

    RENAME = auto()
    COPY = auto()
    DIRECT = auto()


class Upload:
    """One file on its way in: `open`, then `write`, then `commit`, or `discard`.

    Args:
        paths: How the destination resolves.
        given: The destination as the client named it; links are followed.
        journal: Remembers the temporary file.
        spool_dir: Where content is kept that cannot be stored beside its destination.

    Attributes:
        step: What is being done, for error texts: `mkdir …`, `create`, `write`, `close`.
        size_bytes: What was written so far.
        status: The stored file's, as it was left; None before, and for devices.
    """

    def __init__(
        self, paths: Paths, given: str, journal: Journal, spool_dir: str
    ) -> None:
        self.step = "create"
        self.size_bytes = 0
        self.status: os.stat_result | None = None
        self._paths = paths
        self._given = given
        self._journal = journal
        self._spool_dir = spool_dir
        self._way = _Way.RENAME
        self._target = given
        self._name = ""
        self._existing: os.stat_result | None = None
        self._dir_fd = -1
        self._fd = -1
        self._temporary = ""

    def open(self) -> None:
        """Find out where the content goes and make the temporary file.

        Raises:
            IsADirectoryError: The destination is a directory.
            InvalidPathError: It is no file otherwise.
            OSError: The system refuses.
        """
        self._target, self._existing = follow(self._paths.resolve(self._given))
        parent, self._name = os.path.split(self._target)
        if self._name in {"", ".", ".."}:
            raise _is_a_directory(self._given)
        if self._existing is None:
            self.step = f"mkdir {parent}"
            make_directories(parent)
            self.step = "create"
        else:
            self._check(self._existing)
        if self._way is _Way.DIRECT:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            self._fd = os.open(self._target, flags)
            return
        self._dir_fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self._existing is None or self._existing.st_nlink == 1:
            self._open_beside(self._existing)
        else:
            self._open_spool()

    def write(self, pieces: Sequence[Buffer]) -> None:
        """Add `pieces`, in their order, to the content."""
        self.step = "write"
        for first in range(0, len(pieces), PIECES_PER_CALL):
            self._write_some(pieces[first : first + PIECES_PER_CALL])

    def commit(self) -> bool:
        """Put the content where it belongs; False: `fill_in_place` has to do it."""
        self.step = "close"
        if self._way is _Way.COPY:
            return False
        fd, self._fd = self._fd, -1
        if self._way is _Way.DIRECT:
            os.close(fd)
            return True
        # Not from the name afterwards, which may be another upload's file by then.
        status = os.fstat(fd)
        try:
            # Network file systems tell here that the content did not arrive.
            os.close(fd)
            os.replace(
                self._temporary,
                self._name,
                src_dir_fd=self._dir_fd,
                dst_dir_fd=self._dir_fd,
            )
        except OSError as error:
            if error.errno not in _NO_RENAME or self._existing is None:
                raise
            self._fd = os.open(
                self._temporary, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._dir_fd
            )
            self._way = _Way.COPY
            return False
        self._forget()
        self.status = status
        return True

    def fill_in_place(self) -> None:
        """Copy the content into the existing file; one at a time for all uploads."""
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._target, flags)
        try:
            _reserve(fd, self.size_bytes)
            copied = 0
            while copied < self.size_bytes:
                step = os.sendfile(
                    fd, self._fd, copied, min(self.size_bytes - copied, COPY_BYTES)
                )
                if step == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), self._given)
                copied += step
            os.ftruncate(fd, self.size_bytes)
            self.status = os.fstat(fd)
        finally:
            os.close(fd)

    def discard(self) -> None:
        """Remove what is left of it and close everything; always the last call."""
        with suppress(OSError):
            if self._temporary:
                os.unlink(self._temporary, dir_fd=self._dir_fd)
        self._forget()
        for each in (self._fd, self._dir_fd):
            with suppress(OSError):
                if each >= 0:
                    os.close(each)
        self._fd = self._dir_fd = -1

    def _check(self, existing: os.stat_result) -> None:
        if stat.S_ISDIR(existing.st_mode):
            raise _is_a_directory(self._given)
        if stat.S_ISCHR(existing.st_mode):
            self._way = _Way.DIRECT
        elif not stat.S_ISREG(existing.st_mode):
            raise InvalidPathError(
                f"invalid file path: not a regular file: {self._given}"
            )
        elif not os.access(self._target, os.W_OK, effective_ids=True):
            # A rename would not ask, but a file that is read-only is meant so.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._given)

    def _open_beside(self, existing: os.stat_result | None) -> None:
        """Open a temporary file that can take the destination's place."""
        name = temporary_name()
        parent = os.path.dirname(self._target)
        self._journal.note(name, os.path.join(parent, name))
        try:
            # Until it has the mode of the file that it replaces, nobody else may look.
            mode = 0o666 if existing is None else 0o600
            self._fd = os.open(name, _NEW, mode, dir_fd=self._dir_fd)
        except OSError as error:
            self._journal.forget(name)
            if existing is None or error.errno not in _REFUSED:
                raise
            self._open_spool()
            return
        self._temporary = name
        if existing is not None and not _take_over(self._fd, existing, self._target):
            self._drop_temporary()
            self._open_spool()

    def _open_spool(self) -> None:
        """Open a nameless file, to be copied from; beside the destination if possible."""
        self._way = _Way.COPY
        try:
            self._fd = _nameless(os.path.dirname(self._target))
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            os.makedirs(self._spool_dir, mode=0o700, exist_ok=True)
            self._fd = _nameless(self._spool_dir)

    def _drop_temporary(self) -> None:
        os.close(self._fd)
        self._fd = -1
        os.unlink(self._temporary, dir_fd=self._dir_fd)
        self._forget()

    def _forget(self) -> None:
        if self._temporary:
            self._journal.forget(self._temporary)
            self._temporary = ""

    def _write_some(self, pieces: Sequence[Buffer]) -> None:
        total = sum(map(len, pieces))
        written = self._writev(pieces)
        self.size_bytes += written
        if written < total:
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                written = self._writev((rest,))
                self.size_bytes += written
                rest = rest[written:]

    def _writev(self, pieces: Sequence[Buffer]) -> int:
        try:
            return os.writev(self._fd, pieces)
        except BlockingIOError as error:
            raise InvalidPathError(
                f"invalid file path: the device takes nothing: {self._given}"
            ) from error


def follow(path: str) -> tuple[str, os.stat_result | None]:
    """Return where links lead from `path`, and the status of what is there, if any.

    Raises:
        OSError: Too many links, or a part of the path is no directory.
    """
    for _ in range(MAX_LINKS):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return path, None
        if not stat.S_ISLNK(found.st_mode):
            return path, found
        # Only the last part: links before it are the kernel's business.
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _is_a_directory(path: str) -> IsADirectoryError:
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)


def _take_over(fd: int, existing: os.stat_result, path: str) -> bool:
    """Give the new file the owner, attributes and mode of the existing one at `path`."""
    try:
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (existing.st_uid, existing.st_gid):
            os.fchown(fd, existing.st_uid, existing.st_gid)
        _copy_attributes(fd, path)
        # Last, because a change of owner takes bits away.
        os.fchmod(fd, stat.S_IMODE(existing.st_mode))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        return False
    return True


def _copy_attributes(fd: int, path: str) -> None:
    """Copy extended attributes, access lists among them.

    Those of the system's security are its own business: labels come with the directory,
    and capabilities end with the content that they were given to.
    """
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return
        raise
    for name in names:
        if name.startswith("security."):
            continue
        try:
            value = os.getxattr(path, name)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTE:
                continue
            raise
        os.setxattr(fd, name, value)


def _nameless(directory: str) -> int:
    """Open a new file without a name, for writing and reading."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(directory, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}:
            raise
    # This file system has no such files, so one with a name loses it at once.
    path = os.path.join(directory, temporary_name())
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return fd


def _reserve(fd: int, size_bytes: int) -> None:
    """Take the space that the file lacks, so that a full disk leaves it as it was."""
    old = os.fstat(fd).st_size
    if size_bytes <= old:
        return
    try:
        os.posix_fallocate(fd, old, size_bytes - old)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV}:
            return
        os.ftruncate(fd, old)
        raise
