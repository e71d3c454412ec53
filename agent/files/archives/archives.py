"""The owner of archive work: its threads, and how many there may be at once."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import CancelledError

from agent.errors import TooManyError
from agent.files.archives.models import ArchiveFormat, Extracted
from agent.files.directories import make_directories
from agent.files.journal import Journal
from agent.files.paths import Paths, told_as
from agent.files.threads import Threads

PACKING_THREADS = 2
"""Blocks made at once; slow clients hold none."""
UNPACKING_MAX = 4
"""Archives unpacked at once: each holds a thread, waiting for its client included."""


class Archives:
    """Packs and unpacks.

    Args:
        work_dir: The absolute directory that relative paths start from.
        state_dir: The agent's state directory.
    """

    def __init__(self, work_dir: str, state_dir: str) -> None:
        self._paths = Paths(work_dir)
        self._journal = Journal(state_dir)
        self._packing = Threads("packing", PACKING_THREADS)
        self._unpacking = Threads("unpacking", UNPACKING_MAX)
        self._unpacked_now = 0

    async def aclose(self) -> None:
        """End the threads."""
        await self._packing.run(self._journal.close)
        await self._packing.aclose()
        await self._unpacking.aclose()

    async def pack(
        self, path: str, suffix: ArchiveFormat
    ) -> AsyncGenerator[bytes, None]:
        """Yield the blocks of an archive.

        Raises:
            OSError: The path is missing, or may not be read.
            ShortFileError: A file became shorter while it was read.
        """
        # The libraries of both formats are loaded by their first use.
        from agent.files.archives.packing import Packing  # noqa: PLC0415

        root = await self._packing.run(self._paths.resolve, path)
        packing = Packing(root, path, suffix)
        making = asyncio.create_task(self._packing.run(packing.block))
        try:
            block = await making
            while not packing.done:
                # The next one is made while the client takes this one.
                making = asyncio.create_task(self._packing.run(packing.block))
                yield block
                block = await making
            yield block
        finally:
            await asyncio.wait([making])
            if not making.cancelled():
                # Looked at, because nobody else does when the client has left.
                making.exception()
            packing.close()

    async def unpack(
        self, path: str, expected: ArchiveFormat | None, body: AsyncIterator[bytes]
    ) -> Extracted:
        """Unpack an archive to a directory, which is made when it is missing.

        Raises:
            AgentError: It is malformed or ends early, or a bound is passed.
            OSError: The system refuses.
        """
        if self._unpacked_now >= UNPACKING_MAX:
            raise TooManyError(f"{UNPACKING_MAX} archives are being unpacked")
        self._unpacked_now += 1
        try:
            pieces = pulled(asyncio.get_running_loop(), body)
            return await self._unpacking.run(self._unpack, path, expected, pieces)
        finally:
            self._unpacked_now -= 1

    def _unpack(
        self, path: str, expected: ArchiveFormat | None, pieces: Iterator[bytes]
    ) -> Extracted:
        # As above.
        from agent.files.archives.unpacking import Unpacking  # noqa: PLC0415

        root = self._paths.resolve(path)
        with told_as(path):
            make_directories(os.path.realpath(root))
            unpacking = Unpacking(root, path, self._journal, expected)
        return unpacking.run(pieces)


def pulled(
    loop: asyncio.AbstractEventLoop, body: AsyncIterator[bytes]
) -> Iterator[bytes]:
    """Yield, in a thread, what comes in the loop."""
    while True:
        try:
            piece = asyncio.run_coroutine_threadsafe(_next(body), loop).result()
        except CancelledError as error:
            raise ConnectionResetError("the agent stops") from error
        if not piece:
            return
        yield piece


async def _next(body: AsyncIterator[bytes]) -> bytes:
    return await anext(body, b"")
