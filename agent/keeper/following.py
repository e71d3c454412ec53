"""A follower of a job's output, on the api's side."""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self, cast

from agent.errors import AgentError
from agent.keeper.frames import Header
from agent.keeper.shapes import Chunk, End

WINDOW_BYTES = 1024 * 1024
"""Of one subscription under way or not yet taken by its reader."""


class _Keeper(Protocol):
    def post(self, header: Header, payload: bytes = b"") -> None: ...
    def follow(self, subscription: "Subscription") -> int: ...
    def unfollow(self, number: int) -> None: ...
    async def ask(self, operation: str, header: Header) -> Header: ...


class Subscription:
    """Yields a job's output from an offset on, as `Keeper.subscribe` says.

    At most the window's bytes wait here; the keeper sends more as they are taken.

    Attributes:
        offset: Up to where it was taken; a later subscription may go on from here. A
            reader that has not dealt with all that it took sets it back before it leaves.
        first_offset: The oldest byte that was there when it began.
        end: Why it is over, once it is.
        on_end: Called when it is over, with output that was not taken yet or without.
    """

    def __init__(
        self, keeper: _Keeper, job_id: str, offset: int, window_bytes: int
    ) -> None:
        self._keeper = keeper
        self._job_id = job_id
        self._window_bytes = window_bytes
        self._chunks: deque[Chunk] = deque()
        self._number = 0
        self._taken = 0
        self._arrival: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._closed = False
        self._until: int | None = None
        self._file = -1
        self._again: asyncio.Task[None] | None = None
        self._reads = True
        self._arrived = offset
        self.offset = offset
        self.first_offset = 0
        self.end: End | None = None
        self.on_end: Callable[[], None] | None = None

    async def open(self) -> None:
        """Begin; done by the first step at the latest.

        Raises:
            NotFoundError: There is no such job.
            InvalidRequestError: It has not written so much yet.
            ConflictError: It is one that is answered as a whole.
        """
        if not self._number:
            await self._subscribe()

    async def _subscribe(self) -> None:
        self._number = self._keeper.follow(self)
        try:
            answer = await self._keeper.ask(
                "subscribe",
                {
                    "job": self._job_id,
                    "sub": self._number,
                    "offset": self._arrived,
                    "credit": self._window_bytes,
                    "reads": self._reads,
                },
            )
        except BaseException:
            self._close()
            raise
        if self._reads:
            self.offset = self._arrived = cast("int", answer["offset"])
            self.first_offset = cast("int", answer["first_offset"])

    async def aclose(self) -> None:
        """Stop following; the job is untouched."""
        self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._chunks.clear()
        if self._again is not None:
            self._again.cancel()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._number:
            self._keeper.unfollow(self._number)
            # A slow one is over for the keeper, but not what it has come to.
            if self._error is None and (self.end is None or self.end.reason == "slow"):
                self._keeper.post(
                    {
                        "op": "unsubscribe",
                        "sub": self._number,
                        "job": self._job_id,
                        "offset": self.offset,
                    }
                )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        await self.open()
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.end is not None or self._closed or self._is_far_enough():
                raise StopAsyncIteration
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        chunk = self._chunks.popleft()
        self.offset = chunk.offset + len(chunk.data)
        self._take(len(chunk.data))
        return chunk

    @property
    def has_more(self) -> bool:
        """Whether the next chunk is here already."""
        return bool(self._chunks)

    def leave(self) -> None:
        """Be over for the reader, which is told nothing more."""
        self._close()
        self._wake()

    def stop_at(self, offset: int) -> None:
        """Be over once all before `offset` was taken, whatever still comes."""
        self._until = offset
        self._wake()

    def _is_far_enough(self) -> bool:
        return self._until is not None and self.offset >= self._until

    def _take(self, size: int) -> None:
        """Let the keeper send as much again, not for every little piece."""
        self._taken += size
        if self._taken * 4 >= self._window_bytes and self.end is None:
            credit: Header = {
                "op": "credit",
                "sub": self._number,
                "bytes": self._taken,
            }
            if self._error is None:
                self._keeper.post(credit)
            self._taken = 0

    def receive(self, header: Header, payload: bytes) -> None:
        """Take a `data` or `end` event."""
        if header["ev"] == "end":
            self.end = End(
                reason=cast("str", header["reason"]),
                offset=cast("int", header["offset"]),
                dropped_bytes=cast("int", header["dropped_bytes"]),
            )
            self._keeper.unfollow(self._number)
            self._tell_end()
        else:
            runs = cast("list[tuple[int, int, float, int]]", header["runs"])
            if "stored" in header:
                try:
                    payload = self._stored(header, runs)
                except OSError:
                    self._begin_again()
                    return
            self._take_in(runs, payload)
        self._wake()

    def _take_in(self, runs: list[tuple[int, int, float, int]], payload: bytes) -> None:
        at = 0
        for offset, stream, time, size in runs:
            data = payload[at : at + size]
            self._chunks.append(
                Chunk(offset=offset, stream=stream, time=time, data=data)
            )
            at += size
            self._arrived = offset + size

    def _stored(self, header: Header, runs: list[tuple[int, int, float, int]]) -> bytes:
        """Return what the keeper only told the place of.

        Raises:
            OSError: It is not there any more, or something else is.
        """
        if "place" in header:
            path, device, inode = cast("tuple[str, int, int]", header["place"])
            self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            facts = os.fstat(self._file)
            if (facts.st_dev, facts.st_ino) != (device, inode):
                raise FileNotFoundError(path)
        wanted = sum(size for _, _, _, size in runs)
        content = os.pread(self._file, wanted, runs[0][0])
        if len(content) != wanted:
            raise OSError(errno.EIO, "the log was cut short")
        return content

    def _begin_again(self) -> None:
        """Have the rest sent: its file is gone from where it was, as user code can do."""
        self._reads = False
        self._keeper.unfollow(self._number)
        self._keeper.post(
            {
                "op": "unsubscribe",
                "sub": self._number,
                "job": self._job_id,
                "offset": self._arrived,
            }
        )
        self._again = asyncio.ensure_future(self._subscribe_again())

    async def _subscribe_again(self) -> None:
        try:
            await self._subscribe()
        except AgentError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End with an error: the keeper is gone."""
        self._error = error
        self._keeper.unfollow(self._number)
        self._tell_end()
        self._wake()

    def _tell_end(self) -> None:
        if self.on_end is not None:
            self.on_end()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
