"""`toolbox-agent entrypoint logs [--follow]`: what the sandbox's own command wrote.

Reads the files that the keeper writes (`agent/keeper/logs.py`), so it works beside a
running agent and after it. The two streams go where they came from.
"""

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from agent.keeper.logs import INDEX
from agent.settings import Settings

PIECE_BYTES = 256 * 1024
STDERR = 2


class Piece(NamedTuple):
    """Bytes of one stream."""

    stream: int
    content: bytes


class LogReader:
    """Reads a job's log on and on, from the files alone.

    Args:
        directory: The job's directory, `output.log` and `index` in it.

    Raises:
        OSError: There is no log.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._log = open(os.path.join(directory, "output.log"), "rb")  # noqa: SIM115
        self._index = open(os.path.join(directory, "index"), "rb")  # noqa: SIM115
        self._offset = 0
        self._record = 0

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._index.close()

    def finished(self) -> bool:
        """Tell whether the command has ended and everything it wrote is stored."""
        return os.path.exists(os.path.join(self._directory, "exit.json"))

    def new(self) -> Iterator[Piece]:
        """Yield what was stored since the last call."""
        end = os.fstat(self._log.fileno()).st_size
        while self._offset < end:
            stream, until = self._run(end)
            size = min(PIECE_BYTES, until - self._offset)
            content = os.pread(self._log.fileno(), size, self._offset)
            if not content:
                return
            self._offset += len(content)
            yield Piece(stream, content)

    def _run(self, end: int) -> tuple[int, int]:
        """Return the stream at the current offset, and where its run ends."""
        stream = 1
        while True:
            here = self._read_record(self._record)
            following = self._read_record(self._record + 1)
            if here is not None:
                stream = here[1]
            if following is None:
                return stream, end
            if following[0] > self._offset:
                return stream, min(end, following[0])
            self._record += 1

    def _read_record(self, number: int) -> tuple[int, int] | None:
        """Return offset and stream of one index record."""
        at = number * INDEX.size
        record = os.pread(self._index.fileno(), INDEX.size, at)
        if len(record) < INDEX.size:
            return None
        offset, _, stream = INDEX.unpack(record)
        return offset, stream


def show(settings: Settings, *, follow: bool) -> int:
    """Print the entrypoint's log; with `follow`, until the entrypoint has ended."""
    directory = os.path.join(settings.state_dir, "jobs", "entrypoint")
    try:
        reader = LogReader(directory)
    except OSError as error:
        sys.stderr.write(f"toolbox-agent: no entrypoint log: {error.strerror}\n")
        return 1
    try:
        for piece in _pieces(reader, directory, follow=follow):
            _out(piece.stream).write(piece.content)
            _out(piece.stream).flush()
    except (BrokenPipeError, KeyboardInterrupt):
        # Whoever was reading has seen enough; the interpreter must not complain of
        # its own standard output when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        reader.close()
    return 0


def _pieces(reader: LogReader, directory: str, *, follow: bool) -> Iterator[Piece]:
    finished = reader.finished()
    yield from reader.new()
    if not follow or finished:
        return
    # Imported here, because only a follower needs it.
    from watchfiles import watch  # noqa: PLC0415

    # The timeout covers what was written between the look above and the watch's start.
    for _ in watch(directory, debounce=20, rust_timeout=500, yield_on_timeout=True):
        finished = reader.finished()
        yield from reader.new()
        if finished:
            return


def _out(stream: int) -> BinaryIO:
    return sys.stderr.buffer if stream == STDERR else sys.stdout.buffer
