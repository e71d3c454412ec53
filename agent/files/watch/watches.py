"""The owner of all watched trees, and what one listener hears of one.

A tree is watched once, however many listen. It is watched from before the first listener
is answered until some time after the last one has left, so that a client whose connection
broke comes back without having missed anything. Nobody has a queue: a listener is a place
in the tree's ring, and one that is too slow is told so and goes on with the present.
"""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from agent.errors import InvalidPathError, TooManyError
from agent.files.paths import Paths, shown_root, tell_as, told_as
from agent.files.threads import Threads
from agent.files.watch.models import Kind, WatchEvent
from agent.files.watch.patterns import Choice
from agent.files.watch.ring import Happening
from agent.files.watch.trees import KIND, Tree
from agent.keeper.client import Keeper
from agent.wire import UNSET, printable

TREES_MAX = 32
"""Each has a process of some 10 MiB, and the system gives a user 128 watchers."""
LISTENERS_MAX = 256
"""Of all trees."""
RESUME_S = 30.0
"""For which a tree without listeners is still watched."""
BATCH_EVENTS = 256
"""Handed to a listener at once: the loop is others' in between."""


class Key(NamedTuple):
    """What makes two requests ask for the same tree."""

    directory: str
    device: int
    inode: int
    recursive: bool


class Place(msgspec.Struct, frozen=True):
    """Where a request's path leads."""

    key: Key
    only: str | None
    """The one name that is asked for, when it is not a directory."""


class Listener:
    """One client of one tree.

    Args:
        tree: What it listens to.
        path: What it asked for, as it wrote it.
        only: The one entry it wants to hear of, or None for all.
        choice: What else it wants to hear of.
        since: The last event that it has; None for what comes from now on.
    """

    def __init__(
        self,
        tree: Tree,
        path: str,
        only: str | None,
        choice: Choice,
        since: int | None,
    ) -> None:
        self._tree = tree
        self._path = path
        self._shown = shown_root(path)
        self._only = only
        self._choice = choice
        self._bell = asyncio.Event()
        self._left = False
        self.sequence = tree.ring.last if since is None else since
        """The last event that it was told of, or that did not concern it."""
        tree.attach(self._bell)

    def begin(self) -> WatchEvent:
        """Return its first word."""
        return self._told(self.sequence, "ready", "", time.time())

    def leave(self) -> None:
        """Let `take` return at once, and for good."""
        self._left = True
        self._tree.detach(self._bell)
        self._bell.set()

    async def take(self, limit_s: float) -> list[WatchEvent] | None:
        """Return what happened next; nothing after a while, None when it is over."""
        try:
            async with asyncio.timeout(limit_s):
                while not self._left:
                    self._bell.clear()
                    if events := self._next():
                        return events
                    if self._tree.ended and self.sequence == self._tree.ring.last:
                        return None
                    await self._bell.wait()
        except TimeoutError:
            return []
        return None

    def _next(self) -> list[WatchEvent]:
        ring = self._tree.ring
        while self.sequence != ring.last:
            if not ring.holds_all_after(self.sequence):
                self.sequence = ring.last
                return [self._told(ring.last, "overflow", "", time.time())]
            happened = ring.after(self.sequence, BATCH_EVENTS)
            self.sequence = happened[-1].sequence
            if found := [told for each in happened if (told := self._heard(each))]:
                return found
        return []

    def _heard(self, event: Happening) -> WatchEvent | None:
        """Return an event as this listener is told of it, or None.

        A move between what it wants to hear of and the rest is a coming or a going.
        """
        kind, path, source = event.kind, event.path, event.source
        if kind == "moved":
            if not self._wants(source):
                kind, source = "created", ""
            elif not self._wants(path):
                kind, path, source = "deleted", source, ""
        if kind in {"overflow", "gone"} or self._wants(path):
            return self._told(event.sequence, kind, path, event.time, source)
        return None

    def _wants(self, path: str) -> bool:
        if self._only is not None:
            return path == self._only
        return not path or self._choice.takes(path)

    def _told(
        self, sequence: int, kind: Kind, path: str, when: float, source: str = ""
    ) -> WatchEvent:
        stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
        shown = self._path if self._only is not None or not path else self._shown + path
        return WatchEvent(
            sequence=sequence,
            kind=kind,
            path=UNSET if kind in {"ready", "overflow"} else printable(shown),
            source=printable(self._shown + source) if source else UNSET,
            time=stamp.replace("+00:00", "Z"),
        )


