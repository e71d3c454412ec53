"""The frames of the line between keeper and api: two lengths, a JSON header, raw bytes.

`u32 header length, u32 payload length, header, payload`, big endian. The header is one
JSON object; what is bulky or not text travels in the payload. Names and arguments that
are not UTF-8 travel as lone surrogates, which JSON carries as escapes.
"""

import json
import struct
from typing import TypeAlias

HEADER_MAX_BYTES = 1024 * 1024
"""The environment of a process is the largest thing in a header."""

PAYLOAD_MAX_BYTES = 65 * 1024 * 1024
"""The largest body the api takes (64 MiB), as a script, and some slack."""

BUFFER_BYTES = 320 * 1024
"""What a decoder holds: a whole piece of output with its header, and some."""

READ_BYTES = 32 * 1024
"""The least room for one read; with less, what is there is moved to the front."""

UNSEEN = -2
"""As the offset of a subscription: from where the followers of a terminal, taken
together, have come to."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Header: TypeAlias = dict[str, Json]

_PREFIX = struct.Struct(">II")
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().decode


class FrameError(Exception):
    """What came over the line is not a frame; the line cannot be used any further."""


def head(header: Header, payload_bytes: int = 0) -> bytes:
    """Return what goes before a payload of `payload_bytes` bytes.

    Raises:
        FrameError: Header or payload is past its limit.
    """
    text = _encode(header).encode()
    if len(text) > HEADER_MAX_BYTES:
        raise FrameError(f"frame header of {len(text)} bytes is too large")
    if payload_bytes > PAYLOAD_MAX_BYTES:
        raise FrameError(f"frame payload of {payload_bytes} bytes is too large")
    return _PREFIX.pack(len(text), payload_bytes) + text


def dump(value: Header) -> bytes:
    """Return an object as JSON, for a payload."""
    return _encode(value).encode()


def load(text: bytes) -> Header:
    """Return the object that JSON stands for.

    Raises:
        FrameError: It is no JSON, or no object.
    """
    try:
        value = _decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError("JSON, but no object")
    return value


class Decoder:
    """Cuts a stream of bytes into frames.

    What is received goes straight into its buffer (`space`, then `received`), so that a
    payload is copied once, out of it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._start = 0
        self._end = 0

    def space(self) -> memoryview:
        """Return where to put what is received next; never empty."""
        held = self._end - self._start
        wanted = self._missing(held)
        if len(self._buffer) - self._end < wanted:
            # Room for all of the frame that has begun, and small again after a large one.
            size = max(BUFFER_BYTES, held + wanted)
            kept = self._buffer[self._start : self._end]
            if size != len(self._buffer):
                self._buffer = bytearray(size)
            self._buffer[:held] = kept
            self._start, self._end = 0, held
        return memoryview(self._buffer)[self._end :]

    def received(self, count: int) -> list[tuple[Header, bytes]]:
        """Return the frames that are complete now that `count` bytes came, in order.

        Raises:
            FrameError: A length is past its limit, or a header is no JSON object.
        """
        self._end += count
        frames: list[tuple[Header, bytes]] = []
        while (size := self._size()) and size <= self._end - self._start:
            frames.append(self._cut(size))
        if self._start == self._end:
            self._start = self._end = 0
        return frames

    def feed(self, data: bytes) -> list[tuple[Header, bytes]]:
        """Return the frames that `data` completes, as `received` does."""
        frames: list[tuple[Header, bytes]] = []
        rest = memoryview(data)
        while rest:
            space = self.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            space.release()
            rest = rest[count:]
            frames += self.received(count)
        return frames

    def _missing(self, held: int) -> int:
        """Return how much room there has to be for what comes next."""
        return max(READ_BYTES, self._size() - held)

    def _size(self) -> int:
        """Return the size of the frame that has begun, or 0 when it is not known yet."""
        if self._end - self._start < _PREFIX.size:
            return 0
        header_bytes, payload_bytes = _PREFIX.unpack_from(self._buffer, self._start)
        if header_bytes > HEADER_MAX_BYTES or payload_bytes > PAYLOAD_MAX_BYTES:
            raise FrameError(f"frame of {header_bytes} + {payload_bytes} bytes")
        size: int = _PREFIX.size + header_bytes + payload_bytes
        return size

    def _cut(self, size: int) -> tuple[Header, bytes]:
        header_bytes, _ = _PREFIX.unpack_from(self._buffer, self._start)
        begin = self._start + _PREFIX.size
        middle, end = begin + header_bytes, self._start + size
        with memoryview(self._buffer) as whole:
            text, payload = bytes(whole[begin:middle]), bytes(whole[middle:end])
        self._start = end
        return load(text), payload
