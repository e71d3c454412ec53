"""Cuts a language server's output into messages (LSP 3.17, "Base Protocol").

A message is a header, of which only `Content-Length` counts, an empty line, and so many
bytes. A server that prints something else first is read past that, up to a bound; one
that announces more than any answer has is given up before a byte of it is kept.
"""

HEADER_MAX_BYTES = 64 * 1024
"""Of a header, together with whatever was printed before it."""
MESSAGE_MAX_BYTES = 64 * 1024 * 1024
"""Of one message; a completion list of 20 000 items has some 5 MiB."""

_LENGTH = b"content-length"
_DIGITS_MAX = 20


class FramingError(Exception):
    """What came is no message and leads to none."""


class Framer:
    """Takes bytes as they come and gives whole messages."""

    def __init__(self, message_max_bytes: int = MESSAGE_MAX_BYTES) -> None:
        self._max = message_max_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._length: int | None = None
        self._wanted: int | None = None

    def feed(self, received: bytes) -> list[bytes]:
        """Return the messages that are complete with these bytes.

        Raises:
            FramingError: Nothing that follows could be read any more.
        """
        self._buffer += received
        found: list[bytes] = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> bytes | None:
        if self._wanted is None and not self._read_header():
            return None
        wanted = self._wanted
        if wanted is None or len(self._buffer) < wanted:
            return None
        message = bytes(self._buffer[:wanted])
        del self._buffer[:wanted]
        self._wanted = None
        self._scanned = 0
        return message

    def _read_header(self) -> bool:
        """Go on reading lines; True once the empty one after a length was found."""
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[self._scanned : end]).strip()
            self._scanned = end + 1
            if self._scanned > HEADER_MAX_BYTES:
                break
            if not line and self._length is not None:
                del self._buffer[: self._scanned]
                self._wanted, self._length, self._scanned = self._length, None, 0
                return True
            self._read_line(line)
        if len(self._buffer) > HEADER_MAX_BYTES:
            raise FramingError("its output is not that of a language server")
        return False

    def _read_line(self, line: bytes) -> None:
        # What was printed before, without a line's end, stands in front of the name.
        at = line.lower().rfind(_LENGTH)
        name, colon, value = line[max(at, 0) :].partition(b":")
        if at < 0 or not colon or name.strip().lower() != _LENGTH:
            return
        digits = value.strip()
        if not digits.isdigit() or len(digits) > _DIGITS_MAX:
            raise FramingError("it announced a message without a length")
        if int(digits) > self._max:
            raise FramingError(f"it announced a message of {int(digits)} bytes")
        self._length = int(digits)


def frame(body: bytes) -> bytes:
    """Return a message as it is sent."""
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
