"""Ends a part of a job's tree: a process, and what descends from it.

The keeper's ladder ends whole jobs; this is for one branch of them, and the same in
small: ask, wait the stated time, stop all, kill all, until none is left. Every process is
held by a pidfd, so that a number which has become another's is never signalled, and its
end is waited for, not polled.
"""

import asyncio
import os
import signal
import time

from agent.files.threads import Threads
from agent.keeper import tree

LIMIT_S = 5.0
"""After so long of killing, what is left cannot be killed (state D, another's uid)."""

HELD_MAX = 256
"""Processes waited for at a time; the rest of a larger tree comes with the next look."""

FREEZES_MAX = 50
"""Looks for what forks as fast as it is stopped."""

AGAIN_S = 0.02
"""Before the next look at what cannot be waited for."""


class Branch:
    """A process and what descends from it.

    Members are remembered, so that what has lost its parent still is one.

    Args:
        root: Where it begins.
        threads: Where the process table is read.
    """

    def __init__(self, root: tree.Process, threads: Threads) -> None:
        self._threads = threads
        self._known = {root.pid: root.started}
        self._sessions = {root.pid} if root.session == root.pid else set[int]()
        self._held: dict[int, int] = {}
        self._asked: set[tuple[int, int]] = set()

    async def end(self, grace_s: float) -> int:
        """End all of it; return how many could not be ended.

        Args:
            grace_s: Between asking and killing; 0 kills at once.
        """
        try:
            if grace_s > 0:
                await self._ask(time.monotonic() + grace_s)
            return await self._kill(time.monotonic() + LIMIT_S)
        finally:
            for fd in self._held.values():
                os.close(fd)
            self._held.clear()

    async def _ask(self, until: float) -> None:
        while time.monotonic() < until:
            members = await self._look()
            if not members:
                return
            fresh = [
                each for each in members if (each.pid, each.started) not in self._asked
            ]
            self._asked.update((each.pid, each.started) for each in fresh)
            self._signal(fresh, signal.SIGTERM, signal.SIGCONT)
            await self._wait(members, until)

    async def _kill(self, until: float) -> int:
        while True:
            members = await self._freeze()
            if not members or time.monotonic() >= until:
                return len(members)
            self._signal(members, signal.SIGKILL)
            await self._wait(members, until)

    async def _freeze(self) -> list[tree.Process]:
        """Stop all members, so that none makes a new one; return them."""
        stopped: set[int] = set()
        members: list[tree.Process] = []
        for _ in range(FREEZES_MAX):
            members = await self._look()
            fresh = [each for each in members if each.pid not in stopped]
            if not fresh:
                break
            self._signal(fresh, signal.SIGSTOP)
            stopped.update(each.pid for each in fresh)
        return members

    async def _look(self) -> list[tree.Process]:
        processes = await self._threads.run(tree.table)
        roots = {
            pid
            for pid, started in self._known.items()
            if pid in processes and processes[pid].started == started
        }
        roots |= {
            each.pid for each in processes.values() if each.session in self._sessions
        }
        below = tree.descendants(processes, roots)
        members = [processes[pid] for pid in roots] + below
        self._known = {each.pid: each.started for each in members}
        # One that is empty is nobody's: its number may be given out again.
        self._sessions &= {each.session for each in members}
        self._sessions |= {each.pid for each in members if each.session == each.pid}
        return [each for each in members if each.alive]

    def _signal(self, members: list[tree.Process], *numbers: int) -> None:
        for each in members:
            fd = self._held.get(each.pid, -1)
            is_held = fd >= 0
            if not is_held and (fd := tree.hold(each)) < 0:
                continue
            for number in numbers:
                tree.send(fd, number)
            if is_held:
                continue
            if len(self._held) < HELD_MAX:
                self._held[each.pid] = fd
            else:
                os.close(fd)

    async def _wait(self, members: list[tree.Process], until: float) -> None:
        """Wait until those that are held have ended, and let go of these."""
        held = [each.pid for each in members if each.pid in self._held]
        if not held:
            await asyncio.sleep(AGAIN_S)
            return
        ends = [asyncio.ensure_future(_ended(self._held[pid])) for pid in held]
        try:
            limit_s = max(0.0, until - time.monotonic())
            await asyncio.wait(ends, timeout=limit_s)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        for pid, end in zip(held, ends, strict=True):
            if not end.cancelled():
                os.close(self._held.pop(pid))


async def _ended(fd: int) -> None:
    """Wait for the end of the process of a pidfd."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
