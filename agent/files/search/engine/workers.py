"""Searches text without ripgrep: one process walks, others read files.

The walker hands out batches of paths in order and takes the results back in order. It
writes to a worker only what its pipe has room for, or when it has taken all that the
worker had to say, so neither ever waits for the other to read. Workers end when their pipe closes, or at the walker's word.
"""

import _signal as signal  # type: ignore[import-not-found] # `signal` costs 5 ms
import marshal
import os
from _collections_abc import Iterable, Iterator, Sequence
from itertools import count, cycle, islice
from struct import Struct

from agent.files.search.engine.answer import Answer, Block
from agent.files.search.engine.bounds import BATCH_FILES, WORKERS_MAX
from agent.files.search.engine.globs import any_test
from agent.files.search.engine.reading import Reader
from agent.files.search.engine.request import Request, raw
from agent.files.search.engine.walking import is_regular, walk

_SIZE = Struct("=Q")
_END = _SIZE.pack(0)
_Found = tuple[int, Sequence[int], bytes, int]
"""Which file of the batch, and what a block has besides."""
BATCHES_AHEAD = 3
"""Batches that a worker has, so that it need not wait for the walker."""
HASTENED_AFTER = 8
"""Batches after which a worker believes that there is much to read."""
ROOM_BYTES = 32 * 1024
"""Of batches in a worker's pipe, which holds 64 KiB (man 7 pipe)."""
SENT_BYTES = 1024 * 1024
"""Results gathered before a worker hands them over."""


def find(request: Request, answer: Answer) -> None:
    """Find the lines that match, and add them to the answer.

    Raises:
        InvalidError: The expression is none.
        LateError: The time is up.
        FullError: The answer is.
    """
    reader = Reader(request)
    if os.path.isfile(raw(request.root)):
        answer.add_each(reader.root_blocks())
        return
    workers: list[_Worker] = []
    try:
        for _ in range(min(len(os.sched_getaffinity(0)), WORKERS_MAX)):
            workers.append(_Worker())
            workers[-1].start(reader)
        _distribute(_paths(request), workers, answer)
    finally:
        for worker in workers:
            worker.end()


def _distribute(
    paths: Iterator[bytes], workers: Sequence["_Worker"], answer: Answer
) -> None:
    """Have files read, and take the results in the files' order."""
    busy: list[_Worker] = []
    turns = cycle(workers)
    while batch := list(islice(paths, BATCH_FILES)):
        worker = next(turns)
        while len(busy) == len(workers) * BATCHES_AHEAD or not worker.has_room(batch):
            _take(busy.pop(0), answer)
        worker.give(batch)
        busy.append(worker)
    for worker in busy:
        _take(worker, answer)


def _take(worker: "_Worker", answer: Answer) -> None:
    for blocks in worker.results():
        answer.add_together(blocks)


def _paths(request: Request) -> Iterator[bytes]:
    """Yield the files to look into, in order."""
    included = any_test(request.include)
    for path, name, entry in walk(request, included):
        if is_regular(entry) and (not included or included(name)):
            yield path


class _Worker:
    """A process that reads the files it is told to."""

    def __init__(self) -> None:
        self._batches: list[list[bytes]] = []
        self._pid = 0
        self._to = self._from = -1

    def start(self, reader: Reader) -> None:
        """Start the process."""
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._work(reader, theirs, answers)
        os.close(theirs)
        os.close(answers)

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._to)
            os.close(self._from)

    def has_room(self, batch: list[bytes]) -> bool:
        """Tell whether the batch can be given without waiting for the worker."""
        # One that has nothing to do is reading; another one may be writing.
        given = sum(map(_size, self._batches))
        return not given or given + _size(batch) <= ROOM_BYTES

    def give(self, batch: list[bytes]) -> None:
        """Have files read."""
        self._batches.append(batch)
        text = b"\0".join(batch)
        _write(self._to, _SIZE.pack(len(text)) + text)

    def results(self) -> Iterator[list[Block]]:
        """Yield what was found in the files of the oldest batch, which is then done."""
        batch = self._batches[0]
        while size := _SIZE.unpack(_read(self._from, _SIZE.size))[0]:
            found: list[_Found] = marshal.loads(_read(self._from, size))  # noqa: S302
            yield [
                Block(batch[index], lines, text, cut)
                for index, lines, text, cut in found
            ]
        self._batches.pop(0)

    def _work(self, reader: Reader, orders: int, answers: int) -> None:
        """Be the worker, to the end of the process."""
        code = 1
        try:
            # The walker's word, and its end, are all that ends it.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.close(self._to)
            os.close(self._from)
            for turn in count():
                if turn == HASTENED_AFTER:
                    reader.matcher.hasten()
                (size,) = _SIZE.unpack(_read(orders, _SIZE.size))
                for piece in _search(reader, _read(orders, size).split(b"\0")):
                    _write(answers, piece)
        except EOFError:
            code = 0
        finally:
            os._exit(code)


def _search(reader: Reader, batch: Iterable[bytes]) -> Iterator[bytes]:
    found: list[_Found] = []
    size = 0
    for index, block in reader.blocks(batch):
        found.append((index, block.lines, block.text, block.cut_lines))
        size += len(block.text)
        if size > SENT_BYTES:
            yield _message(found)
            found, size = [], 0
    if found:
        yield _message(found)
    yield _END


def _message(found: list[_Found]) -> bytes:
    text = marshal.dumps(found)
    return _SIZE.pack(len(text)) + text


def _size(batch: Iterable[bytes]) -> int:
    """Return how many bytes it takes to give a batch, or a few more."""
    return _SIZE.size + sum(len(path) + 1 for path in batch)


def _read(fd: int, size: int) -> bytes:
    """Read exactly `size` bytes.

    Raises:
        EOFError: The other side has ended.
    """
    pieces = []
    while size:
        piece = os.read(fd, min(size, 1024 * 1024))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _write(fd: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]
