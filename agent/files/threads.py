"""Runs blocking file work in threads of our own.

Never the loop's default executor: six calls that hang fill that one, and then every file
call of every subsystem hangs with them. Listing and deleting do not share threads with
transfers, so that neither waits for the other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

CLOSE_LIMIT_S = 2.0
"""Time for which `aclose` waits for work that is still running."""


class Threads:
    """A bounded number of threads for one kind of work.

    Args:
        name: What the threads are called.
        count: How many at most; they are started when first needed.
    """

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._running: set[asyncio.Future[object]] = set()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Return what `work` returns.

        When the caller is cancelled, the work goes on, and the cancellation waits for
        its end: so nobody closes a descriptor that a thread still uses.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, work, *arguments)
        self._running.add(future)  # type: ignore[arg-type] # only waited for
        future.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                # Looked at, or its failure would be reported as never retrieved.
                future.exception()
            raise

    async def aclose(self) -> None:
        """Wait a moment for what is running, then leave the threads to themselves."""
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_LIMIT_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
