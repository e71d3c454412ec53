"""Takes apart what `git cat-file --batch` prints, a block at a time, in any blocks."""

from collections.abc import Callable

from agent.errors import AgentError

HEAD_MAX_BYTES = 1024


class BatchReader:
    """Calls back at the beginning of each object, with its content, and at its end.

    Args:
        start: An object begins.
        fill: A piece of its content; only good until the call returns.
        end: It was all there.
    """

    def __init__(
        self,
        start: Callable[[], None],
        fill: Callable[[memoryview], None],
        end: Callable[[], None],
    ) -> None:
        self._start = start
        self._fill = fill
        self._end = end
        self._head = bytearray()
        self._left_bytes = -1
        """Of the object's content; -1: its head is not complete; 0: its line's end."""

    @property
    def idle(self) -> bool:
        """Whether no object has begun that has not ended."""
        return self._left_bytes < 0 and not self._head

    def feed(self, block: bytes) -> None:
        """Take the next block.

        Raises:
            AgentError: An object is missing.
        """
        rest = memoryview(block)
        while rest:
            if self._left_bytes < 0:
                rest = self._take_head(rest)
            elif self._left_bytes == 0:
                self._left_bytes = -1
                rest = rest[1:]
                self._end()
            else:
                piece = rest[: self._left_bytes]
                self._fill(piece)
                self._left_bytes -= len(piece)
                rest = rest[len(piece) :]

    def _take_head(self, rest: memoryview) -> memoryview:
        line, found, _ = bytes(rest[:HEAD_MAX_BYTES]).partition(b"\n")
        self._head += line
        if not found:
            return rest[len(line) :]
        words = bytes(self._head).split(b" ")
        self._head.clear()
        if len(words) != 3 or words[1] != b"blob":
            raise AgentError("the store lacks content of the checkpoint")
        self._left_bytes = int(words[2])
        self._start()
        return rest[len(line) + 1 :]
