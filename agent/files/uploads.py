"""Stores request bodies: one file, one file in a form, or many files in a form.

Content is gathered to a mebibyte and written by a thread, so memory does not grow with
the transfer and small files take one trip to a thread in all.
"""

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

import msgspec

from agent.errors import AgentError, InvalidRequestError
from agent.files.content import Content
from agent.files.forms import Event, Form, PartBegin, Piece
from agent.files.models import StoredFile
from agent.files.paths import told_as
from agent.files.ranges import Version
from agent.files.receiving import Inlet
from agent.files.threads import Threads
from agent.files.writing import Buffer, Upload
from agent.wire import printable

T = TypeVar("T")

Body = AsyncIterator[bytes] | Inlet
"""A request's body; it ends without an error only when all of it came."""
Check = Callable[[], None]
"""Looks at the file that is there, in a worker thread."""

BATCH_BYTES = 1024 * 1024
"""Content gathered before it is written."""
BATCH_PIECES = 512
"""Pieces gathered before they are written."""
COPIED_BYTES = 64 * 1024
"""Pieces below this are copied, lest a few bytes keep a whole chunk in memory."""
PATH_MAX_BYTES = 64 * 1024
"""One `.path` part of a bulk upload (contract 10 F12)."""
PATHS_MAX_BYTES = 64 * 1024 * 1024
"""All `.path` parts of one bulk upload."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FIELD = r"files\[([0-9]{1,18})\]\.(path|file)"


class Sink:
    """Takes the content of one upload piece by piece; `finish` or `abandon` ends it.

    Args:
        upload: The file on its way in, not open yet.
        given: Its path as the client gave it.
        threads: Where the blocking part happens.
        in_place: Held while an existing file is filled in place, and from a check to
            the end: one at a time, so that two never mix.
        check: Raises when the file that is there must not be replaced.
    """

    def __init__(
        self,
        upload: Upload,
        given: str,
        threads: Threads,
        in_place: asyncio.Lock,
        check: Check | None = None,
    ) -> None:
        self._upload = upload
        self._given = given
        self._threads = threads
        self._in_place = in_place
        self._check = check
        self._pieces: list[Buffer] = []
        self._gathered_bytes = 0
        self._opened = False

    @property
    def step(self) -> str:
        """What was being done last, for error texts."""
        return self._upload.step

    @property
    def tag(self) -> str | None:
        """The strong tag of the file that was put where it belongs; devices have none."""
        status = self._upload.status
        return None if status is None else Version(Content(-1, status)).tag

    async def add(self, piece: Buffer) -> None:
        """Take more content."""
        self._gather(piece)
        if self._gathered_bytes >= BATCH_BYTES or len(self._pieces) >= BATCH_PIECES:
            await self._threads.run(self._write)

    def take(self, piece: Buffer) -> None:
        """Take more content as `add` does, but in a worker thread."""
        self._gather(piece)
        # At once, because it still is in the processor's cache.
        if self._gathered_bytes >= COPIED_BYTES or len(self._pieces) >= BATCH_PIECES:
            self._write()

    def _gather(self, piece: Buffer) -> None:
        self._pieces.append(bytes(piece) if len(piece) < COPIED_BYTES else piece)
        self._gathered_bytes += len(piece)

    async def finish(self) -> int:
        """Put the file where it belongs; return its size in bytes."""
        if self._check is not None:
            async with self._in_place:
                if not await self._threads.run(self._check_and_commit, self._check):
                    await self._threads.run(self._fill_in_place)
        elif not await self._threads.run(self._write_and_commit):
            async with self._in_place:
                await self._threads.run(self._fill_in_place)
        return self._upload.size_bytes

    async def abandon(self) -> None:
        """Leave everything as it was before."""
        await self._threads.run(self._upload.discard)

    def _write(self) -> None:
        with told_as(self._given):
            if not self._opened:
                self._opened = True
                self._upload.open()
            pieces, self._pieces = self._pieces, []
            self._gathered_bytes = 0
            self._upload.write(pieces)

    def _check_and_commit(self, check: Check) -> bool:
        # What takes long comes first, so that little time passes after the check.
        self._write()
        with told_as(self._given):
            check()
        return self._write_and_commit()

    def _write_and_commit(self) -> bool:
        self._write()
        with told_as(self._given):
            done = self._upload.commit()
        if done:
            self._upload.discard()
        return done

    def _fill_in_place(self) -> None:
        with told_as(self._given):
            self._upload.fill_in_place()
        self._upload.discard()


async def store_body(sink: Sink, body: Body) -> int:
    """Store a whole body as one file; return its size in bytes.

    Raises:
        AgentError: It cannot be stored there.
        OSError: The system refuses.
    """

    def take(piece: bytes) -> bool:
        sink.take(piece)
        return True

    try:
        if isinstance(body, Inlet):
            await body.pour(take)
        else:
            async for chunk in body:
                await sink.add(chunk)
        return await sink.finish()
    except BaseException:
        await sink.abandon()
        raise


async def store_form(sink: Sink, form: Form, body: Body) -> int:
    """Store the first part named `file` of a form; return its size in bytes.

    The rest of the form is read before the file is put where it belongs: what ends too
    early replaces nothing.

    Raises:
        InvalidRequestError: It is no multipart form, or has no such part.
        OSError: The system refuses.
    """
    part = _FilePart(form)

    def take(chunk: bytes) -> bool:
        for piece in part.pick(chunk):
            sink.take(piece)
        return True

    try:
        if isinstance(body, Inlet):
            await body.pour(take)
        else:
            async for chunk in body:
                for piece in part.pick(chunk):
                    await sink.add(piece)
        part.finish()
        return await sink.finish()
    except BaseException:
        await sink.abandon()
        raise


class _FilePart:
    """The part of a form that holds the file; of several the first one counts."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._seen = False
        self._inside = False

    def pick(self, chunk: bytes) -> Iterator[Buffer]:
        """Yield what belongs to the file of the next bytes of the form."""
        for event in self._form.feed(chunk):
            if isinstance(event, PartBegin):
                self._inside = event.name == "file" and not self._seen
                self._seen = self._seen or self._inside
            elif isinstance(event, Piece) and self._inside:
                yield event.data

    def finish(self) -> None:
        """Say that the form has ended; fails when it is not whole."""
        self._form.finish()
        if not self._seen:
            raise InvalidRequestError("multipart field file is missing")


