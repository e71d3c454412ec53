"""Text as it comes: what has not been dealt with yet, and where it lies in the log.

For the api and for the program that tries expressions, so standard library only.
"""

from bisect import bisect_right
from typing import NamedTuple

SHOWN_MAX_BYTES = 4096
"""Of the line that a match is in."""


class Found(NamedTuple):
    """A match.

    Attributes:
        stream: 1 stdout, 2 stderr.
        offset: Where in the log it begins.
        end: Where it ends.
        line: The line around it, as far as it has come, or a part of a long one.
        match: The match itself, or the beginning of a long one.
    """

    stream: int
    offset: int
    end: int
    line: str
    match: str


class Tail:
    """The end of one output.

    Args:
        stream: Which one.
    """

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.content = bytearray()
        self._dropped = 0
        self._places: list[int] = []
        self._offsets: list[int] = []

    def add(self, offset: int, data: bytes) -> None:
        """Take what stands in the log at an offset."""
        self._places.append(self._dropped + len(self.content))
        self._offsets.append(offset)
        self.content += data

    def drop(self, count: int) -> None:
        """Forget the first bytes."""
        if count <= 0:
            return
        del self.content[:count]
        self._dropped += count
        first = bisect_right(self._places, self._dropped) - 1
        if first > 0:
            del self._places[:first]
            del self._offsets[:first]

    def offset_of(self, at: int) -> int:
        """Return where in the log a byte of the content stands."""
        place = self._dropped + at
        which = max(0, bisect_right(self._places, place) - 1)
        return self._offsets[which] + place - self._places[which]

    def found(self, start: int, end: int) -> Found:
        """Return a match in the content as it is told."""
        first = max(self.content.rfind(b"\n", 0, start) + 1, end - SHOWN_MAX_BYTES, 0)
        first = min(first, start)
        last = self.content.find(b"\n", end)
        last = min(len(self.content) if last < 0 else last, first + SHOWN_MAX_BYTES)
        return Found(
            self.stream,
            self.offset_of(start),
            self.offset_of(end - 1) + 1 if end > start else self.offset_of(start),
            _shown(self.content[first:last].removesuffix(b"\r")),
            _shown(self.content[start : min(end, start + SHOWN_MAX_BYTES)]),
        )


class Literal:
    """Finds a text in what comes, across the pieces that it comes in.

    Args:
        pattern: The text.
    """

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._tails = {stream: Tail(stream) for stream in (1, 2)}

    def look(self, stream: int, offset: int, data: bytes) -> Found | None:
        """Take the next piece of an output; return the text if that completes it."""
        tail = self._tails[stream]
        start = max(0, len(tail.content) - len(self._pattern) + 1)
        tail.add(offset, data)
        at = tail.content.find(self._pattern, start)
        if at >= 0:
            return tail.found(at, at + len(self._pattern))
        self._forget(tail)
        return None

    def _forget(self, tail: Tail) -> None:
        """Keep the line that is not finished, and what may be the text's beginning."""
        content = tail.content
        line = max(content.rfind(b"\n") + 1, len(content) - SHOWN_MAX_BYTES)
        tail.drop(min(line, len(content) - len(self._pattern) + 1))


def _shown(text: bytes | bytearray) -> str:
    return text.decode("utf-8", "replace")
