"""Searches one file by Python's own means."""

import os
from _collections_abc import Iterator

from agent.files.search.engine.answer import Block
from agent.files.search.engine.matching import OPEN_FLAGS, Matcher
from agent.files.search.engine.records import Recorder
from agent.files.search.engine.request import Request

_REGULAR, _TYPE = 0o100000, 0o170000
"""Of a mode (man 7 inode)."""


class Reader:
    """Searches files for what one request asks for.

    Raises:
        InvalidError: The expression is none.
    """

    def __init__(self, request: Request) -> None:
        self._matcher = Matcher(request)
        self._recorder = Recorder(request)

    def blocks(self, path: bytes) -> Iterator[Block]:
        """Yield the matches of a file below the root; none when it cannot be read."""
        # Below the root no link is followed, not even one that was a file just now.
        flags = OPEN_FLAGS | (os.O_NOFOLLOW if path else 0)
        try:
            fd = os.open(self._recorder.full_path(path), flags)
        except OSError:
            return
        try:
            status = os.fstat(fd)
            if status.st_mode & _TYPE == _REGULAR:
                hits = self._matcher.hits(fd, status.st_size)
                if hits is not None:
                    yield from self._recorder.blocks(path, hits)
        finally:
            os.close(fd)
