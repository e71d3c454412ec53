"""Makes an archive of a directory, piece by piece.

Names are below the directory, sorted, each directory before what is in it; so the same
tree makes the same bytes. Links are stored as links. What cannot be stored (pipes,
sockets, devices, what may not be read or went meanwhile) is left out and noted: in a zip
as the archive's comment, in a tar as the comment (a pax record) of a last entry `./`, the
directory that was packed.
"""

import os
import stat
from collections.abc import Generator, Iterator
from typing import NamedTuple, Protocol

from agent.files.archives.compression import compressor
from agent.files.archives.tar_writing import TarWriter
from agent.files.archives.zip_writing import ZipWriter
from agent.files.paths import told_as
from agent.files.sending import ShortFileError
from agent.wire import printable

READ_BYTES = 256 * 1024
"""Read at once; a file that is no longer is stored with the size that was read."""
BLOCK_BYTES = 256 * 1024
"""Of the archive, made at once."""
NOTE_CHARACTERS = 4000
"""Of the note of what was left out."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Entry(NamedTuple):
    """One entry on its way in; most are known to be files by their directory."""

    name: str
    path: str
    is_file: bool


class Writer(Protocol):
    """What tar and zip have in common: each call returns bytes of the archive."""

    def directory(self, name: str, status: os.stat_result) -> bytes:
        """Add a directory."""

    def link(self, name: str, status: os.stat_result, target: str) -> bytes:
        """Add a symbolic link."""

    def begin(self, name: str, status: os.stat_result, size_bytes: int) -> bytes:
        """Begin a file."""

    def content(self, data: bytes) -> bytes:
        """Add to the file that was begun."""

    def end(self) -> bytes:
        """End the file that was begun."""

    def close(self, note: str, root: os.stat_result) -> bytes:
        """End the archive."""


class Packing:
    """An archive that is being made; every method blocks.

    Args:
        root: What to pack: a directory, or one file.
        given: The same as the client named it.
        suffix: The format.

    Attributes:
        done: The last block was made.
    """

    def __init__(self, root: str, given: str, suffix: str) -> None:
        self.done = False
        self._root = root
        self._given = given
        self._writer: Writer = ZipWriter() if suffix == "zip" else TarWriter()
        self._compressor = compressor(suffix)
        self._skipped = 0
        self._noted: list[str] = []
        self._room = NOTE_CHARACTERS
        self._pieces = self._all()

    def block(self) -> bytes:
        """Return the next bytes.

        Raises:
            OSError: What was asked for is missing, or may not be read.
            ShortFileError: A file became shorter than was announced.
        """
        found: list[bytes] = []
        size = 0
        while size < BLOCK_BYTES:
            gathered = self._gather()
            if not gathered:
                self.done = True
                found.append(self._compressor.flush())
                break
            packed = self._compressor.compress(gathered)
            found.append(packed)
            size += len(packed)
        return found[0] if len(found) == 1 else b"".join(found)

    def _gather(self) -> bytes:
        """Return so much of what is to be compressed that calling for it is worth it."""
        found: list[bytes] = []
        size = 0
        for piece in self._pieces:
            found.append(piece)
            size += len(piece)
            if size >= READ_BYTES:
                break
        return found[0] if len(found) == 1 else b"".join(found)

    def close(self) -> None:
        """Close what is open; a block in the making is over by then."""
        self._pieces.close()

    def _all(self) -> Generator[bytes, None, None]:
        stack = self._first()
        while stack:
            entry = stack.pop()
            try:
                if entry.is_file:
                    yield from self._file(entry)
                    continue
                status = os.lstat(entry.path)
                if stat.S_ISDIR(status.st_mode):
                    yield self._writer.directory(entry.name, status)
                    stack += _below(entry.path, f"{entry.name}/")
                else:
                    yield from self._other(entry, status)
            except OSError as error:
                self._skip(entry.name, (error.strerror or "unreadable").lower())
        yield self._writer.close(self._note(), self._root_status())

    def _first(self) -> list[Entry]:
        """Return the first entries; the last comes first."""
        with told_as(self._given):
            if not stat.S_ISDIR(os.stat(self._root).st_mode):
                name = os.path.basename(self._root)
                return [Entry(name, os.path.realpath(self._root), is_file=False)]
            return _below(self._root, "")

    def _other(self, entry: Entry, status: os.stat_result) -> Iterator[bytes]:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            yield self._writer.link(entry.name, status, os.readlink(entry.path))
        elif kind == stat.S_IFREG:
            yield from self._file(entry)
        else:
            self._skip(entry.name, "not a regular file")

    def _file(self, entry: Entry) -> Iterator[bytes]:
        fd = os.open(entry.path, _READ)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._skip(entry.name, "not a regular file")
                return
            data = _read_first(fd, status.st_size)
            if len(data) < READ_BYTES:
                # Whole, whatever its size was: it may have changed, or be in /proc.
                yield self._writer.begin(entry.name, status, len(data))
                yield self._writer.content(data)
                yield self._writer.end()
                return
            size = max(status.st_size, len(data))
            yield self._writer.begin(entry.name, status, size)
            yield from self._content(fd, data, size)
            yield self._writer.end()
        finally:
            os.close(fd)

    def _content(self, fd: int, first: bytes, size_bytes: int) -> Iterator[bytes]:
        data, left = first, size_bytes
        while True:
            left -= len(data)
            yield self._writer.content(data)
            if not left:
                return
            try:
                data = os.read(fd, min(READ_BYTES, left))
            except OSError as error:
                raise ShortFileError(self._given) from error
            if not data:
                # Its size is announced, and nothing may be made up.
                raise ShortFileError(self._given)

    def _root_status(self) -> os.stat_result:
        path = self._root
        if not os.path.isdir(path):
            path = os.path.dirname(os.path.realpath(path))
        return os.stat(path)

    def _skip(self, name: str, reason: str) -> None:
        self._skipped += 1
        words = f"{printable(name)}: {reason}"
        if len(words) <= self._room:
            self._room -= len(words) + 1
            self._noted.append(words)

    def _note(self) -> str:
        if not self._skipped:
            return ""
        return "\n".join([f"left out: {self._skipped}", *self._noted])


def _below(path: str, prefix: str) -> list[Entry]:
    """Return the entries of a directory; the last comes first."""
    base = path if path.endswith("/") else f"{path}/"
    with os.scandir(path) as found:
        below = [(each.name, each.is_file(follow_symlinks=False)) for each in found]
    below.sort(reverse=True)
    return [Entry(prefix + name, base + name, is_file) for name, is_file in below]


def _read_first(fd: int, size_bytes: int) -> bytes:
    """Return the first `READ_BYTES` of a file, fewer only if it has no more."""
    # A buffer that is no larger than needed is had faster; files that say 0 are virtual.
    wanted = min(size_bytes + 1, READ_BYTES) if size_bytes else READ_BYTES
    data = os.read(fd, wanted)
    if len(data) < wanted or wanted == READ_BYTES:
        return data
    return data + os.read(fd, READ_BYTES - wanted)
