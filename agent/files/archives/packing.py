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
    """One entry on its way in."""

    name: str
    path: str
    status: os.stat_result


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
        for piece in self._pieces:
            packed = self._compressor.compress(piece)
            found.append(packed)
            size += len(packed)
            if size >= BLOCK_BYTES:
                return b"".join(found)
        self.done = True
        return b"".join([*found, self._compressor.flush()])

    def close(self) -> None:
        """Close what is open; a block in the making is over by then."""
        self._pieces.close()

    def _all(self) -> Generator[bytes, None, None]:
        stack = self._first()
        while stack:
            path, name = stack.pop()
            try:
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode):
                    yield self._writer.directory(name, status)
                    below = sorted(os.listdir(path), reverse=True)
                    stack += [(f"{path}/{each}", f"{name}/{each}") for each in below]
                else:
                    yield from self._entry(Entry(name, path, status))
            except OSError as error:
                self._skip(name, (error.strerror or "unreadable").lower())
        yield self._writer.close(self._note(), self._root_status())

    def _first(self) -> list[tuple[str, str]]:
        """Return the first paths and their names; the last comes first."""
        with told_as(self._given):
            if not stat.S_ISDIR(os.stat(self._root).st_mode):
                name = os.path.basename(self._root)
                return [(os.path.realpath(self._root), name)]
            names = sorted(os.listdir(self._root), reverse=True)
        return [(os.path.join(self._root, each), each) for each in names]

    def _entry(self, entry: Entry) -> Iterator[bytes]:
        kind = stat.S_IFMT(entry.status.st_mode)
        if kind == stat.S_IFLNK:
            target = os.readlink(entry.path)
            yield self._writer.link(entry.name, entry.status, target)
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
            data = os.read(fd, READ_BYTES)
            if len(data) < READ_BYTES:
                # Whole, whatever its size was: it may have changed, or be in /proc.
                yield self._writer.begin(entry.name, status, len(data))
                yield self._writer.content(data) + self._writer.end()
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