class BulkOutcome(msgspec.Struct):
    """What became of the files of a bulk upload.

    Attributes:
        files: Those that were stored, in the order in which they came.
        errors: What went wrong, in words.
        disk_full: Whether every failure was a full disk.
    """

    files: list[StoredFile] = []
    errors: list[str] = []
    disk_full: bool = True

    def fail(self, what: str, error: Exception | None = None) -> None:
        """Note a failure."""
        text = f"{what}: {reason(error)}" if error else what
        self.errors.append(printable(text))
        full = isinstance(error, OSError) and error.errno in _FULL
        self.disk_full = self.disk_full and full


class BulkUpload:
    """Stores the files of one form whose parts come in any client's order.

    `files[i].path` says where `files[i].file` goes and comes before it; that is all that
    clients agree on.

    Args:
        make_sink: Returns the sink for a destination.
    """

    def __init__(self, make_sink: Callable[[str], Sink]) -> None:
        self._make_sink = make_sink
        self._paths: dict[int, str] = {}
        self._paths_bytes = 0
        self._outcome = BulkOutcome()
        self._waiting: list[Event] = []
        self._failed: Exception | None = None
        self._index = -1
        self._path: bytearray | None = None
        self._sink: Sink | None = None
        self._destination = ""

    async def store(self, form: Form, body: Body) -> BulkOutcome:
        """Store what the form brings; failures are told in the outcome."""
        try:
            if isinstance(body, Inlet):
                while await body.pour(partial(self._take_content, form)):
                    await self._take_waiting()
            else:
                async for chunk in body:
                    for event in form.feed(chunk):
                        await self._take(event)
            form.finish()
        except InvalidRequestError as error:
            self._outcome.fail("reading part", error)
        finally:
            await self._drop()
        return self._outcome

    def _take_content(self, form: Form, chunk: bytes) -> bool:
        """Store content, in a worker thread, up to where a part begins or ends."""
        events = form.feed(chunk)
        for number, event in enumerate(events):
            if self._sink is None or not isinstance(event, Piece):
                self._waiting = events[number:]
                return False
            try:
                self._sink.take(event.data)
            except (AgentError, OSError) as error:
                self._failed = error
                self._waiting = events[number + 1 :]
                return False
        return True

    async def _take_waiting(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            await self._fail(failed)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            await self._take(event)

    async def _take(self, event: Event) -> None:
        if isinstance(event, PartBegin):
            self._begin(event.name)
        elif isinstance(event, Piece):
            if self._path is not None:
                # One byte beyond the limit is kept, to know that it was passed.
                self._path += event.data[: PATH_MAX_BYTES + 1 - len(self._path)]
            elif self._sink is not None:
                await self._try_to(self._sink.add(event.data))
        elif self._path is not None:
            self._note_path(bytes(self._path))
            self._path = None
        elif self._sink is not None:
            await self._finish(self._sink)

    def _begin(self, name: str) -> None:
        match = re.fullmatch(_FIELD, name)
        if match is None:
            return
        self._index = int(match[1])
        if match[2] == "path":
            self._path = bytearray()
        elif self._index in self._paths:
            self._destination = self._paths[self._index]
            self._sink = self._make_sink_for(self._destination)
        else:
            self._outcome.fail(f"file[{self._index}]: missing .path metadata")

    def _make_sink_for(self, destination: str) -> Sink | None:
        try:
            return self._make_sink(destination)
        except AgentError as error:
            self._outcome.fail(f"{destination}: create", error)
            return None

    def _note_path(self, text: bytes) -> None:
        path = os.fsdecode(text.strip())
        self._paths_bytes += len(text)
        if len(text) > PATH_MAX_BYTES:
            self._outcome.fail(f"path[{self._index}]: path too long")
        elif self._paths_bytes > PATHS_MAX_BYTES:
            self._outcome.fail(f"path[{self._index}]: too many paths")
        elif not path:
            self._outcome.fail(f"path[{self._index}]: empty path")
        else:
            self._paths[self._index] = path
            return
        self._paths.pop(self._index, None)

    async def _finish(self, sink: Sink) -> None:
        size_bytes = await self._try_to(sink.finish())
        self._sink = None
        if size_bytes is not None:
            path = printable(self._destination)
            self._outcome.files.append(StoredFile(path=path, size_bytes=size_bytes))

    async def _try_to(self, work: Awaitable[T]) -> T | None:
        """Await `work`; when it fails, note that and drop the file."""
        try:
            return await work
        except (AgentError, OSError) as error:
            await self._fail(error)
            return None

    async def _fail(self, error: Exception) -> None:
        step = self._sink.step if self._sink else "write"
        self._outcome.fail(f"{self._destination}: {step}", error)
        await self._drop()

    async def _drop(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            await sink.abandon()


def reason(error: Exception) -> str:
    """Return why something failed, in the lower-case words of the system."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)
