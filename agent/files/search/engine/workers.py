"""Searches text without ripgrep: one process walks, others read files.

The walker hands out batches of paths in order and takes the results back in order. It
writes to a worker only when it has taken all that the worker had to say, so neither ever
waits for the other to read. Workers end when their pipe closes, or at the walker's word.
"""

import contextlib
import os
import signal
import stat
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NoReturn

from agent.files.search.engine.answer import Answer, Block
from agent.files.search.engine.bounds import BATCH_FILES, WORKERS_MAX
from agent.files.search.engine.globs import any_test
from agent.files.search.engine.matching import OPEN_FLAGS, Matcher
from agent.files.search.engine.records import Recorder
from agent.files.search.engine.request import Request, raw
from agent.files.search.engine.walking import is_regular, walk

_SIZE = struct.Struct("=Q")
_BLOCK = struct.Struct("=QQQQ")
"""Which file of the batch, how many results, how many cut, how many bytes of JSON."""
_END = _SIZE.pack(0)
SENT_BYTES = 1024 * 1024
"""Results gathered before a worker hands them over."""


def find(request: Request, answer: Answer) -> None:
    """Find the lines that match, and add them to the answer.

    Raises:
        re.error: The expression is none.
        LateError: The time is up.
        FullError: The answer is.
    """
    matcher, recorder = Matcher(request), Recorder(request)
    with contextlib.ExitStack() as stack:
        workers = deque(
            stack.enter_context(_Worker(matcher, recorder))
            for _ in range(min(len(os.sched_getaffinity(0)), WORKERS_MAX))
        )
        busy: deque[_Worker] = deque()
        paths = _paths(request)
        while True:
            while workers and (batch := list(islice(paths, BATCH_FILES))):
                workers[0].give(batch)
                busy.append(workers.popleft())
            if not busy:
                return
            for block in busy[0].results():
                answer.add(block)
            workers.append(busy.popleft())


def _paths(request: Request) -> Iterator[bytes]:
    """Yield the files to look into, in order."""
    if os.path.isfile(raw(request.root)):
        yield b""
        return
    included = any_test(request.include)
    for path, name, entry in walk(request):
        wanted = not included or included(os.fsdecode(name))
        if wanted and is_regular(entry):
            yield path


class _Worker:
    """A process that reads the files it is told to; to be used with `with`."""

    def __init__(self, matcher: Matcher, recorder: Recorder) -> None:
        self._matcher = matcher
        self._recorder = recorder
        self._batch: list[bytes] = []
        self._pid = 0
        self._to = self._from = -1

    def __enter__(self) -> "_Worker":
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._work(theirs, answers)
        os.close(theirs)
        os.close(answers)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        os.close(self._from)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def give(self, batch: list[bytes]) -> None:
        """Have files read."""
        self._batch = batch
        text = b"\0".join(batch)
        _write(self._to, _SIZE.pack(len(text)) + text)

    def results(self) -> Iterator[Block]:
        """Yield what was found in the files given last."""
        while size := _SIZE.unpack(_read(self._from, _SIZE.size))[0]:
            sent = _read(self._from, size)
            at = 0
            while at < size:
                index, count, cut, length = _BLOCK.unpack_from(sent, at)
                at += _BLOCK.size
                lines = array("Q", sent[at : at + count * 8])
                at += count * 8
                yield Block(self._batch[index], lines, sent[at : at + length], cut)
                at += length

    def _work(self, orders: int, answers: int) -> NoReturn:
        """Be the worker, to the end of the process."""
        code = 1
        try:
            # The walker's word, and its end, are all that ends it.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.close(self._to)
            os.close(self._from)
            while True:
                (size,) = _SIZE.unpack(_read(orders, _SIZE.size))
                for piece in self._search(_read(orders, size).split(b"\0")):
                    _write(answers, piece)
        except EOFError:
            code = 0
        finally:
            os._exit(code)

    def _search(self, batch: Iterable[bytes]) -> Iterator[bytes]:
        found: list[bytes] = []
        size = 0
        for index, path in enumerate(batch):
            for _, lines, text, cut in self._blocks(path):
                head = _BLOCK.pack(index, len(lines), cut, len(text))
                block = head + array("Q", lines).tobytes() + text
                found.append(block)
                size += len(block)
                if size > SENT_BYTES:
                    yield b"".join((_SIZE.pack(size), *found))
                    found, size = [], 0
        if found:
            yield b"".join((_SIZE.pack(size), *found))
        yield _END

    def _blocks(self, path: bytes) -> Iterator[Block]:
        # Below the root no link is followed, not even one that was a file just now.
        flags = OPEN_FLAGS | (os.O_NOFOLLOW if path else 0)
        try:
            fd = os.open(self._recorder.full_path(path), flags)
        except OSError:
            return
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                hits = self._matcher.hits(fd, status.st_size)
                if hits is not None:
                    yield from self._recorder.blocks(path, hits)
        finally:
            os.close(fd)


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
