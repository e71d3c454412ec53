"""Writes a tar (POSIX.1-2001, "pax") entry by entry, with the library's own headers."""

import os
import stat
import tarfile

BLOCK_BYTES = 512
"""Everything in a tar fills blocks of this size."""


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
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.mtime = int(status.st_mtime)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.type = kind
    entry.size = size_bytes
    entry.linkname = target
    if comment:
        entry.pax_headers = {"comment": comment}
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
