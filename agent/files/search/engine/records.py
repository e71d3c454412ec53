"""Turns matching lines into the JSON records of the answer."""

import os
from _collections_abc import Iterable, Iterator, Sequence
from _json import encode_basestring
from itertools import islice

from agent.files.search.engine.answer import Block
from agent.files.search.engine.bounds import CONTENT_MAX_BYTES, GROUP_HITS
from agent.files.search.engine.matching import OPEN_FLAGS, Hit, numbered_lines
from agent.files.search.engine.request import Request, raw


class Recorder:
    """Makes the records of one request."""

    def __init__(self, request: Request) -> None:
        self._root = raw(request.root)
        self._shown = request.shown
        self._shown_root = request.shown_root
        self._context = request.context
        self._after = request.after
        self._after_path = raw(request.after[0]) if request.after else None

    def full_path(self, path: bytes) -> bytes:
        """Return the absolute path of a path below the root."""
        return self._root + b"/" + path if path else self._root

    def blocks(self, path: bytes, hits: Iterable[Hit]) -> Iterator[Block]:
        """Yield the records of one file's matches, a group at a time."""
        if self._after is not None and path == self._after_path:
            last = self._after[1]
            hits = (hit for hit in hits if hit[0] > last)
        start = f'{{"file":{self._file(path)},"line":'
        rest = iter(hits)
        while group := list(islice(rest, GROUP_HITS)):
            yield self._block(path, start, group)

    def _block(self, path: bytes, start: str, group: Sequence[Hit]) -> Block:
        lines = [number for number, _ in group]
        around = self._around(path, lines) if self._context else None
        records: list[str] = []
        cut = 0
        for number, content in group:
            cut += len(content) > CONTENT_MAX_BYTES
            text = encode_basestring(shown(content))
            more = next(around) if around else ""
            records.append(f'{start}{number},"content":{text}{more}}}')
        return Block(path, lines, "\n".join(records).encode(), cut)

    def _file(self, path: bytes) -> str:
        whole = raw(self._shown) + path if path else raw(self._shown_root)
        return encode_basestring(whole.decode("utf-8", "replace"))

    def _around(self, path: bytes, lines: list[int]) -> Iterator[str]:
        """Yield the lines before and after each of `lines`, read once more."""
        try:
            fd = os.open(self.full_path(path), OPEN_FLAGS)
        except OSError:
            yield from (_context([], []) for _ in lines)
            return
        try:
            # Only here, for the time that it takes.
            from collections import deque  # noqa: PLC0415

            source = numbered_lines(fd)
            before: deque[Hit] = deque(maxlen=2 * self._context + 1)
            for number in lines:
                while not before or before[-1][0] < number + self._context:
                    line = next(source, None)
                    if line is None:
                        break
                    before.append(line)
                first = number - self._context
                above = [text for at, text in before if first <= at < number]
                last = number + self._context
                below = [text for at, text in before if number < at <= last]
                yield _context(above, below)
        finally:
            os.close(fd)


def shown(content: bytes) -> str:
    """Return a line's content as it is told: cut, and with U+FFFD for what is no UTF-8."""
    if len(content) > CONTENT_MAX_BYTES:
        end = CONTENT_MAX_BYTES
        # Not inside a character, which has at most three further bytes.
        while end > CONTENT_MAX_BYTES - 3 and content[end] & 0xC0 == 0x80:
            end -= 1
        content = content[:end]
    return content.decode("utf-8", "replace")


def _context(before: list[bytes], after: list[bytes]) -> str:
    above, below = (
        ",".join(encode_basestring(shown(line)) for line in lines)
        for lines in (before, after)
    )
    return f',"before":[{above}],"after":[{below}]'
