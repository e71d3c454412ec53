"""Tells of ports that open and close, to as many as listen, by one poll of the tables.

The kernel announces no listener, so the tables are read twice a second, for as long as
somebody wants to know and not a moment longer. Each follower compares with what it was
told last, so that one who is slow gets what counts now and no backlog.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.keeper.client import Tell
from agent.ports.models import PortEvent

PERIOD_S = 0.5

ReadPorts = Callable[[], list[int]]


class Follower:
    """One who wants to know; made by `PortWatch.follow`.

    Args:
        watch: What it follows.
    """

    def __init__(self, watch: "PortWatch") -> None:
        self._watch = watch
        self._told: list[int] | None = None
        self._news = asyncio.Event()
        self._has_left = False

    def leave(self) -> None:
        """Want no more; `take` then says so."""
        self._has_left = True
        self._news.set()

    def note(self) -> None:
        """Look again."""
        self._news.set()

    async def take(self, limit_s: float) -> list[PortEvent] | None:
        """Return what is new, nothing after `limit_s` without news, None at the end.

        The first time it is what there is.

        Raises:
            OSError: The tables cannot be read.
        """
        try:
            async with asyncio.timeout(limit_s):
                while not self._has_left:
                    events = self._compare(await self._watch.ports())
                    if events:
                        return events
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return []
        return None

    def _compare(self, now: list[int]) -> list[PortEvent]:
        told, self._told = self._told, now
        if told is None:
            return [PortEvent(kind="snapshot", ports=now)]
        before, after = set(told), set(now)
        closed = [PortEvent(kind="closed", port=port) for port in told]
        opened = [PortEvent(kind="opened", port=port) for port in now]
        return [
            *(each for each in closed if each.port not in after),
            *(each for each in opened if each.port not in before),
        ]


class PortWatch:
    """Polls while somebody follows.

    Args:
        read: Returns the open ports; called in a thread.
        period_s: Time between two looks.
        tell: Tells the timeline what was found.
    """

    def __init__(
        self, read: ReadPorts, period_s: float = PERIOD_S, tell: Tell | None = None
    ) -> None:
        self._tell = tell
        self._read = read
        self._period_s = period_s
        self._followers: set[Follower] = set()
        self._ports: list[int] | None = None
        self._polling: asyncio.Task[None] | None = None

    @property
    def is_polling(self) -> bool:
        """Whether the tables are read just now."""
        return self._polling is not None

    @contextmanager
    def follow(self) -> Iterator[Follower]:
        """Give a follower, while inside."""
        follower = Follower(self)
        self._followers.add(follower)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            if not self._followers and self._polling is not None:
                self._polling.cancel()
                self._polling = None
                self._ports = None

    async def ports(self) -> list[int]:
        """Return what was seen last; at first, what is there now.

        Raises:
            OSError: The tables cannot be read.
        """
        if self._ports is None:
            self._ports = await asyncio.to_thread(self._read)
        return self._ports

    async def aclose(self) -> None:
        """Let all followers go."""
        for follower in tuple(self._followers):
            follower.leave()
        polling, self._polling = self._polling, None
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    def _report(self, before: set[int], after: set[int]) -> None:
        """Tell the timeline once, however many follow."""
        if self._tell is not None:
            for port in sorted(before - after):
                self._tell("port.closed", port=port)
            for port in sorted(after - before):
                self._tell("port.opened", port=port)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                ports = await asyncio.to_thread(self._read)
            except OSError:
                # Out of descriptors, say: the next look may do better.
                continue
            if ports != self._ports:
                if self._ports is not None:
                    self._report(set(self._ports), set(ports))
                self._ports = ports
                for follower in self._followers:
                    follower.note()
