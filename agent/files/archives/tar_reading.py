"""Reads a tar as it comes, in constant memory and linear time.

Our own, because the library's reader holds whole headers of any size in memory and looks
through them with patterns that take hours for some. Understands the formats of POSIX
(ustar, pax) and GNU's long names and large numbers; see POSIX.1-2017 `pax`, "Extended
Description". Sparse files are told as such and skipped by the caller.
"""

import os
from collections.abc import Iterator
from enum import Enum, auto

import msgspec

from agent.errors import TooLargeError
from agent.files.archives.compression import Broken

BLOCK_BYTES = 512
EXTRA_BYTES_MAX = 64 * 1024
"""Of the extended headers of one entry: sixteen of the longest paths."""
PIECE_BYTES = 256 * 1024
"""Of content, handed on at once."""
NUMBER_MAX = 2**62


class EntryKind(Enum):
    """What an entry is."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    HARDLINK = auto()
    OTHER = auto()


class ArchiveEntry(msgspec.Struct):
    """One entry of an archive."""

    name: str
    kind: EntryKind
    size_bytes: int
    mode: int
    mtime: float
    target: str = ""


KINDS = {
    b"0": EntryKind.FILE,
    b"\0": EntryKind.FILE,
    b"7": EntryKind.FILE,
    b"1": EntryKind.HARDLINK,
    b"2": EntryKind.SYMLINK,
    b"5": EntryKind.DIRECTORY,
}
_HAVE_CONTENT = {b"0", b"\0", b"7"}


class Bytes:
    """A stream of pieces, read in the sizes that are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def some(self, limit: int) -> memoryview:
        """Return the next bytes, no more than the limit; none at the end."""
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return memoryview(b"")
            self._piece = memoryview(piece)
        found, self._piece = self._piece[:limit], self._piece[limit:]
        return found

    def exactly(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size and (some := self.some(size - len(found))):
            found += some
        return bytes(found)


class TarReader:
    """The entries of one tar; the content of each is read before the next."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._bytes = Bytes(pieces)
        self._global: dict[str, str] = {}
        self._left = 0
        self._padding = 0

    def entries(self) -> Iterator[ArchiveEntry]:
        """Yield the entries.

        Raises:
            Broken: The archive is malformed, or ends early.
            TooLargeError: A header is larger than any name needs.
        """
        while (head := self._head()) is not None:
            yield self._entry(head)
            for _ in self.content():
                pass
            self._pad()
        # Taken to its end, so that its compression is checked and the client is heard.
        while self._bytes.some(PIECE_BYTES):
            pass

    def content(self) -> Iterator[memoryview]:
        """Yield the content of the present entry."""
        while self._left:
            some = self._bytes.some(min(self._left, PIECE_BYTES))
            if not some:
                raise Broken("truncated archive")
            self._left -= len(some)
            yield some

    def _pad(self) -> None:
        if len(self._bytes.exactly(self._padding)) < self._padding:
            raise Broken("truncated archive")
        self._padding = 0

    def _head(self) -> bytes | None:
        """Return the next header, or None at the mark of the end."""
        head = self._bytes.exactly(BLOCK_BYTES)
        if len(head) < BLOCK_BYTES:
            raise Broken("truncated archive")
        if not any(head):
            return None
        if _number(head[148:156]) != sum(head[:148]) + 256 + sum(head[156:]):
            raise Broken("corrupt archive: not a tar header")
        return head

    def _entry(self, first: bytes) -> ArchiveEntry:
        head = first
        own: dict[str, str] = {}
        budget = EXTRA_BYTES_MAX
        while (kind := head[156:157]) in {b"x", b"g", b"L", b"K", b"X"}:
            size = _number(head[124:136])
            # Headers count, too: an archive may consist of nothing else.
            budget -= size + BLOCK_BYTES
            if budget < 0:
                raise TooLargeError("an archive's header is too large")
            extra = self._extra(size)
            if kind == b"g":
                self._global = {**self._global, **_records(extra, {"comment"})}
            elif kind in {b"x", b"X"}:
                own |= _records(extra, set())
            else:
                own["path" if kind == b"L" else "linkpath"] = _text(extra)
            following = self._head()
            if following is None:
                raise Broken("corrupt archive: a header without an entry")
            head = following
        return self._described(head, {**self._global, **own})

    def _extra(self, size: int) -> bytes:
        found = self._bytes.exactly(size)
        self._padding = -size % BLOCK_BYTES
        if len(found) < size:
            raise Broken("truncated archive")
        self._pad()
        return found

    def _described(self, head: bytes, extra: dict[str, str]) -> ArchiveEntry:
        name = extra.get("path") or _path(head)
        kind = KINDS.get(head[156:157], EntryKind.OTHER)
        if kind is EntryKind.FILE and name.endswith("/"):
            # As the oldest of tars told of directories.
            kind = EntryKind.DIRECTORY
        if any(each.startswith("GNU.sparse") for each in extra):
            kind = EntryKind.OTHER
        size = _decimal(extra.get("size")) if "size" in extra else None
        size = _number(head[124:136]) if size is None else int(size)
        stored = (
            size if head[156:157] not in {b"1", b"2", b"3", b"4", b"5", b"6"} else 0
        )
        self._left = stored
        self._padding = -stored % BLOCK_BYTES
        mtime = _decimal(extra.get("mtime")) if "mtime" in extra else None
        return ArchiveEntry(
            name=name,
            kind=kind,
            size_bytes=stored,
            mode=_number(head[100:108]),
            mtime=_number(head[136:148]) if mtime is None else mtime,
            target=extra.get("linkpath") or _text(head[157:257]),
        )


def _path(head: bytes) -> str:
    name = _text(head[:100])
    if head[257:262] == b"ustar" and head[263:265] == b"00" and head[345]:
        return f"{_text(head[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def _number(field: bytes) -> int:
    """Return a header's number: octal digits, or binary as GNU writes large ones."""
    if field[0] & 0x80:
        found = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] == 0xFF:
            # A time before 1970.
            return 0
    else:
        digits = field.partition(b"\0")[0].strip()
        try:
            found = int(digits or b"0", 8)
        except ValueError as error:
            raise Broken("corrupt archive: not a number") from error
    if not 0 <= found < NUMBER_MAX:
        raise Broken("corrupt archive: a number is out of range")
    return found


def _decimal(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        found = float(text) if "." in text else int(text[:20])
    except ValueError as error:
        raise Broken("corrupt archive: not a number") from error
    if not 0 <= found < NUMBER_MAX:
        return 0
    return found


def _records(extra: bytes, ignored: set[str]) -> dict[str, str]:
    """Return the records of an extended header: length, blank, name=value, newline."""
    found: dict[str, str] = {}
    at = 0
    while at < len(extra) and extra[at]:
        space = extra.find(b" ", at, at + 8)
        digits = extra[at:space]
        if space < 0 or not digits.isdigit():
            raise Broken("corrupt archive: a malformed extended header")
        end = at + int(digits)
        name, equals, value = extra[space + 1 : end - 1].partition(b"=")
        if end > len(extra) or end <= space or not equals:
            raise Broken("corrupt archive: a malformed extended header")
        if (key := os.fsdecode(name)) not in ignored:
            found[key] = os.fsdecode(value)
        at = end
    return found
