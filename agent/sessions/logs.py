"""Reads the stored log of a command, in pieces and without end in mind.

Nothing here holds more than a piece: a log may have hundreds of megabytes, and a follower
may be slow.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from agent import wire
from agent.errors import RangeError
from agent.keeper.client import Chunk, Keeper, Piece, Subscription
from agent.sessions.labels import Messages, Texts, text_of
from agent.sessions.models import SessionCommandLogs

HELD_S = 0.05
"""How long the beginning of a character waits for the rest of it (contract 31, F4)."""


class Snapshot:
    """A log as it is now.

    Args:
        keeper: Who has it.
        job_id: The command's job.
        first: Its first piece, from `offset` on.
        offset: Where it begins.
    """

    def __init__(
        self, keeper: Keeper, job_id: str, first: Piece, offset: int = 0
    ) -> None:
        self._keeper = keeper
        self._job_id = job_id
        self._first = first
        self._offset = offset
        self.size = first.size
        self.dropped_bytes = first.dropped_bytes

    @classmethod
    async def take(cls, keeper: Keeper, job_id: str, offset: int = 0) -> "Snapshot":
        """Return the log of a job.

        Raises:
            NotFoundError: There is no such job.
            RangeError: It has less than `offset` bytes.
        """
        first = await keeper.read(job_id, offset)
        if offset > first.size:
            raise RangeError(
                f"the log has only {first.size} bytes", size_bytes=first.size
            )
        return cls(keeper, job_id, first, offset)

    @property
    def is_short(self) -> bool:
        """Whether its first piece is all of it."""
        return _end_of(self._first, self._offset) >= self.size

    def first_chunks(self) -> tuple[Chunk, ...]:
        """Return its first piece, with what is to be said of dropped output."""
        return (*self._first.chunks, *dropped(self.size, self.dropped_bytes))

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Yield all of it that there was when it was taken."""
        piece, offset = self._first, self._offset
        while True:
            for chunk in piece.chunks:
                if chunk.offset >= self.size:
                    return
                yield _up_to(chunk, self.size)
            offset = _end_of(piece, offset)
            if offset >= self.size or not piece.chunks:
                return
            piece = await self._keeper.read(self._job_id, offset)

    async def pieces(
        self, *, labelled: bool = False, only: int = 0
    ) -> AsyncIterator[str]:
        """Yield its text, and what is to be said of dropped output."""
        texts = Texts(labelled=labelled, only=only)
        async for chunk in self.chunks():
            yield texts.add(chunk)
        for chunk in dropped(self.size, self.dropped_bytes):
            yield texts.add(chunk)
        yield texts.end()


def logs_of(snapshot: Snapshot) -> SessionCommandLogs:
    """Return the answer for a short log."""
    chunks = snapshot.first_chunks()
    return SessionCommandLogs(
        output=text_of(chunks),
        stdout=text_of(chunks, only=1),
        stderr=text_of(chunks, only=2),
    )


async def json_of(snapshot: Snapshot, before: bytes = b"{") -> AsyncIterator[bytes]:
    """Yield the JSON of a long log, a piece at a time.

    Args:
        snapshot: The log.
        before: What comes before its three fields.
    """
    yield before
    for number, (name, only) in enumerate(
        (("output", 0), ("stdout", 1), ("stderr", 2))
    ):
        yield b'%s"%s":"' % (b"," if number else b"", name.encode())
        async for text in snapshot.pieces(only=only):
            yield wire.encode(text)[1:-1]
        yield b'"'
    yield b"}"


def dropped(offset: int, count: int) -> tuple[Chunk, ...]:
    """Return the record that says how much of the output was not kept, if any."""
    if not count:
        return ()
    text = f"\n[{count} bytes of output were dropped: the log is full]\n"
    return (Chunk(offset=offset, stream=1, time=0.0, data=text.encode()),)


async def exact(subscription: Subscription, only: int) -> AsyncIterator[bytes]:
    """Yield the bytes of a log as they are stored, for one who counts them.

    Args:
        subscription: The log, from where the follower is.
        only: The one output that is wanted; 0 for both.
    """
    async for chunk in subscription:
        if not only or chunk.stream == only:
            yield chunk.data


async def messages(
    subscription: Subscription, *, labelled: bool, only: int = 0, says_dropped: bool
) -> AsyncIterator[list[bytes]]:
    """Yield what a follower is to be sent, in messages, until the log is over.

    Args:
        subscription: The log, from where the follower is.
        labelled: Whether each piece has its marker.
        only: The one output that is wanted; 0 for both.
        says_dropped: Whether the end tells how much was not kept.
    """
    cutter = Messages(labelled=labelled)
    waits = partial(_character_limit, cutter)
    async for chunk in with_pauses(subscription, waits):
        if chunk is None:
            yield cutter.take(flush=True)
            continue
        if not only or chunk.stream == only:
            cutter.add(chunk)
        if cutter.is_full or not subscription.has_more:
            yield cutter.take()
    end = subscription.end
    if end is not None and says_dropped:
        for chunk in dropped(end.offset, end.dropped_bytes):
            cutter.add(chunk)
    yield cutter.take(flush=True)


def _character_limit(cutter: Messages) -> float | None:
    return HELD_S if cutter.holds_back else None


async def with_pauses(
    subscription: Subscription, limit: Callable[[], float | None]
) -> AsyncIterator[Chunk | None]:
    """Yield the chunks, and None whenever none has come for the time of `limit`."""
    chunks = aiter(subscription)
    coming: asyncio.Task[Chunk | None] | None = None
    try:
        while True:
            limit_s = limit()
            if coming is None and (limit_s is None or subscription.has_more):
                chunk = await anext(chunks, None)
            else:
                coming = coming or asyncio.ensure_future(_next(chunks))
                done, _ = await asyncio.wait({coming}, timeout=limit_s)
                if not done:
                    yield None
                    continue
                chunk, coming = coming.result(), None
            if chunk is None:
                return
            yield chunk
    finally:
        if coming is not None:
            coming.cancel()


async def _next(chunks: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(chunks, None)


def _end_of(piece: Piece, offset: int) -> int:
    if not piece.chunks:
        return offset
    last = piece.chunks[-1]
    return last.offset + len(last.data)


def _up_to(chunk: Chunk, end: int) -> Chunk:
    if chunk.offset + len(chunk.data) <= end:
        return chunk
    return Chunk(
        offset=chunk.offset,
        stream=chunk.stream,
        time=chunk.time,
        data=chunk.data[: end - chunk.offset],
    )
