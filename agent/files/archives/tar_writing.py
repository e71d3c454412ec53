"""Writes a tar (POSIX.1-2001, "pax") entry by entry, with the library's own headers.

A header takes the library longer than reading a small file. Most differ from others only
in name, size and time, so those fields, and the checksum, are set in a header that the
library made before; whatever needs an extended header, it makes itself.
"""

import os
import stat
import tarfile
from functools import lru_cache

BLOCK_BYTES = 512
"""Everything in a tar fills blocks of this size."""
NAME_BYTES = 100
"""Of a name that needs no extended header."""
NUMBER_MAX = 8**11
"""What eleven octal digits cannot say any more."""


class TarWriter:
    """One tar archive; each call returns its next bytes."""

    def __init__(self) -> None:
        self._size_bytes = 0

    def directory(self, name: str, status: os.stat_result) -> bytes:
        """Add a directory."""
        return _header(name + "/", status, tarfile.DIRTYPE)

    def link(self, name: str, status: os.stat_result, target: str) -> bytes:
        """Add a symbolic link."""
        return _header(name, status, tarfile.SYMTYPE, target=target)

    def begin(self, name: str, status: os.stat_result, size_bytes: int) -> bytes:
        """Begin a file of exactly this size."""
        self._size_bytes = size_bytes
        return _header(name, status, tarfile.REGTYPE, size_bytes=size_bytes)

    def content(self, data: bytes) -> bytes:
        """Add to the file that was begun."""
        return data

    def end(self) -> bytes:
        """End the file that was begun."""
        return bytes(-self._size_bytes % BLOCK_BYTES)

    def close(self, note: str, root: os.stat_result) -> bytes:
        """End the archive; a note is a comment on the directory that was packed."""
        # Not a global header: at the end of an archive Python's own reader fails there.
        noted = _header("./", root, tarfile.DIRTYPE, comment=note) if note else b""
        return noted + bytes(2 * BLOCK_BYTES)


def _header(
    name: str,
    status: os.stat_result,
    kind: bytes,
    *,
    size_bytes: int = 0,
    target: str = "",
    comment: str = "",
) -> bytes:
    mtime = int(status.st_mtime)
    fits = 0 <= mtime < NUMBER_MAX and size_bytes < NUMBER_MAX
    if fits and len(name) <= NAME_BYTES and name.isascii() and not (target or comment):
        return _plain_header(name.encode(), status, kind, size_bytes, mtime)
    entry = _entry(name, status.st_mode, status.st_uid, status.st_gid, kind)
    entry.mtime = mtime
    entry.size = size_bytes
    entry.linkname = target
    if comment:
        entry.pax_headers = {"comment": comment}
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _entry(name: str, mode: int, uid: int, gid: int, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(mode)
    entry.uid, entry.gid = uid, gid
    entry.type = kind
    return entry


def _plain_header(
    name: bytes, status: os.stat_result, kind: bytes, size_bytes: int, mtime: int
) -> bytes:
    before, owner, rest, known = _template(
        status.st_mode, status.st_uid, status.st_gid, kind
    )
    numbers = b"%011o\0%011o\0" % (size_bytes, mtime)
    checksum = b"%06o\0 " % (known + sum(name) + sum(numbers))
    return b"".join(
        (before, name.ljust(NAME_BYTES, b"\0"), owner, numbers, checksum, rest)
    )


@lru_cache(maxsize=64)
def _template(
    mode: int, uid: int, gid: int, kind: bytes
) -> tuple[bytes, bytes, bytes, int]:
    """Return what comes before the name, after it, after the checksum, and their sum.

    What comes before is the extended header of owners that eight digits cannot say.
    """
    entry = _entry("", mode, uid, gid, kind)
    made = entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    before, head = made[:-BLOCK_BYTES], made[-BLOCK_BYTES:]
    owner, rest = head[100:124], head[156:]
    # The checksum itself counts as eight blanks.
    return before, owner, rest, sum(owner) + sum(rest) + 8 * ord(" ")
