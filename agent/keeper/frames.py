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
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Header, bytes]]:
        """Return the frames that `data` completes, in order.

        Raises:
            FrameError: A length is past its limit, or a header is no JSON object.
        """
        frames: list[tuple[Header, bytes]] = []
        # Nearly always one read is one frame, which is then cut without a copy.
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        start = 0
        while (end := _end(source, start)) is not None:
            frames.append(_cut(source, start, end))
            start = end
        if source is self._buffer:
            del self._buffer[:start]
        elif start < len(data):
            self._buffer += data[start:]
        return frames


def _end(source: bytes | bytearray, start: int) -> int | None:
    """Return where the frame at `start` ends, or None when it is not complete."""
    if len(source) - start < _PREFIX.size:
        return None
    header_bytes, payload_bytes = _PREFIX.unpack_from(source, start)
    if header_bytes > HEADER_MAX_BYTES or payload_bytes > PAYLOAD_MAX_BYTES:
        raise FrameError(f"frame of {header_bytes} + {payload_bytes} bytes")
    end: int = start + _PREFIX.size + header_bytes + payload_bytes
    return end if end <= len(source) else None


def _cut(source: bytes | bytearray, start: int, end: int) -> tuple[Header, bytes]:
    header_bytes, _ = _PREFIX.unpack_from(source, start)
    middle = start + _PREFIX.size + header_bytes
    header = load(bytes(source[start + _PREFIX.size : middle]))
    return header, bytes(source[middle:end])
