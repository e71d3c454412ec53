"""The timeline as clients follow it, each at its own pace.

The keeper passes on what happens, for as long as anybody listens; that is held here, up
to a bound, once for all. Nobody has a queue: a listener is a number, and reads what comes
after it from what is held here, or, when it is further behind, from the keeper's journal.
Whoever is behind even that is told how much it has missed.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import NamedTuple

import msgspec

from agent.errors import TooManyError
from agent.events.choice import Choice
from agent.keeper.client import Keeper
from agent.keeper.event_client import EventPlace, EventRange, KeptEvents

LISTENERS_MAX = 1024
HELD_MAX_BYTES = 1024 * 1024
"""Events held for all who follow; whoever is further behind reads the journal."""
BATCH_EVENTS = 256
BATCH_BYTES = 64 * 1024
"""Handed to a listener at once: the loop is others' in between."""


class Entry(NamedTuple):
    """One event: its number, its type, and the JSON that it is."""

    number: int
    kind: str
    text: bytes


class Missed(NamedTuple):
    """A gap: numbers after `since` and before `oldest` that nobody can tell any more."""

    since: int
    oldest: int

    @property
    def lost(self) -> int:
        """How many there were."""
        return max(0, self.oldest - self.since - 1)


class _Head(msgspec.Struct):
    id: int
    type: str


_decode = msgspec.json.Decoder(_Head).decode


def entries_of(lines: bytes) -> Iterator[Entry]:
    """Yield the events among lines; what is none is left out."""
    for line in lines.split(b"\n"):
        if not line:
            continue
        try:
            head = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        yield Entry(head.id, head.type, line)


class Timeline:
    """What happened lately, and who listens.

    Args:
        keeper: Has the timeline.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.kept = KeptEvents(keeper)
        self._held: deque[Entry] = deque()
        self._held_bytes = 0
        self._newest = 0
        self._bells: set[asyncio.Event] = set()

    @asynccontextmanager
    async def listen(
        self, choice: Choice, since: int | None
    ) -> AsyncIterator["Listener"]:
        """Listen to what happens after a number; None is from now on.

        Raises:
            TooManyError: Too many listen.
        """
        if len(self._bells) >= LISTENERS_MAX:
            raise TooManyError(f"more than {LISTENERS_MAX} clients follow events")
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            there = await self._follow()
            yield Listener(self, choice, since, there, bell)
        finally:
            self._bells.discard(bell)
            if not self._bells:
                self._forget()
                self.kept.unfollow()

    async def _follow(self) -> EventRange:
        there = await self.kept.follow(self._happened)
        # What came after the answer may have been passed on before we are here.
        if self._newest < there.newest:
            self._forget()
            self._newest = there.newest
        return there

    def _happened(self, first: int, last: int, lines: bytes) -> None:
        if first != self._newest + 1 or not lines:
            # Not all of it came here; the journal has it.
            self._forget()
        for entry in entries_of(lines):
            self._held.append(entry)
            self._held_bytes += len(entry.text)
        self._newest = last
        while self._held_bytes > HELD_MAX_BYTES:
            self._held_bytes -= len(self._held.popleft().text)
        for bell in self._bells:
            bell.set()

    def _forget(self) -> None:
        self._held.clear()
        self._held_bytes = 0

    @property
    def newest(self) -> int:
        """The number of the last event."""
        return self._newest

    def held_after(self, number: int) -> list[Entry] | None:
        """Return what is held after a number, a batch at most; None: not all is held."""
        if number >= self._newest:
            return []
        if not self._held or self._held[0].number > number + 1:
            return None
        start = number + 1 - self._held[0].number
        return bounded(islice(self._held, start, start + BATCH_EVENTS))


def bounded(entries: Iterator[Entry]) -> list[Entry]:
    """Return the first entries, as many as are handed on at once."""
    found: list[Entry] = []
    size = 0
    for entry in entries:
        if found and size + len(entry.text) > BATCH_BYTES:
            break
        found.append(entry)
        size += len(entry.text)
    return found


class Journal:
    """A reader of what the keeper has stored, from a number on.

    Args:
        kept: The keeper's timeline.
        since: The last number that the reader has.

    Attributes:
        number: The last number that was read.
        more: Whether there was more at the last look.
        there: Which events there were then.
    """

    def __init__(self, kept: KeptEvents, since: int) -> None:
        self._kept = kept
        self._place: EventPlace | None = None
        self.number = since
        self.more = True
        self.there = EventRange(since, since)

    async def read(self) -> list[Entry]:
        """Return what comes next: nothing, when there is no more or none of it counts."""
        block = await self._kept.read(self.number, self._place)
        self._place, self.more, self.there = block.place, block.more, block.there
        found: list[Entry] = []
        for entry in entries_of(block.lines):
            if entry.number > self.number:
                found.append(entry)
                self.number = entry.number
        return found


class Listener:
    """One client that follows the timeline.

    Args:
        timeline: What it follows.
        choice: What it wants to hear of.
        since: The last number that it has; None for what comes from now on.
        there: Which events there are.
        bell: Rung when something happened.

    Attributes:
        number: The last event that it was told of, or that did not concern it.
        there: Which events there were when it came.
    """

    def __init__(
        self,
        timeline: Timeline,
        choice: Choice,
        since: int | None,
        there: EventRange,
        bell: asyncio.Event,
    ) -> None:
        self._timeline = timeline
        self._choice = choice
        self._bell = bell
        self._left = False
        self._journal: Journal | None = None
        self._first: list[Entry | Missed] = []
        self.there = there
        self.number = there.newest if since is None else since
        if self.number > there.newest:
            # A number of another journal, which somebody removed: all there is is new.
            self._first = [Missed(self.number, there.oldest)]
            self.number = there.oldest - 1

    def leave(self) -> None:
        """Let `take` return what has come, and then end for good."""
        self._left = True
        self._bell.set()

    async def take(self, limit_s: float) -> list[Entry | Missed] | None:
        """Return what happened next; nothing after a while, None when it is over."""
        try:
            async with asyncio.timeout(limit_s):
                while not self._left:
                    if events := await self._next():
                        return events
                    # Nothing of a whole batch may concern it; others wait.
                    await asyncio.sleep(0)
        except TimeoutError:
            return []
        # The last words of the agent; whoever is further behind asks for them later.
        return self._heard(self._timeline.held_after(self.number) or []) or None

    async def _next(self) -> list[Entry | Missed]:
        """Return some of what comes next that it wants to hear of, once there is more."""
        if self._first:
            first, self._first = self._first, []
            return first
        self._bell.clear()
        held = self._timeline.held_after(self.number)
        if held is None:
            return await self._read()
        self._journal = None
        if not held:
            await self._bell.wait()
        return self._heard(held)

    async def _read(self) -> list[Entry | Missed]:
        newest = self._timeline.newest
        if self._journal is None:
            self._journal = Journal(self._timeline.kept, self.number)
        found = await self._journal.read()
        if not found and not self._journal.more:
            # There is no more although there was: it could not be stored.
            self._journal = None
            return self._heard([], newest)
        return self._heard(found)

    def _heard(self, found: list[Entry], newest: int = 0) -> list[Entry | Missed]:
        """Return what it is told of, and what is missing in between or before `newest`."""
        told: list[Entry | Missed] = []
        for entry in found:
            if entry.number != self.number + 1:
                told.append(Missed(self.number, entry.number))
            if self._choice.takes(entry.kind):
                told.append(entry)
            self.number = entry.number
        if newest > self.number:
            told.append(Missed(self.number, newest + 1))
            self.number = newest
        return told
