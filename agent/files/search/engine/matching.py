"""Finds the matching lines of one file, by Python's own means."""

import os
from _collections_abc import Callable, Iterator

from agent.files.search.engine.bounds import (
    BLOCK_BYTES,
    CONTENT_MAX_BYTES,
    HEAD_BYTES,
    LINE_MAX_BYTES,
)
from agent.files.search.engine.request import Request, raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

Hit = tuple[int, bytes]
"""A line's number, and its content, which is cut when it is one byte too long."""

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


Find = Callable[[int, int], int]
"""Looks for a text in a buffer, from one place to another: where it is, or -1."""


class Matcher:
    """Finds what one request asks for.

    Attributes:
        buffers: What a file is read into, to be looked through by `lines`.
        finder: Finds the text in there; None: an expression is looked for.

    Raises:
        InvalidError: The expression is none.
    """

    def __init__(self, request: Request) -> None:
        self._text = raw(request.pattern)
        # A line ends before its CR, so a text that ends with one may match too much.
        self._has_cr = self._text.endswith(b"\r")
        self._is_text = not request.regex and not request.ignore_case
        # One for all files: a new one for each would cost more than the file.
        self._buffer = bytearray(BLOCK_BYTES)
        self.buffers = (self._buffer,)
        self.finder: Find | None = self._find_plainly if self._is_text else None
        self._expression: re.Pattern[str] | None = None
        # Where all is ASCII, lines need not be decoded to tell capitals from small.
        self._ascii: re.Pattern[bytes] | None = None
        if not self._is_text:
            self._compile(request)

    def _compile(self, request: Request) -> None:
        # Only here, for the time that it takes.
        import re  # noqa: PLC0415

        from agent.files.search.engine.expressions import expression  # noqa: PLC0415

        source = request.pattern if request.regex else re.escape(request.pattern)
        self._expression = expression(source, ignore_case=request.ignore_case)
        if not request.regex and self._text.isascii():
            self._ascii = re.compile(re.escape(self._text), re.IGNORECASE)

    def accepts(self, content: bytes) -> bool:
        """Tell whether a line without its end matches."""
        if self._expression is None:
            return self._text in content
        line = content.decode("utf-8", "surrogateescape")
        return self._expression.search(line) is not None

    def hasten(self) -> None:
        """Look for the text by the C library, at two to three times the speed.

        It takes 5 ms to get there, so this is for who has much to read.
        """
        if not self._is_text:
            return
        try:
            # Only here, for the time that it takes.
            import ctypes as c  # noqa: PLC0415

            search = c.CDLL(None).memmem
        except (ImportError, OSError, AttributeError):
            return
        search.restype = c.c_void_p
        search.argtypes = (c.c_void_p, c.c_size_t, c.c_char_p, c.c_size_t)
        text, size = self._text, len(self._text)
        # The buffer neither moves nor grows while this looks into it.
        # The buffer neither moves nor grows, nor goes before this does.
        start = c.addressof((c.c_char * BLOCK_BYTES).from_buffer(self._buffer))

        def find(at: int, count: int) -> int:
            place = search(start + at, count - at, text, size)
            return -1 if place is None else place - start

        self.finder = find

    def lines(self, count: int) -> list[Hit]:
        """Return the matching lines of a whole file, which is in the buffer.

        Binary files have none.

        Args:
            count: The size of the file.
        """
        if self._buffer.find(0, 0, min(count, HEAD_BYTES)) >= 0:
            return []
        if self.finder is not None:
            return self._text_lines(count, self.finder)
        return list(self._in_lines(bytes(memoryview(self._buffer)[:count]), 1))

    def _text_lines(self, count: int, find: Find) -> list[Hit]:
        found: list[Hit] = []
        buffer = self._buffer
        number, counted = 1, 0
        at = find(0, count)
        while at >= 0:
            start = buffer.rfind(b"\n", 0, at) + 1
            end = buffer.find(b"\n", at, count)
            end = count if end < 0 else end
            number += buffer.count(b"\n", counted, start)
            counted = start
            content = _without_cr(bytes(buffer[start:end]))
            if not self._has_cr or self.accepts(content):
                found.append((number, content))
            at = find(end, count)
        return found

    def _find_plainly(self, at: int, count: int) -> int:
        return self._buffer.find(self._text, at, count)

    def hits(self, fd: int) -> Iterator[Hit]:
        """Yield the matching lines of an open file of any size; binary files have none."""
        block = _read(fd)
        if b"\0" not in block[:HEAD_BYTES]:
            yield from self._in_blocks(fd, block)

    def _in_blocks(self, fd: int, block: bytes) -> Iterator[Hit]:
        number = 1
        rest = b""
        while block:
            rest += block
            cut = rest.rfind(b"\n") + 1
            if cut:
                yield from self._in_lines(rest[:cut], number)
                number += rest.count(b"\n", 0, cut)
                rest = rest[cut:]
            elif len(rest) > LINE_MAX_BYTES:
                matched, start, rest = self._long_line(fd, rest)
                if matched:
                    yield number, start
                number += 1
            block = _read(fd)
        if rest:
            yield from self._in_lines(rest, number)

    def _long_line(self, fd: int, begun: bytes) -> tuple[bool, bytes, bytes]:
        """Go through a line too long for memory.

        Returns:
            Whether it matches, its beginning, and what was read behind it.
        """
        start = begun[: CONTENT_MAX_BYTES + 1]
        matched = self.accepts(begun)
        keep = len(self._text) - 1
        window = begun[-keep:] if keep else b""
        while block := _read(fd):
            end = block.find(b"\n")
            piece = block if end < 0 else block[:end]
            window += piece
            matched = matched or (self._is_text and self._text in window)
            if end >= 0:
                return matched, start, block[end + 1 :]
            window = window[-keep:] if keep else b""
        return matched, start, b""

    def _in_lines(self, block: bytes, number: int) -> Iterator[Hit]:
        """Yield the matching ones of whole lines, the first of which has `number`."""
        find = self._finder(block)
        if find is None:
            yield from self._line_by_line(block, number)
            return
        counted = 0
        at = find(0)
        while at >= 0:
            start = block.rfind(b"\n", 0, at) + 1
            end = block.find(b"\n", at)
            end = len(block) if end < 0 else end
            number += block.count(b"\n", counted, start)
            counted = start
            content = _without_cr(block[start:end])
            if not self._has_cr or self.accepts(content):
                yield number, content
            at = find(end)

    def _finder(self, block: bytes) -> Callable[[int], int] | None:
        """Return what finds the next place in `block`; None: look at every line."""
        if self._is_text:
            return lambda at: block.find(self._text, at)
        if self._ascii is None or not block.isascii():
            return None
        search = self._ascii.search

        def find(at: int) -> int:
            match = search(block, at)
            return match.start() if match else -1

        return find

    def _line_by_line(self, block: bytes, number: int) -> Iterator[Hit]:
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            content = _without_cr(line)
            if self.accepts(content):
                yield number, content
            number += 1


def numbered_lines(fd: int) -> Iterator[Hit]:
    """Yield all lines of an open file, long ones cut."""
    number = 1
    rest = b""
    while block := _read(fd):
        *lines, last = block.split(b"\n")
        for line in lines:
            yield number, _without_cr(rest + line)
            rest = b""
            number += 1
        rest = (rest + last)[: CONTENT_MAX_BYTES + 2]
    if rest:
        yield number, _without_cr(rest)


def is_binary(path: bytes) -> bool:
    """Tell whether a file begins as binary ones do; one that is gone does not."""
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError:
        return False
    try:
        return b"\0" in os.read(fd, HEAD_BYTES)
    except OSError:
        return False
    finally:
        os.close(fd)


def _without_cr(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") else line


def _read(fd: int) -> bytes:
    """Read the next block; what cannot be read ends the file."""
    try:
        return os.read(fd, BLOCK_BYTES)
    except OSError:
        return b""
