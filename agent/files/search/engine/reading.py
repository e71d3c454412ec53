"""Searches one file by Python's own means."""

import os
from _collections_abc import Iterable, Iterator

from agent.files.search.engine.answer import Block
from agent.files.search.engine.bounds import BLOCK_BYTES
from agent.files.search.engine.matching import OPEN_FLAGS, Matcher
from agent.files.search.engine.records import Recorder
from agent.files.search.engine.request import Request, raw

_REGULAR, _TYPE = 0o100000, 0o170000
"""Of a mode (man 7 inode)."""


class Reader:
    """Searches files for what one request asks for.

    Raises:
        InvalidError: The expression is none.
    """

    def __init__(self, request: Request) -> None:
        self.matcher = Matcher(request)
        self._recorder = Recorder(request)
        self._root = raw(request.root)
        self._below = self._root + b"/"

    def blocks(self, paths: Iterable[bytes]) -> Iterator[tuple[int, Block]]:
        """Yield the matches of files below the root, with each file's place in `paths`.

        Files that cannot be read have none.
        """
        # Without further calls for files that hold no match, as most do.
        below, flags = self._below, OPEN_FLAGS | os.O_NOFOLLOW
        find, buffers = self.matcher.finder, self.matcher.buffers
        for index, path in enumerate(paths):
            try:
                # No link is followed, not even one that was a file just now.
                fd = os.open(below + path, flags)
            except OSError:
                continue
            try:
                # Fails for what is no file, and for a tenth of the price of a status.
                size = os.lseek(fd, 0, os.SEEK_END)
                count = os.preadv(fd, buffers, 0)
            except OSError:
                size, count = 0, -1
            finally:
                os.close(fd)
            if count == size < BLOCK_BYTES:
                if find is not None and find(0, count) < 0:
                    continue
                found = self._recorder.blocks(path, self.matcher.lines(count))
            else:
                found = self._piecewise(path)
            for block in found:
                yield index, block

    def root_blocks(self) -> Iterator[Block]:
        """Yield the matches of the root, which is a file, or a link to one."""
        return self._piecewise(b"")

    def _open(self, path: bytes) -> int:
        if not path:
            return os.open(self._root, OPEN_FLAGS)
        return os.open(self._below + path, OPEN_FLAGS | os.O_NOFOLLOW)

    def _piecewise(self, path: bytes) -> Iterator[Block]:
        """Yield the matches of a file that is large, or not like other files."""
        try:
            fd = self._open(path)
        except OSError:
            return
        try:
            if os.fstat(fd).st_mode & _TYPE == _REGULAR:
                yield from self._recorder.blocks(path, self.matcher.hits(fd))
        finally:
            os.close(fd)
