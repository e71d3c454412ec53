"""Tries an expression on the lines of an output: a process of its own.

    python -c "…; main()" '"<the expression, as JSON>"'

Its standard input is a sequence of frames, a head (stream, offset, size) and so many
bytes; a size of 0 asks for an answer to all that came since the last one. It writes lines
of JSON: first `{"ready": true}` or `{"invalid": "…"}`, then for each question `{}` or
where it has found something. It is a process of its own because no bound can be put on
what an expression takes: the api must not wait for it, and kills it when it takes long.

Only built-in and light modules: this is started anew for every expression.
"""

import json
import os
import re
import resource
import struct
import sys

from agent.process.wait.text import Found, Tail

HEAD = struct.Struct("<BQI")

LINE_MAX_BYTES = 64 * 1024
"""A longer line is tried in pieces of this size, which overlap by half of it."""

MEMORY_MAX_BYTES = 512 * 1024 * 1024
"""What an expression like `(a{1000}){1000}` may take."""

MESSAGE_MAX_CHARACTERS = 500


class Lines:
    """Tries an expression on each line of one output.

    Args:
        expression: It.
        stream: The output.
    """

    def __init__(self, expression: "re.Pattern[str]", stream: int) -> None:
        self._search = expression.search
        self._tail = Tail(stream)
        self._tried = 0

    def add(self, offset: int, data: bytes) -> Found | None:
        """Take the next piece; return the first match in a finished line."""
        tail = self._tail
        tail.add(offset, data)
        content = tail.content
        start = content.rfind(b"\n") + 1
        if start and (found := self._try_all(start)):
            return found
        while len(content) - start > LINE_MAX_BYTES:
            if found := self._try(start, start + LINE_MAX_BYTES):
                return found
            start += LINE_MAX_BYTES // 2
        if start:
            self._tried = 0
            tail.drop(start)
        return None

    def _try_all(self, end: int) -> Found | None:
        """Try the finished lines, at once: one by one is five times as slow."""
        text = _text(self._tail.content[: end - 1])
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        lines = text.split("\n")
        match = next(filter(None, map(self._search, lines)), None)
        if match is None:
            return None
        start = 0
        # The first one that is like it is it: any other would have matched before.
        for _ in range(lines.index(match.string)):
            start = self._tail.content.index(b"\n", start) + 1
        return self._found(start, match)

    def rest(self) -> Found | None:
        """Return a match in the line that is not finished."""
        size = len(self._tail.content)
        if size == self._tried:
            return None
        self._tried = size
        return self._try(0, size)

    def _try(self, start: int, end: int) -> Found | None:
        line = _text(self._tail.content[start:end].removesuffix(b"\r"))
        match = self._search(line)
        return None if match is None else self._found(start, match)

    def _found(self, start: int, match: "re.Match[str]") -> Found:
        first = start + _size(match.string[: match.start()])
        return self._tail.found(first, first + _size(match[0]))


def _text(raw: bytearray) -> str:
    # Bytes that are no text stay what they are, so that places can be counted back.
    return raw.decode("utf-8", "surrogateescape")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _say(word: dict[str, object]) -> None:
    os.write(1, json.dumps(word).encode() + b"\n")


def _read(size: int) -> bytes:
    return sys.stdin.buffer.read(size)


def _answer(streams: dict[int, Lines]) -> Found | None:
    """Read up to the next question; return what was found."""
    found: Found | None = None
    while True:
        head = _read(HEAD.size)
        if len(head) < HEAD.size:
            raise EOFError
        stream, offset, size = HEAD.unpack(head)
        if not size:
            break
        data = _read(size)
        found = found or streams[stream].add(offset, data)
    for lines in streams.values():
        found = found or lines.rest()
    return found


def main() -> None:
    """Read the expression, then answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    try:
        expression = re.compile(json.loads(sys.argv[1]))
    except (re.error, OverflowError, RecursionError) as error:
        _say({"invalid": str(error)[:MESSAGE_MAX_CHARACTERS]})
        return
    except MemoryError:
        _say({"invalid": "it takes too much memory"})
        return
    _say({"ready": True})
    streams = {stream: Lines(expression, stream) for stream in (1, 2)}
    while True:
        try:
            found = _answer(streams)
        except EOFError:
            return
        _say(found._asdict() if found is not None else {})
