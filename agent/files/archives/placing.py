"""Puts the entries of an archive below a directory, and nowhere else.

Every step is taken from an open directory, one name at a time and through no link, as
openat(2) does it: neither the archive nor what lay there before can lead it elsewhere. A
file is written beside its place and renamed over what is there; a link that is there is
replaced, never written through. Not even a device, or a bit that gives another's rights,
is made.
"""

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from agent.errors import TooLargeError, TooManyError
from agent.files.archives.tar_reading import ArchiveEntry, EntryKind
from agent.files.journal import Journal, temporary_name
from agent.files.paths import tell_as
from agent.wire import printable

ENTRIES_MAX = 1_000_000
"""Of one archive."""
BYTES_MAX = 256 * 1024**3
"""Of one archive's content; the disk is usually full before."""
NAME_BYTES_MAX = 4096
"""As the system has it for paths."""
DEPTH_MAX = 256
"""Directories in one name."""
RATIO_MAX = 300
"""Content to what came: three times what text that repeats itself reaches."""
RATIO_FREE_BYTES = 256 * 1024**2
"""Content for which the ratio is not looked at."""
SKIPPED_NAMES = 1000
"""Told by name; more are only counted."""
TARGETS_MAX = 100_000
"""Files to which a hard link may lead: the last so many."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlacedError(Exception):
    """An entry is left out; the message says why."""


class Placing:
    """One archive on its way to a directory; every method blocks.

    Args:
        root: The directory, which is there; links that lead to it are the caller's.
        journal: Remembers temporary files.

    Attributes:
        entries: What was made.
        size_bytes: What was written.
        skipped: What was left out and why.
        skipped_count: How much was left out.
        came_bytes: What came from the client; set by the caller.
    """

    def __init__(self, root: str, journal: Journal) -> None:
        self.entries = 0
        self.size_bytes = 0
        self.skipped: list[str] = []
        self.skipped_count = 0
        self.came_bytes = 0
        self._seen = 0
        self._root = os.path.realpath(root)
        self._journal = journal
        self._targets: dict[int, None] = {}
        self._root_fd = os.open(self._root, _DIRECTORY)
        self._parent: tuple[str, ...] = ()
        self._parent_fd = self._root_fd
        self._modes: dict[tuple[str, ...], tuple[int, float]] = {}

    def close(self) -> None:
        """Close what is open."""
        self._leave()
        os.close(self._root_fd)

    def place(self, entry: ArchiveEntry, content: Iterable[bytes | memoryview]) -> None:
        """Make one entry, or note why not.

        Raises:
            AgentError: A bound is passed.
            OSError: The system refuses.
        """
        self._seen += 1
        if self._seen > ENTRIES_MAX:
            raise TooManyError(f"the archive has more than {ENTRIES_MAX} entries")
        try:
            parts = self._parts(entry.name)
            if not parts:
                return
            self._enter(parts[:-1])
            self._make(entry, parts, content)
            self.entries += 1
        except NotPlacedError as reason:
            self._skip(entry.name, str(reason))
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            self._skip(entry.name, "something else is in the way")
        except ConnectionError:
            # Of the client, who sends no more content.
            raise
        except OSError as error:
            # Named as in the archive, not as the temporary file.
            tell_as(error, entry.name)
            raise

    def finish(self) -> None:
        """Give the new directories their modes and times, the deepest first."""
        for parts in sorted(self._modes, key=len, reverse=True):
            mode, mtime = self._modes[parts]
            with suppress(OSError, NotPlacedError):
                self._enter(parts)
                os.fchmod(self._parent_fd, mode)
                os.utime(self._parent_fd, (mtime, mtime))

    def _skip(self, name: str, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < SKIPPED_NAMES:
            self.skipped.append(f"{printable(name[:NAME_BYTES_MAX])}: {reason}")

    def _parts(self, name: str) -> tuple[str, ...]:
        if len(name) > NAME_BYTES_MAX:
            raise NotPlacedError("its name is too long")
        if name.startswith("/"):
            raise NotPlacedError("its name is absolute")
        if "\0" in name:
            raise NotPlacedError("its name holds a NUL byte")
        parts = tuple(each for each in name.split("/") if each not in {"", "."})
        if ".." in parts:
            raise NotPlacedError("its name leads outside")
        if len(parts) > DEPTH_MAX:
            raise NotPlacedError("it lies too deep")
        if any(len(os.fsencode(each)) > 255 for each in parts):
            raise NotPlacedError("its name is too long")
        return parts

    def _enter(self, parts: tuple[str, ...]) -> None:
        """Make a directory the present one, with those on the way that are missing."""
        if parts == self._parent:
            return
        self._leave()
        fd = os.dup(self._root_fd)
        try:
            for name in parts:
                below = self._below(fd, name)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        self._parent, self._parent_fd = parts, fd

    def _leave(self) -> None:
        if self._parent_fd != self._root_fd:
            os.close(self._parent_fd)
        self._parent, self._parent_fd = (), self._root_fd

    def _below(self, fd: int, name: str) -> int:
        with suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=fd)
        try:
            return os.open(name, _DIRECTORY, dir_fd=fd)
        except NotADirectoryError:
            raise NotPlacedError(
                "a file or a link is where its directory would be"
            ) from None

    def _make(
        self,
        entry: ArchiveEntry,
        parts: tuple[str, ...],
        content: Iterable[bytes | memoryview],
    ) -> None:
        name = parts[-1]
        if entry.kind is EntryKind.FILE:
            self._file(entry, name, content)
            self._remember(parts)
        elif entry.kind is EntryKind.DIRECTORY:
            self._directory(entry, parts)
        elif entry.kind is EntryKind.SYMLINK:
            target = inside(parts, entry.target)
            self._put(name, lambda new: os.symlink(target, new, dir_fd=self._parent_fd))
        elif entry.kind is EntryKind.HARDLINK:
            self._hard_link(entry, parts)
        else:
            raise NotPlacedError("it is no file, directory or link")

    def _remember(self, parts: tuple[str, ...]) -> None:
        self._targets[hash(parts)] = None
        if len(self._targets) > TARGETS_MAX:
            del self._targets[next(iter(self._targets))]

    def _directory(self, entry: ArchiveEntry, parts: tuple[str, ...]) -> None:
        name = parts[-1]
        try:
            os.mkdir(name, 0o777, dir_fd=self._parent_fd)
        except FileExistsError:
            found = os.lstat(name, dir_fd=self._parent_fd)
            if not stat.S_ISDIR(found.st_mode):
                raise
            return
        if len(self._modes) < TARGETS_MAX:
            # Later: it may not be written to, and what is put in it changes its time.
            self._modes[parts] = (entry.mode & 0o777, entry.mtime)

    def _file(
        self, entry: ArchiveEntry, name: str, content: Iterable[bytes | memoryview]
    ) -> None:
        def write(new: str) -> None:
            fd = os.open(new, _NEW, 0o600, dir_fd=self._parent_fd)
            try:
                for piece in content:
                    self._count(len(piece))
                    left = memoryview(piece)
                    while left:
                        left = left[os.write(fd, left) :]
                os.fchmod(fd, entry.mode & 0o777)
                os.utime(fd, (entry.mtime, entry.mtime))
            finally:
                os.close(fd)

        with suppress(FileNotFoundError):
            found = os.lstat(name, dir_fd=self._parent_fd)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError
        self._put(name, write)

    def _count(self, size: int) -> None:
        self.size_bytes += size
        if self.size_bytes > BYTES_MAX:
            raise TooLargeError(f"the archive holds more than {BYTES_MAX} bytes")
        if self.size_bytes > RATIO_FREE_BYTES + RATIO_MAX * self.came_bytes:
            raise TooLargeError(
                f"the archive holds more than {RATIO_MAX} times its own size"
            )

    def _hard_link(self, entry: ArchiveEntry, parts: tuple[str, ...]) -> None:
        source = self._parts(entry.target)
        if hash(source) not in self._targets:
            raise NotPlacedError("it links to what was not unpacked before")
        if source == parts:
            return
        self._enter(source[:-1])
        source_fd = os.dup(self._parent_fd)
        try:
            self._enter(parts[:-1])
            self._put(
                parts[-1],
                lambda new: os.link(
                    source[-1],
                    new,
                    src_dir_fd=source_fd,
                    dst_dir_fd=self._parent_fd,
                    follow_symlinks=False,
                ),
            )
        finally:
            os.close(source_fd)

    def _put(self, name: str, make: Callable[[str], None]) -> None:
        """Make something beside its place, and rename it over what is there."""
        new = temporary_name()
        path = os.path.join(self._root, *self._parent, new)
        self._journal.note(new, path)
        try:
            make(new)
            os.rename(new, name, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
        finally:
            # After a rename of one hard link over another both names stay.
            with suppress(OSError):
                os.unlink(new, dir_fd=self._parent_fd)
            self._journal.forget(new)


def inside(parts: tuple[str, ...], target: str) -> str:
    """Return where a link may lead, if that is below the directory.

    It may go up only at its beginning: a name in it may be a link itself, and what is
    above of where that leads is not what is above of the name.

    Raises:
        NotPlacedError: It leads outside, or may.
    """
    names = [each for each in target.split("/") if each not in {"", "."}]
    ups = 0
    while ups < len(names) and names[ups] == "..":
        ups += 1
    if not target or target.startswith("/") or "\0" in target:
        raise NotPlacedError("it is a link that leads outside")
    if ups > len(parts) - 1 or ".." in names[ups:]:
        raise NotPlacedError("it is a link that leads outside")
    return target
