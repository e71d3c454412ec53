"""Puts a worker's three streams back into the order in which it wrote them.

The worker's output, its errors and its control messages come by three pipes, and which of
them is read first is chance. So before each control message of a run the worker writes the
run's mark down both outputs. What stands before the mark in them was written before the
message, whatever process wrote it; what stands behind it is held back here until the
message has come.
"""

import codecs
from collections import deque
from collections.abc import Iterator

import msgspec

from agent.interpreter.models import Word
from agent.keeper.client import Chunk

STDOUT = 1
STDERR = 2
CONTROL = 3
NAMES = {STDOUT: "stdout", STDERR: "stderr"}

HELD_MAX_BYTES = 4 * 1024 * 1024
"""Held back of one stream; the message is on its way by then, or never comes."""

ANSWERS = {"more", "begun"}
"""Words that answer a request, before anything is run, and have no mark."""

WORD_MAX_BYTES = 8 * 1024 * 1024
"""One control message; the worker's own bound is lower."""


class Text(msgspec.Struct, frozen=True):
    """Output of a stream: `stdout` or `stderr`."""

    stream: str
    text: str


class BrokenError(Exception):
    """What came is not what a worker writes."""


class _Stream:
    """One output: cut at the marks, decoded, held back where it is ahead."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = b""
        self._held: deque[str] = deque()
        self._held_bytes = 0
        self.marks = 0
        """How many have been passed, of those that are still waited for."""

    def feed(self, content: bytes) -> str:
        """Take what came; return what may be told at once."""
        content = self._rest + content
        first, *others = content.split(self._mark)
        pieces = [first, *others]
        # The end may be the beginning of a mark.
        last = pieces[-1]
        cut = _overlap(last, self._mark)
        self._rest = last[len(last) - cut :]
        pieces[-1] = last[: len(last) - cut]
        told = ""
        for number, piece in enumerate(pieces):
            if number:
                self.marks += 1
                self._held.append("")
            text = self._decoder.decode(piece, final=number < len(others))
            if not self.marks:
                told += text
            elif text:
                self._hold(text)
        return told

    def _hold(self, text: str) -> None:
        self._held[-1] += text
        self._held_bytes += len(text)
        if self._held_bytes > HELD_MAX_BYTES:
            raise BrokenError("output is ahead of the messages")

    def go_on(self) -> str:
        """Pass one mark; return what was held back behind it."""
        self.marks -= 1
        text = self._held.popleft()
        self._held_bytes -= len(text)
        return text

    def end(self) -> str:
        """Return what is left at the end of everything."""
        held = "".join(self._held)
        return held + self._decoder.decode(self._rest, final=True)


class Merger:
    """What one run writes, as it comes.

    Args:
        mark: The run's mark.
    """

    def __init__(self, mark: bytes) -> None:
        self._streams = {STDOUT: _Stream(mark), STDERR: _Stream(mark)}
        self._line = bytearray()
        self._words: deque[Word] = deque()

    def feed(self, chunk: Chunk) -> Iterator[Text | Word]:
        """Take what came; give what can be told of it.

        Raises:
            BrokenError: It is nothing that a worker writes.
        """
        stream = self._streams.get(chunk.stream)
        if stream is not None:
            text = stream.feed(chunk.data)
            if text:
                yield Text(NAMES[chunk.stream], text)
        else:
            yield from self._control(chunk.data)
        while self._words and all(each.marks for each in self._streams.values()):
            yield self._words.popleft()
            for number, each in self._streams.items():
                text = each.go_on()
                if text:
                    yield Text(NAMES[number], text)

    def _control(self, content: bytes) -> Iterator[Word]:
        self._line += content
        if len(self._line) > WORD_MAX_BYTES:
            raise BrokenError("a message has no end")
        *lines, rest = self._line.split(b"\n")
        self._line = rest
        for line in lines:
            try:
                word = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BrokenError(str(error)) from error
            if word.type in ANSWERS:
                yield word
            else:
                self._words.append(word)

    def end(self) -> Iterator[Text]:
        """Give what is left once nothing more comes."""
        for number, stream in self._streams.items():
            text = stream.end()
            if text:
                yield Text(NAMES[number], text)


def _overlap(content: bytes, mark: bytes) -> int:
    """Return how much of the end of `content` is the beginning of the mark."""
    begin = max(0, len(content) - len(mark) + 1)
    start = content.find(mark[:1], begin)
    while start >= 0:
        if mark.startswith(content[start:]):
            return len(content) - start
        start = content.find(mark[:1], start + 1)
    return 0


_decoder = msgspec.json.Decoder(Word)
