"""Puts a log into the forms that the clients read (contract 31 §6).

A labelled stream is a sequence of records: a marker, then bytes of that output. It has no
escapes, and the clients differ in how they read it, so every message is made to the rules
F1 to F6: it begins with a marker, has a byte at least after each one, is at most 32 KiB,
and is cut between characters where that is possible.
"""

import codecs
from collections.abc import Iterable, Iterator

from agent.keeper.client import Chunk
from agent.web.websockets import FRAME_BYTES

MARKERS = {1: b"\x01\x01\x01", 2: b"\x02\x02\x02"}
"""Standard output and standard error."""

MARKER_BYTES = 3


class Messages:
    """Cuts output into messages.

    Bytes that end in the middle of a character wait for the rest of it, until they are
    flushed.

    Args:
        labelled: Whether each piece has its marker.
    """

    def __init__(self, *, labelled: bool) -> None:
        self._labelled = labelled
        self._held: dict[int, bytes] = {}
        self._message = bytearray()
        self._stream = 0
        self._ready: list[bytes] = []

    @property
    def holds_back(self) -> bool:
        """Whether there is the beginning of a character."""
        return any(self._held.values())

    @property
    def is_full(self) -> bool:
        """Whether there are messages that nothing more goes into."""
        return bool(self._ready)

    def add(self, chunk: Chunk) -> None:
        """Take a chunk of one output."""
        data = self._held.pop(chunk.stream, b"") + chunk.data
        end = complete(data)
        if end < len(data):
            self._held[chunk.stream] = data[end:]
        self._put(chunk.stream, data[:end])

    def take(self, *, flush: bool = False) -> list[bytes]:
        """Return the messages to be sent now.

        Args:
            flush: With what waits for the rest of its character.
        """
        if flush:
            held, self._held = self._held, {}
            for stream, data in held.items():
                self._put(stream, data)
        self._cut()
        ready, self._ready = self._ready, []
        return ready

    def _put(self, stream: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            marker = self._marker(stream)
            room = FRAME_BYTES - len(self._message) - len(marker)
            if room <= 0:
                self._cut()
                continue
            size = min(room, len(view))
            if size < len(view):
                # A cut of a long text; nothing is held back for it.
                size = complete(bytes(view[:size])) or size
            self._message += marker
            self._message += view[:size]
            self._stream = stream
            view = view[size:]
            if view:
                self._cut()

    def _marker(self, stream: int) -> bytes:
        if not self._labelled or (self._message and stream == self._stream):
            return b""
        return MARKERS[stream]

    def _cut(self) -> None:
        if self._message:
            self._ready.append(bytes(self._message))
            self._message = bytearray()


def complete(data: bytes) -> int:
    """Return how much of `data` does not end in the middle of a UTF-8 character.

    All of it when what stands at its end is no character's beginning.
    """
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4
        begins = 0xC2 <= byte <= 0xF4
        return len(data) - back if begins and back < wanted else len(data)
    return len(data)


class Texts:
    """Decodes a log: bytes that are not UTF-8 become U+FFFD.

    Args:
        labelled: Whether each change of the output has its marker.
        only: The one output that is wanted; 0 for both.
    """

    def __init__(self, *, labelled: bool = False, only: int = 0) -> None:
        self._labelled = labelled
        self._only = only
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")("replace")
            for stream in MARKERS
        }
        self._stream = 0

    def add(self, chunk: Chunk) -> str:
        """Return the text of a chunk, as far as its characters are complete."""
        if self._only and chunk.stream != self._only:
            return ""
        return self._labelled_text(
            chunk.stream, self._decoders[chunk.stream].decode(chunk.data)
        )

    def end(self) -> str:
        """Return what the end makes of characters that are not complete."""
        return "".join(
            self._labelled_text(stream, decoder.decode(b"", final=True))
            for stream, decoder in self._decoders.items()
        )

    def _labelled_text(self, stream: int, text: str) -> str:
        if not text or not self._labelled or stream == self._stream:
            return text
        self._stream = stream
        return MARKERS[stream].decode() + text


def text_of(chunks: Iterable[Chunk], *, labelled: bool = False, only: int = 0) -> str:
    """Return the text of a whole log."""
    if not labelled:
        wanted = [each for each in chunks if not only or each.stream == only]
        if only or len({each.stream for each in wanted}) <= 1:
            # As nearly every answer: no half of a character can be another's.
            return b"".join(each.data for each in wanted).decode("utf-8", "replace")
        chunks = wanted
    return "".join(pieces_of(chunks, labelled=labelled, only=only))


def pieces_of(
    chunks: Iterable[Chunk], *, labelled: bool = False, only: int = 0
) -> Iterator[str]:
    """Yield the text of a whole log, a chunk at a time."""
    texts = Texts(labelled=labelled, only=only)
    for chunk in chunks:
        yield texts.add(chunk)
    yield texts.end()
