"""Conditions on files, told by the watched trees of `agent/files/watch`.

What is watched is the directory that the entry is, or will be, in; while there is none,
the nearest one above it that is there. So the wait goes down the path as it comes into
being, and up when it vanishes. Where links are on the way is watched too. Whatever happens there, the entry itself is looked at:
an event is only the reason to look.
"""

import asyncio
import os
import stat
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import NamedTuple

from agent.files.paths import Paths
from agent.files.threads import Threads
from agent.files.watch.patterns import Choice
from agent.files.watch.watches import Listener, Watches
from agent.process.wait.models import FileCondition, FileFacts, FileState

PATIENCE_S = 3600.0
"""Longer than any wait."""

LINKS_MAX = 40
"""On the way to an entry; the kernel follows no more (man 7 path_resolution)."""


class Look(NamedTuple):
    """An entry at one moment.

    Attributes:
        status: Device, inode, size and time of modification; None when it is not there.
        directories: Whose entries tell of its changes.
    """

    status: tuple[int, int, int, int] | None
    directories: tuple[str, ...]


class Entries:
    """Waits for files.

    Args:
        watches: Who watches them.
        work_dir: The absolute directory that relative paths start from.
    """

    def __init__(self, watches: Watches, work_dir: str) -> None:
        self._watches = watches
        self._paths = Paths(work_dir)
        self._threads = Threads("waits", 2)

    async def aclose(self) -> None:
        """Leave the threads."""
        await self._threads.aclose()

    async def resolve(self, condition: FileCondition) -> tuple[str, Look]:
        """Return the path of a condition, and what is there now.

        Raises:
            InvalidPathError: It cannot be a path.
            OSError: It may not be looked at.
        """
        return await self._threads.run(self._resolve, condition.path)

    def _resolve(self, path: str) -> tuple[str, Look]:
        resolved = self._paths.resolve(path)
        return resolved, _look(resolved)

    async def until(self, path: str, state: FileState, before: Look) -> FileFacts:
        """Wait until an entry is as is wanted.

        Args:
            path: Its absolute path.
            state: What is wanted.
            before: What was there when the wait began.

        Raises:
            AgentError: It cannot be watched: a limit is reached, ours or the system's.
            OSError: It may not be looked at.
        """
        now = before
        while not _holds(state, before, now):
            now = await self._next(path, state, before, now)
        return _facts(now)

    async def _next(self, path: str, state: FileState, before: Look, now: Look) -> Look:
        """Return what is there when it is as wanted, or is to be watched elsewhere."""
        async with AsyncExitStack() as stack:
            try:
                listeners = [
                    await stack.enter_async_context(
                        self._watches.listen(
                            each, Choice("", ""), recursive=False, since=None
                        )
                    )
                    for each in now.directories
                ]
            except (FileNotFoundError, NotADirectoryError):
                # Gone since the look.
                return await self._threads.run(_look, path)
            while True:
                then = await self._threads.run(_look, path)
                if then.directories != now.directories or _holds(state, before, then):
                    return then
                if not await _any_news(listeners):
                    # A directory was removed; perhaps there is another of its name.
                    return await self._threads.run(_look, path)


async def _any_news(listeners: list[Listener]) -> bool:
    """Wait until something happened; False when a directory is not watched any more."""
    tasks = [asyncio.ensure_future(each.take(PATIENCE_S)) for each in listeners]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return all(each.result() is not None for each in tasks if each.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _holds(state: FileState, before: Look, now: Look) -> bool:
    if state == "changed":
        return now.status != before.status
    return (now.status is not None) == (state == "exists")


def _look(path: str) -> Look:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Look(None, _directories(path))
    status = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    directories = _directories(path)
    if stat.S_ISDIR(found.st_mode):
        # What changes about a directory is what is in it.
        directories = tuple(dict.fromkeys([*directories, os.path.realpath(path)]))
    return Look(status, directories)


def _directories(path: str) -> tuple[str, ...]:
    """Return the directories that decide what is at an absolute path, without links.

    That is where its last name is, or the first one that is missing, and where each link
    on the way to it is: a link may come to lead elsewhere.
    """
    found: list[str] = []
    left = path.split("/")[::-1]
    here, links = "/", 0
    while left and links <= LINKS_MAX:
        name = left.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        entry = os.path.join(here, name)
        try:
            target = os.readlink(entry)
        except OSError:
            if any(left) and os.path.isdir(entry):
                here = entry
                continue
            # The end of the way, or as far as it goes.
            left.clear()
        else:
            links += 1
            left += target.split("/")[::-1]
            found.append(here)
            here = "/" if target.startswith("/") else here
    return tuple(dict.fromkeys([*found, here]))


def _facts(now: Look) -> FileFacts:
    if now.status is None:
        return FileFacts(exists=False, size_bytes=None, modified_at=None)
    _, _, size, modified_ns = now.status
    moment = datetime.fromtimestamp(modified_ns // 1_000_000_000, UTC)
    moment = moment.replace(microsecond=modified_ns % 1_000_000_000 // 1000)
    return FileFacts(
        exists=True,
        size_bytes=size,
        modified_at=moment.isoformat().replace("+00:00", "Z"),
    )
