"""Writes the answer's JSON, and behind it, on a line of its own, what there is to know.

The JSON has no line ends of its own, so the last line is the note: how many results there
are, what cut them short, and where the next ones begin.
"""

import _signal as signal  # type: ignore[import-not-found] # `signal` costs 5 ms
import os
from _collections_abc import Iterable, Sequence
from _json import encode_basestring_ascii

from agent.files.search.engine.request import Request

FLUSH_BYTES = 1024 * 1024
"""JSON gathered before it is written."""
OUTPUT = 1
"""Where the answer goes: standard output."""


class LateError(Exception):
    """The wall clock has passed its limit."""


class FullError(Exception):
    """The answer holds as much as it may; says which bound it was."""


class InvalidError(Exception):
    """The expression is none; says why."""


class Block:
    """Results of one file, or one entry.

    Attributes:
        path: Below the root.
        lines: The line of each result.
        text: Their JSON, one a line; JSON has no line ends of its own.
        cut_lines: How many of them had their content cut.
    """

    __slots__ = ("cut_lines", "lines", "path", "text")

    def __init__(
        self, path: bytes, lines: Sequence[int], text: bytes, cut_lines: int
    ) -> None:
        self.path = path
        self.lines = lines
        self.text = text
        self.cut_lines = cut_lines


class Clock:
    """Raises `LateError` in whatever runs when the time is up, but for what is held."""

    def __init__(self) -> None:
        self.held = False
        self.late = False

    def start(self, limit_s: float) -> None:
        """Begin to count."""
        signal.signal(signal.SIGALRM, self._rang)
        signal.setitimer(signal.ITIMER_REAL, limit_s)

    def stop(self) -> None:
        """Raise nothing any more."""
        self.held = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _rang(self, _number: int, _frame: object) -> None:
        self.late = True
        self.check()

    def check(self) -> None:
        """Raise, once, if the time is up and nothing is held.

        Once, because what was found until then is still added.
        """
        if self.late and not self.held:
            self.late = False
            raise LateError


class Answer:
    """The answer of one search.

    Args:
        request: Whose bounds hold.
        clock: Not to interrupt what must stay whole.
    """

    def __init__(self, request: Request, clock: Clock) -> None:
        self._opening, self._closing = (
            (b'{"files":[', b"]}") if request.kind == "names" else (b"[", b"]")
        )
        self._left = request.max_results or -1
        self._room = request.max_bytes
        self._clock = clock
        self._buffer = bytearray(self._opening)
        self._count = 0
        self._cut_lines = 0
        self.position: tuple[bytes, int] | None = None
        """Path and line of the last result."""
        self.in_order = True
        """Whether all results up to the last one are there."""

    def add(self, block: Block) -> None:
        """Add results.

        Raises:
            FullError: Not all of them fit.
        """
        self._clock.held = True
        count, why = len(block.lines), ""
        if 0 <= self._left < count:
            count, why = self._left, "results"
        if len(block.text) + 1 > self._room:
            count, why = self._fitting(block, count), "bytes"
        if count:
            self._append(block, count)
        if why:
            raise FullError(why)
        self._clock.held = False
        self._clock.check()

    def add_each(self, blocks: Iterable[Block]) -> None:
        """Add the results of each block.

        Raises:
            FullError: Not all of them fit.
        """
        for block in blocks:
            self.add(block)

    def add_together(self, blocks: Sequence[Block]) -> None:
        """As `add_each`, and quicker for many small blocks."""
        count = sum([len(block.lines) for block in blocks])
        text = b"\n".join([block.text for block in blocks])
        if not self.fits(count, len(text)):
            self.add_each(blocks)
            return
        last = blocks[-1]
        cut_lines = sum([block.cut_lines for block in blocks])
        position = (last.path, last.lines[-1])
        self.add_all(text.replace(b"\n", b","), count, position, cut_lines)

    def fits(self, count: int, size: int) -> bool:
        """Tell whether so many results, of so much JSON, are within all bounds."""
        return (self._left < 0 or count <= self._left) and size + 1 <= self._room

    def add_all(
        self, text: bytes, count: int, position: tuple[bytes, int], cut_lines: int = 0
    ) -> None:
        """Add results that fit.

        Args:
            text: Their JSON, with commas between them.
            count: How many they are.
            position: Path and line of the last one.
            cut_lines: How many of them had their content cut.
        """
        self._clock.held = True
        self._cut_lines += cut_lines
        self._write(text, count, position)
        self._clock.held = False
        self._clock.check()

    def _append(self, block: Block, count: int) -> None:
        text = block.text
        if count < len(block.lines):
            text = b"\n".join(text.split(b"\n", count)[:count])
        self._cut_lines += block.cut_lines
        position = (block.path, block.lines[count - 1])
        self._write(text.replace(b"\n", b","), count, position)

    def _write(self, text: bytes, count: int, position: tuple[bytes, int]) -> None:
        if self._count:
            self._buffer += b","
        self._buffer += text
        self._count += count
        self._left -= count if self._left >= 0 else 0
        self._room -= len(text) + 1
        self.position = position
        if len(self._buffer) >= FLUSH_BYTES:
            self._flush()

    def _fitting(self, block: Block, count: int) -> int:
        room = self._room
        for index, record in enumerate(block.text.split(b"\n")[:count]):
            room -= len(record) + 1
            if room < 0:
                return index
        return count

    def finish(self, cut: str, engine: str) -> None:
        """End the answer; `cut` says which bound ended it, if one did."""
        self._clock.stop()
        position = "null"
        if cut and self.in_order and self.position is not None:
            path, line = self.position
            text = path.decode("utf-8", "surrogateescape")
            position = f"[{encode_basestring_ascii(text)},{line}]"
        note = (
            f'{{"count":{self._count},"cut":"{cut}","cut_lines":{self._cut_lines},'
            f'"position":{position},"engine":"{engine}"}}'
        )
        self._buffer += self._closing
        self._buffer += b"\n" + note.encode() + b"\n"
        self._flush()

    def refuse(self, why: str) -> None:
        """Say that the request makes no sense, in place of an answer."""
        self._clock.stop()
        note = f'{{"invalid":{encode_basestring_ascii(why)}}}'
        self._buffer[:] = b"\n" + note.encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        with memoryview(self._buffer) as view:
            written = 0
            while written < len(view):
                written += os.write(OUTPUT, view[written:])
        self._buffer.clear()
