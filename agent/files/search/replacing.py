"""Replaces a text in files: literally, on bytes, in constant memory, file by file.

A file in which nothing matches is not written at all. One that has matches is read a
second time into an `Upload`, which keeps its mode, owner and attributes and takes its
place as a whole; if the file is not what was read by then, it is left as it is.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from agent.errors import AgentError, ConflictError, UnavailableError
from agent.files.content import Content, open_content
from agent.files.paths import Paths, told_as
from agent.files.search.models import ReplaceResult
from agent.files.threads import Threads
from agent.files.writing import Buffer, Upload
from agent.wire import UNSET, printable

BLOCK_BYTES = 256 * 1024
"""Read and searched at a time: the interpreter is held for a millisecond at most."""
GROWN_MAX_BYTES = 4 * 1024 * 1024
"""What one block may grow to in one step; beyond it matches are written one by one."""
GATHERED_MAX_BYTES = 4 * 1024 * 1024
"""Pieces gathered before they are written, when they are written one by one."""
GATHERED_MAX_PIECES = 512
"""As above, in pieces."""
THREADS = 4
"""Files replaced in at once, by different requests."""

_Status = tuple[int, int, int, int, int]


class Replacing:
    """Replaces text in files.

    Args:
        paths: How paths resolve.
        upload: Makes the upload that takes a file's place.
        in_place: Held while an existing file is filled in place: one at a time.
    """

    def __init__(
        self, paths: Paths, upload: Callable[[str], Upload], in_place: asyncio.Lock
    ) -> None:
        self._paths = paths
        self._upload = upload
        self._in_place = in_place
        self._threads = Threads("replacing", THREADS)
        self._stopping = threading.Event()

    async def aclose(self) -> None:
        """Stop what runs: files that are not done stay as they were."""
        self._stopping.set()
        await self._threads.aclose()

    async def replace(
        self, files: Sequence[str], pattern: str, new_value: str
    ) -> list[ReplaceResult]:
        """Replace `pattern` by `new_value` in each of `files`; tell what came of each."""
        old, new = _bytes(pattern), _bytes(new_value)
        return [await self._replace_in(path, old, new) for path in files]

    async def _replace_in(self, path: str, old: bytes, new: bytes) -> ReplaceResult:
        work = _Replacement(
            self._paths, path, self._upload(path), old, new, self._stopping
        )
        try:
            try:
                if not await self._threads.run(work.write):
                    async with self._in_place:
                        await self._threads.run(work.fill_in_place)
            finally:
                await self._threads.run(work.close)
        except (AgentError, OSError) as error:
            return ReplaceResult(
                file=printable(path), success=False, error=_told(error, path, work.step)
            )
        return ReplaceResult(file=printable(path), success=True, error=UNSET)


class _Replacement:
    """The replacement in one file; every step blocks, and belongs into a thread."""

    def __init__(
        self,
        paths: Paths,
        given: str,
        upload: Upload,
        old: bytes,
        new: bytes,
        stopping: threading.Event,
    ) -> None:
        self._paths = paths
        self._given = given
        self._upload = upload
        self._old = old
        self._new = new
        self._stopping = stopping
        self._content: Content | None = None
        self._before: _Status | None = None
        self.step = "open"

    def write(self) -> bool:
        """Replace; False: `fill_in_place` has to put the result where it belongs."""
        path = self._paths.resolve(self._given)
        content = self._content = open_content(path, self._given)
        with told_as(self._given):
            self._before = _status(os.fstat(content.fd))
            self.step = "read"
            if not self._matches(content):
                return True
            self.step = "write"
            self._upload.open()
            for pieces in self._pieces(content):
                self._upload.write(pieces)
            self._check_unchanged()
            return self._upload.commit()

    def fill_in_place(self) -> None:
        """Write the result into the file itself."""
        with told_as(self._given):
            self._check_unchanged()
            self._upload.fill_in_place()

    def close(self) -> None:
        """Remove what is left of it."""
        self._upload.discard()
        if self._content is not None:
            self._content.close()

    def _check_unchanged(self) -> None:
        path = self._paths.resolve(self._given)
        if _status(os.stat(path)) != self._before:
            raise ConflictError("file changed meanwhile")

    def _blocks(self, content: Content) -> Iterator[bytes]:
        offset = 0
        while block := content.read(offset, BLOCK_BYTES):
            if self._stopping.is_set():
                raise UnavailableError("the agent is shutting down")
            yield block
            offset += len(block)

    def _matches(self, content: Content) -> bool:
        keep = len(self._old) - 1
        rest = b""
        for block in self._blocks(content):
            window = rest + block
            if self._old in window:
                return True
            rest = window[-keep:] if keep else b""
        return False

    def _pieces(self, content: Content) -> Iterator[Sequence[Buffer]]:
        """Yield the new content, in what can be written by one call each."""
        keep = len(self._old) - 1
        rest = b""
        for block in self._blocks(content):
            parts = (rest + block).split(self._old)
            tail = parts[-1]
            # What may be the beginning of a match waits for the next block.
            rest = tail[-keep:] if keep else b""
            parts[-1] = tail[: len(tail) - len(rest)]
            if len(parts) * len(self._new) <= GROWN_MAX_BYTES:
                yield (self._new.join(parts),)
            else:
                yield from self._gathered(parts)
        yield (rest,)

    def _gathered(self, parts: list[bytes]) -> Iterator[Sequence[Buffer]]:
        """Yield `parts` with the new value between them, a few at a time."""
        pieces: list[Buffer] = [parts[0]]
        size = 0
        for part in parts[1:]:
            pieces += (self._new, part)
            size += len(self._new) + len(part)
            if size >= GATHERED_MAX_BYTES or len(pieces) >= GATHERED_MAX_PIECES:
                yield pieces
                pieces, size = [], 0
        yield pieces


def _status(found: os.stat_result) -> _Status:
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _told(error: AgentError | OSError, path: str, step: str) -> str:
    if isinstance(error, AgentError):
        return printable(error.message)
    reason = (error.strerror or "failed").lower()
    return printable(f"{step} {path}: {reason}")