def is_text(path: str) -> bool:
    """Tell whether a path is UTF-8, for watchfiles takes no other."""
    return printable(path) == path


class Watches:
    """All watched trees.

    Args:
        work_dir: The absolute directory that relative paths start from.
        keeper: Starts and ends the programs that watch.
        resume_s: For which a tree without listeners is still watched.
        clock: Wall time in Unix seconds.
    """

    def __init__(
        self,
        work_dir: str,
        keeper: Keeper,
        *,
        resume_s: float = RESUME_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keeper = keeper
        self._paths = Paths(work_dir)
        self._resume_s = resume_s
        self._clock = clock
        self._threads = Threads("watches", 2)
        self._trees: dict[Key, Tree] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._listeners = 0

    def open(self) -> None:
        """End what an api that was killed has left watching."""
        if self._keeper.generation > 1:
            self._keep(asyncio.create_task(self._end_strays()))

    def __len__(self) -> int:
        """Return how many trees are watched."""
        return len(self._trees)

    async def aclose(self) -> None:
        """End all."""
        for key in list(self._trees):
            self._retire(key)
        await asyncio.gather(*self._closing)
        await self._threads.aclose()

    @asynccontextmanager
    async def listen(
        self, path: str, choice: Choice, *, recursive: bool, since: int | None
    ) -> AsyncIterator[Listener]:
        """Listen to what happens at a path; nothing after this began is missed.

        Raises:
            AgentError: A limit is reached, ours or the system's.
            OSError: It is missing, or the system refuses.
        """
        place = await self._threads.run(self._find, path, recursive)
        if self._listeners >= LISTENERS_MAX:
            raise TooManyError(f"more than {LISTENERS_MAX} clients watch files")
        tree = self._hold(place.key)
        try:
            try:
                await tree.opened()
            except OSError as error:
                tell_as(error, path)
                raise
            listener = Listener(tree, path, place.only, choice, since)
            told = printable(path)
            self._keeper.tell("watch.opened", path=told, recursive=recursive)
            try:
                yield listener
            finally:
                listener.leave()
                self._keeper.tell("watch.closed", path=told, recursive=recursive)
        finally:
            self._release(place.key, tree)

    def _find(self, path: str, recursive: bool) -> Place:
        with told_as(path):
            real = os.path.realpath(self._paths.resolve(path), strict=True)
            found = os.stat(real)
            only = None
            if not stat.S_ISDIR(found.st_mode):
                # An editor replaces a file by another: it is the name that is watched.
                real, only = os.path.split(real)
                found = os.stat(real)
                recursive = False
        if not is_text(real):
            raise InvalidPathError(
                f"invalid file path: only names in UTF-8 can be watched: {path}"
            )
        return Place(Key(real, found.st_dev, found.st_ino, recursive), only)

    def _hold(self, key: Key) -> Tree:
        tree = self._trees.get(key)
        if tree is not None and tree.ended:
            self._retire(key)
            tree = None
        if tree is None:
            self._make_room()
            tree = Tree(
                self._keeper, key.directory, recursive=key.recursive, clock=self._clock
            )
            self._trees[key] = tree
        if timer := self._timers.pop(key, None):
            timer.cancel()
        tree.listeners += 1
        self._listeners += 1
        return tree

    def _make_room(self) -> None:
        """Give up the tree that has been without listeners for longest, if need be."""
        if len(self._trees) < TREES_MAX:
            return
        if not self._timers:
            raise TooManyError(f"more than {TREES_MAX} trees are watched")
        self._retire(next(iter(self._timers)))

    def _release(self, key: Key, tree: Tree) -> None:
        tree.listeners -= 1
        self._listeners -= 1
        if tree.listeners or self._trees.get(key) is not tree:
            return
        if tree.ended:
            self._retire(key)
            return
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(self._resume_s, self._retire, key)

    def _retire(self, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._keep(asyncio.create_task(self._trees.pop(key).aclose()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _end_strays(self) -> None:
        for job in await self._keeper.list(KIND):
            if not self._is_ours(job.id):
                await self._keeper.end(job.id, 0)
                await self._keeper.forget(job.id)

    def _is_ours(self, job_id: str) -> bool:
        return any(each.job_id == job_id for each in self._trees.values())
