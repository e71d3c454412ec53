"""Unpacks an archive as it comes from a client."""

import os
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import IO

from agent.errors import AgentError, InvalidRequestError, TimeLimitError, TooLargeError
from agent.files.archives.compression import GZIP, ZSTD, Broken, decompressed
from agent.files.archives.models import ArchiveFormat, Extracted
from agent.files.archives.placing import NAME_BYTES_MAX, Placing
from agent.files.archives.tar_reading import ArchiveEntry, EntryKind, TarReader
from agent.files.journal import Journal
from agent.files.paths import tell_as

TIME_LIMIT_S = 3600.0
"""For one archive, however slowly it comes."""
PIECE_BYTES = 256 * 1024
DIRECTORY_BYTES_MAX = 16 * 1024 * 1024
"""Of a zip's table of contents, which has to be in memory: some 200 000 entries."""
ZIP = b"PK"
_MAGIC: dict[ArchiveFormat, bytes] = {"tar.gz": GZIP, "tar.zst": ZSTD, "zip": ZIP}


class Unpacking:
    """One archive on its way in; blocks.

    Args:
        root: The directory to unpack to, which is there.
        given: The same as the client named it.
        journal: Remembers temporary files.
        expected: The format, or None to find out.
    """

    def __init__(
        self, root: str, given: str, journal: Journal, expected: ArchiveFormat | None
    ) -> None:
        self._root = root
        self._given = given
        self._expected = expected
        self._placing = Placing(root, journal)
        self._deadline = time.monotonic() + TIME_LIMIT_S

    def run(self, pieces: Iterator[bytes]) -> Extracted:
        """Unpack it.

        Raises:
            AgentError: It is malformed or ends early, or a bound is passed.
            OSError: The system refuses.
        """
        with closing(self._placing) as placing:
            try:
                self._unpack(self._counted(pieces))
            except AgentError as error:
                error.message += f"; {placing.entries} entries were unpacked before"
                raise
            except OSError as error:
                name = error.filename or self._given
                tell_as(
                    error, f"{name}; {placing.entries} entries were unpacked before"
                )
                raise
            return Extracted(
                entries=placing.entries,
                bytes=placing.size_bytes,
                skipped=placing.skipped,
                skipped_count=placing.skipped_count,
            )

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._placing.came_bytes += len(piece)
            if time.monotonic() > self._deadline:
                raise TimeLimitError("the archive took too long")
            yield piece

    def _unpack(self, pieces: Iterator[bytes]) -> None:
        first = b""
        while len(first) < len(ZSTD) and (piece := next(pieces, None)) is not None:
            first += piece
        if not first:
            raise Broken("the archive is empty")
        kind = next((m for m in _MAGIC.values() if first.startswith(m)), b"")
        if self._expected and _MAGIC.get(self._expected, b"") != kind:
            raise Broken(f"the archive is no {self._expected}")
        whole = _chained(first, pieces)
        if kind == ZIP:
            self._zip(whole)
            return
        reader = TarReader(decompressed(whole, kind) if kind else whole)
        for entry in reader.entries():
            self._placing.place(entry, reader.content())
        self._placing.finish()

    def _zip(self, pieces: Iterator[bytes]) -> None:
        # Without a name, so that nothing is left of it whatever happens.
        with tempfile.TemporaryFile(dir=self._root) as spool:
            for piece in pieces:
                spool.write(piece)
            try:
                with zipfile.ZipFile(_Careful(spool)) as archive:
                    for each in archive.infolist():
                        self._zip_entry(archive, each)
            except _ZIP_ERRORS as error:
                raise Broken(f"corrupt archive: {error}") from error
        self._placing.finish()

    def _zip_entry(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        if time.monotonic() > self._deadline:
            raise TimeLimitError("the archive took too long")
        entry = _described(info)
        if entry.kind is EntryKind.OTHER:
            self._placing.place(entry, ())
            return
        if info.flag_bits & 1:
            raise InvalidRequestError("the archive is encrypted")
        with archive.open(info) as content:
            if entry.kind is EntryKind.SYMLINK:
                entry.target = os.fsdecode(content.read(NAME_BYTES_MAX + 1))
            self._placing.place(entry, iter(lambda: content.read(PIECE_BYTES), b""))


_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    ValueError,
)


class _Careful:
    """A file of which nobody reads more at once than is good for our memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read so much."""
        if size > DIRECTORY_BYTES_MAX:
            raise TooLargeError("the zip's table of contents is too large")
        return self._file.read(DIRECTORY_BYTES_MAX if size < 0 else size)


def _described(info: zipfile.ZipInfo) -> ArchiveEntry:
    unix = info.external_attr >> 16
    kind = EntryKind.FILE
    if info.is_dir():
        kind = EntryKind.DIRECTORY
    elif stat.S_ISLNK(unix):
        kind = EntryKind.SYMLINK
    elif stat.S_IFMT(unix) not in {0, stat.S_IFREG}:
        kind = EntryKind.OTHER
    # Archives made on other systems say nothing of modes.
    usual = 0o755 if kind is EntryKind.DIRECTORY else 0o644
    return ArchiveEntry(
        name=info.filename,
        kind=kind,
        size_bytes=info.file_size,
        mode=stat.S_IMODE(unix) or usual,
        mtime=_moment(info.date_time),
    )


def _moment(date: tuple[int, int, int, int, int, int]) -> float:
    import calendar  # noqa: PLC0415 - needed for zips only

    try:
        return calendar.timegm((*date, 0, 0, 0))
    except ValueError:
        # A month 0, as archives without a clock have it.
        return 0


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces
