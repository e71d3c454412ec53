"""Where events are stored: lines in at most two files, the older of which is given up.

`<directory>/<number of the first line>.jsonl`, each line an object that begins with its
number. A reader says after which number it wants to go on, and is shown the place by
bisection, because numbers only grow. What is no such line (half of one, after a power
cut; zeros; somebody's scribbling) is stepped over, here and by whoever is sent it.
"""

import contextlib
import errno
import os
import re
from typing import NamedTuple

from agent.keeper.state import State, StateError

BLOCK_BYTES = 64 * 1024
"""Read, or written, at a time."""

SEGMENT_MIN_BYTES = 64 * 1024
"""Of a smaller one there would be no more to read than a few commands."""

SEGMENTS = 2

_NAME = re.compile(r"(\d{1,19})\.jsonl")
_LINE = re.compile(
    rb'^\{"id":(\d{1,18}),"time":"[0-9T:.-]+Z","unixMs":-?\d+,"type":".*\}$',
    re.MULTILINE,
)
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Place(NamedTuple):
    """Where a reader has come to: the first number of a segment, and an offset in it."""

    first: int
    offset: int


class Block(NamedTuple):
    """What a reader is given.

    Attributes:
        content: Whole lines; those up to the number that the reader has may be among them.
        place: Where to go on.
        more: Whether there is more by now.
    """

    content: bytes
    place: Place
    more: bool


class Segment:
    """One file of lines."""

    __slots__ = ("fd", "first", "path", "size", "torn")

    def __init__(self, path: str, first: int, fd: int) -> None:
        self.path = path
        self.first = first
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.torn = self.size > 0 and os.pread(fd, 1, self.size - 1) != b"\n"
        """The last line was not written to its end."""

    def append(self, content: bytes) -> None:
        """Write whole lines: all of them, or none.

        Raises:
            OSError: They could not be written.
        """
        # What was left of a line is ended, so that it spoils none of ours.
        content = b"\n" + content if self.torn else content
        written = os.write(self.fd, content)
        if written == len(content):
            self.size += written
            self.torn = False
            return
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            self.size += written
            self.torn = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def last(self) -> int:
        """Return the number of the last line; 0 when there is none."""
        end = self.size
        while end > 0:
            # Twice as much as is gone back, for lines across the edge.
            start = max(0, end - BLOCK_BYTES)
            numbers = _LINE.findall(os.pread(self.fd, 2 * BLOCK_BYTES, start))
            if numbers:
                return int(numbers[-1])
            end = start
        return 0

    def find(self, since: int) -> int:
        """Return an offset before which nothing after `since` is, and not long before."""
        low, high = 0, os.fstat(self.fd).st_size
        while high - low > BLOCK_BYTES:
            middle = (low + high) // 2
            found = _LINE.search(os.pread(self.fd, BLOCK_BYTES, middle))
            # The first match may be what is left of a line, if that looks like one; it
            # has the number of another then, so it counts only from its own start on.
            if found is not None and int(found[1]) <= since:
                low = middle + found.start()
            else:
                high = middle
        return low

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class Segments:
    """The stored events.

    Args:
        state: Who makes directories.
        directory: Where the files are.
        max_bytes: Of all of them together.
    """

    def __init__(self, state: State, directory: str, max_bytes: int) -> None:
        self._state = state
        self._directory = directory
        self._segment_bytes = max(SEGMENT_MIN_BYTES, max_bytes // SEGMENTS)
        self._all: list[Segment] = []

    def open(self) -> int:
        """Open what an earlier keeper has left; return the number of its last line.

        Raises:
            OSError: What is there cannot be read; nothing is opened then.
        """
        self._make_directory()
        names = filter(_NAME.fullmatch, os.listdir(self._directory))
        found = sorted((int(name.partition(".")[0]), name) for name in names)
        for first, name in found:
            path = os.path.join(self._directory, name)
            with contextlib.suppress(OSError):
                self._all.append(Segment(path, first, os.open(path, _FLAGS)))
        self._forget_oldest()
        last = max((each.last() for each in self._all), default=0)
        return max(last, self._all[-1].first - 1 if self._all else 0)

    @property
    def oldest(self) -> int:
        """The number of the oldest line; 0 when there is none."""
        return self._all[0].first if self._all else 0

    def append(self, first: int, content: bytes) -> None:
        """Store whole lines, of which the first has a number: all of them, or none.

        Raises:
            OSError: They could not be stored.
        """
        current = self._all[-1] if self._all else None
        if current is None or (
            current.size and current.size + len(content) > self._segment_bytes
        ):
            current = self._begin(first)
        current.append(content)

    def _begin(self, first: int) -> Segment:
        path = os.path.join(self._directory, f"{first}.jsonl")
        # Somebody may have removed the directory, or put a link in its place.
        self._make_directory()
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        current = Segment(path, first, fd)
        if self._all and self._all[-1].first == first:
            # The same file, begun and never written to.
            self._all.pop().close()
        self._all.append(current)
        self._forget_oldest()
        return current

    def _make_directory(self) -> None:
        try:
            self._state.make_directory(self._directory)
        except StateError as error:
            raise OSError(errno.ENOTDIR, str(error)) from error

    def _forget_oldest(self) -> None:
        for segment in self._all[:-SEGMENTS]:
            self._state.drop(segment.path)
            segment.close()
        del self._all[:-SEGMENTS]

    def read(self, since: int, place: Place | None) -> Block:
        """Return what is stored after a number, or the next of it.

        Args:
            since: The last number that the reader has.
            place: What the last block said; None, or one that is gone: it is looked for.
        """
        segment = (
            next((each for each in self._all if each.first == place[0]), None)
            if (place is not None)
            else None
        )
        if segment is None or place is None:
            if not self._all:
                return Block(b"", Place(0, 0), more=False)
            earlier = [each for each in self._all if each.first <= since + 1]
            segment = earlier[-1] if earlier else self._all[0]
            offset = segment.find(since)
        else:
            offset = max(0, place.offset)
        content = os.pread(segment.fd, BLOCK_BYTES, offset)
        end = content.rfind(b"\n") + 1
        if not end and len(content) == BLOCK_BYTES:
            end = len(content)
        if end:
            return Block(content[:end], Place(segment.first, offset + end), more=True)
        following = self._all.index(segment) + 1
        if following < len(self._all):
            return Block(b"", Place(self._all[following].first, 0), more=True)
        return Block(b"", Place(segment.first, offset), more=False)

    def close(self) -> None:
        """Close the files."""
        for segment in self._all:
            segment.close()
        self._all.clear()
