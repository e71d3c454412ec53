"""Writes a zip entry by entry, to where nobody can seek."""

import os
import stat
import time
import zipfile
from typing import IO

from agent.wire import printable

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""What a zip's clock begins with."""
LATEST_S = 4_354_819_199
"""The end of 2107 in Unix seconds."""
ZIP64_BYTES = 2**31 - 1
"""From this size on, a file needs the longer headers."""
_UNIX = 3


class _Sink:
    """Takes what zipfile writes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        """Keep it."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing, as zipfile asks for it."""

    def close(self) -> None:
        """Do nothing, as above."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class ZipWriter:
    """One zip archive; each call returns its next bytes."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(
            self._sink,
            "w",
            zipfile.ZIP_DEFLATED,
            strict_timestamps=False,
        )
        self._open: IO[bytes] | None = None

    def directory(self, name: str, status: os.stat_result) -> bytes:
        """Add a directory."""
        entry = _entry(name + "/", status)
        entry.external_attr |= 0x10
        self._zip.writestr(entry, b"")
        return self._sink.take()

    def link(self, name: str, status: os.stat_result, target: str) -> bytes:
        """Add a symbolic link."""
        self._zip.writestr(_entry(name, status), os.fsencode(target))
        return self._sink.take()

    def begin(self, name: str, status: os.stat_result, size_bytes: int) -> bytes:
        """Begin a file."""
        entry = _entry(name, status)
        entry.compress_type = zipfile.ZIP_DEFLATED
        large = size_bytes >= ZIP64_BYTES
        self._open = self._zip.open(entry, "w", force_zip64=large)
        return self._sink.take()

    def content(self, data: bytes) -> bytes:
        """Add to the file that was begun."""
        assert self._open is not None  # noqa: S101 - for the types
        self._open.write(data)
        return self._sink.take()

    def end(self) -> bytes:
        """End the file that was begun."""
        assert self._open is not None  # noqa: S101 - for the types
        self._open.close()
        self._open = None
        return self._sink.take()

    def close(self, note: str, root: os.stat_result) -> bytes:  # noqa: ARG002 - see tar
        """End the archive; a note is its comment."""
        self._zip.comment = note.encode()
        self._zip.close()
        return self._sink.take()


def _entry(name: str, status: os.stat_result) -> zipfile.ZipInfo:
    # A zip has no way to say a name that is not UTF-8.
    moment = time.gmtime(min(max(status.st_mtime, 0), LATEST_S))[:6]
    entry = zipfile.ZipInfo(printable(name), max(moment, EARLIEST))
    entry.create_system = _UNIX
    entry.external_attr = (
        stat.S_IFMT(status.st_mode) | stat.S_IMODE(status.st_mode)
    ) << 16
    return entry
