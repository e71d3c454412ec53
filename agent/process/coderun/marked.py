"""Takes the lines of artifacts out of an output that passes through, a piece at a time.

A line that starts with the marker is an artifact and no output, well-formed or not
(contract 30 §6.4). Lines are what newlines separate: of `a`, marker, end remains `a`.
"""

MARKER = b"dtn_artifact_k39fd2:"
NEXT_MARKER = b"\n" + MARKER

ARTIFACTS_MAX_BYTES = 32 * 1024 * 1024
"""Artifacts kept of one output; as much as the private pipe takes. More are dropped."""


class MarkedLines:
    """Divides one output into its text and its artifacts.

    Attributes:
        artifacts: What followed the markers, in order.
    """

    def __init__(self) -> None:
        self.artifacts: list[bytes] = []
        self._room = ARTIFACTS_MAX_BYTES
        # Bytes at the start of a line that may still become a marker.
        self._pending = b""
        self._at_start = True
        # The artifact that is being read, or None; and whether it is too long to keep.
        self._artifact: bytearray | None = None
        # A newline stands between lines, so it is due once a second one is kept.
        self._kept_any = False

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; return the text of it that is known to be text."""
        data = self._pending + data
        self._pending = b""
        kept: list[bytes] = []
        place = 0
        while place <= len(data):
            if self._artifact is not None:
                place = self._take_artifact(data, place)
            elif self._at_start:
                place = self._begin_line(data, place, kept)
            else:
                place = self._take_text(data, place, kept)
        return b"".join(kept)

    def finish(self) -> bytes:
        """Take the end of the output; return the last of its text."""
        if self._artifact is not None:
            self._end_artifact()
            return b""
        if not self._at_start:
            return b""
        return (b"\n" if self._kept_any else b"") + self._pending

    def _begin_line(self, data: bytes, place: int, kept: list[bytes]) -> int:
        start = data[place : place + len(MARKER)]
        if start == MARKER:
            self._artifact = bytearray()
            self._at_start = False
            return place + len(MARKER)
        if MARKER.startswith(start):
            self._pending = start
            return len(data) + 1
        if self._kept_any:
            kept.append(b"\n")
        self._kept_any = True
        self._at_start = False
        return place

    def _take_text(self, data: bytes, place: int, kept: list[bytes]) -> int:
        """Take text up to the next newline that an artifact may follow."""
        end = data.find(NEXT_MARKER, place)
        if end < 0:
            last = data.rfind(b"\n", max(place, len(data) - len(MARKER)))
            if last < 0 or not MARKER.startswith(data[last + 1 :]):
                kept.append(data[place:])
                return len(data) + 1
            end = last
        kept.append(data[place:end])
        self._at_start = True
        return end + 1

    def _take_artifact(self, data: bytes, place: int) -> int:
        assert self._artifact is not None  # noqa: S101 - the caller looked
        end = data.find(b"\n", place)
        stop = len(data) if end < 0 else end
        # One byte past the room tells that there is too much of it.
        self._artifact += data[place : min(stop, place + self._room + 1)]
        del self._artifact[self._room + 1 :]
        if end < 0:
            return len(data) + 1
        self._end_artifact()
        self._at_start = True
        return end + 1

    def _end_artifact(self) -> None:
        assert self._artifact is not None  # noqa: S101 - the caller looked
        if len(self._artifact) <= self._room:
            self._room -= len(self._artifact)
            self.artifacts.append(bytes(self._artifact))
        self._artifact = None
