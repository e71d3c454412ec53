"""Writes a job's input: queued up to a bound, written as the job reads."""

import os

from agent.keeper.errors import Refusal
from agent.keeper.loop import WRITE, Loop
from agent.keeper.streams import Streams

STDIN_MAX_BYTES = 1024 * 1024
"""Input that waits for its reader; more is refused as `full`."""

END_OF_INPUT = b"\x04"
"""What a terminal in its usual mode takes for the end of input (man 3 termios, VEOF)."""


class Stdin:
    """The writing end of one job's input; a pipe's, unless `Terminal`.

    Args:
        loop: The keeper's loop.
        fd: Non-blocking; closed by this.
    """

    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._fd = fd
        self._queue = bytearray()
        self._ends = False

    def write(self, data: bytes) -> None:
        """Queue input.

        Raises:
            Refusal: `full` when the reader does not keep up, `conflict` when there is
                nobody to read it.
        """
        if self._fd < 0 or self._ends:
            raise Refusal("conflict", "the job takes no input any more")
        if len(self._queue) + len(data) > STDIN_MAX_BYTES:
            raise Refusal("full", "the job does not read its input")
        idle = not self._queue
        self._queue += data
        if idle:
            self._flush()

    def end(self) -> None:
        """Close it, once what is queued was written."""
        self._ends = True
        if not self._queue:
            self.close()

    def close(self) -> None:
        """Close it now; what is queued is lost."""
        self._queue.clear()
        if self._fd >= 0:
            self._watch(wanted=False)
            os.close(self._fd)
            self._fd = -1

    def names(self) -> frozenset[str]:
        """Return what the pipe is called in /proc/<pid>/fd, on either side."""
        if self._fd < 0:
            return frozenset()
        return frozenset((f"pipe:[{os.fstat(self._fd).st_ino}]",))

    def _flush(self) -> None:
        try:
            written = os.write(self._fd, self._queue) if self._queue else 0
        except BlockingIOError:
            written = 0
        except OSError:
            # Nobody reads any more: what is queued is as lost as it is in a pipe.
            self.close()
            return
        del self._queue[:written]
        self._watch(wanted=bool(self._queue))
        if not self._queue and self._ends:
            self.close()

    def _watch(self, *, wanted: bool) -> None:
        self._loop.remove(self._fd)
        if wanted:
            self._loop.add(self._fd, WRITE, lambda _events: self._flush())


class Terminal(Stdin):
    """The input of a job at a terminal, whose descriptor belongs to its output.

    Args:
        loop: The keeper's loop.
        fd: The terminal's master.
        output: Reads the same descriptor.
    """

    def __init__(self, loop: Loop, fd: int, output: Streams) -> None:
        super().__init__(loop, fd)
        self._output = output
        output.write_too(self._flush)

    def end(self) -> None:
        """Send what a terminal takes for the end of input."""
        self.write(END_OF_INPUT)

    def close(self) -> None:
        """Take nothing more; the output closes the descriptor."""
        self._queue.clear()
        self._fd = -1

    def _watch(self, *, wanted: bool) -> None:
        self._output.want_to_write(wanted=wanted)
