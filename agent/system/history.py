"""Measures again and again for those who listen, and keeps what was measured last."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent.system.models import Metrics

HISTORY_MAX = 120
"""Measurements that are kept; with nobody listening, those that were asked for."""

Measure = Callable[[], Metrics]


class Sampler:
    """Measures for all who listen at one interval; made by `Samplers`.

    Args:
        measure: Called in a thread.
        interval_s: Between two measurements.
        keep: Called with each.
    """

    def __init__(
        self, measure: Measure, interval_s: int, keep: Callable[[Metrics], None]
    ) -> None:
        self._measure = measure
        self._interval_s = interval_s
        self._keep = keep
        self._next: asyncio.Future[Metrics] = asyncio.Future()
        self._sampling = asyncio.create_task(self._sample())
        self.listeners = 0

    async def take(self, gone: asyncio.Event) -> Metrics | None:
        """Return the next measurement, or None once `gone` is set.

        Who comes late misses those that were made meanwhile.

        Raises:
            OSError: It could not be made.
        """
        wanted = self._next
        leaving = asyncio.ensure_future(gone.wait())
        try:
            either: set[asyncio.Future[Any]] = {wanted, leaving}
            await asyncio.wait(either, return_when=FIRST_COMPLETED)
        finally:
            leaving.cancel()
        return None if gone.is_set() else wanted.result()

    def close(self) -> None:
        """Measure no more."""
        self._sampling.cancel()

    async def _sample(self) -> None:
        while True:
            try:
                found = await asyncio.to_thread(self._measure)
            except OSError as error:
                self._next.set_exception(error)
            else:
                self._keep(found)
                self._next.set_result(found)
            self._next = asyncio.Future()
            await asyncio.sleep(self._interval_s)


class Samplers:
    """What was measured, and who measures: nothing, when nobody listens.

    Args:
        meter: Makes what measures for one sampler, whose windows are its own.
    """

    def __init__(self, meter: Callable[[], Measure]) -> None:
        self._meter = meter
        self._samplers: dict[int, Sampler] = {}
        self._kept: deque[Metrics] = deque(maxlen=HISTORY_MAX)

    @property
    def running(self) -> int:
        """How many measure by themselves just now."""
        return len(self._samplers)

    def keep(self, metrics: Metrics) -> None:
        """Keep a measurement."""
        self._kept.append(metrics)

    def history(self) -> list[Metrics]:
        """Return what was measured last, the oldest first."""
        return list(self._kept)

    @asynccontextmanager
    async def listen(self, interval_s: int) -> AsyncIterator[Sampler]:
        """Have measurements made at an interval while inside; equal ones are shared."""
        sampler = self._samplers.get(interval_s)
        if sampler is None:
            sampler = Sampler(self._meter(), interval_s, self.keep)
            self._samplers[interval_s] = sampler
        sampler.listeners += 1
        try:
            yield sampler
        finally:
            sampler.listeners -= 1
            if sampler.listeners == 0:
                del self._samplers[interval_s]
                sampler.close()
