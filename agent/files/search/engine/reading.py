"""Searches one file by Python's own means."""

import os
from _collections_abc import Iterable, Iterator

from agent.files.search.engine.answer import Block
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

    def blocks(self, path: bytes) -> Iterable[Block]:
        """Return the matches of a file below the root; none when it cannot be read."""
        try:
            fd = self._open(path)
        except OSError:
            return ()
        try:
            hits = self.matcher.whole(fd)
        finally:
            os.close(fd)
        if hits is None:
            return self._piecewise(path)
        return self._recorder.blocks(path, hits) if hits else ()

    def _open(self, path: bytes) -> int:
        if not path:
            return os.open(self._root, OPEN_FLAGS)
        # Below the root no link is followed, not even one that was a file just now.
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
