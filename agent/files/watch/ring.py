"""Keeps the newest events of a tree, for listeners that are behind or come back."""

import time
from collections.abc import Callable

import msgspec

from agent.files.watch.models import Kind

RING_EVENTS = 8192
"""Kept of one tree: some 2 MiB, and a few seconds of an unpacking archive."""


class Happening(msgspec.Struct, frozen=True):
    """One event of a tree, its paths relative to it; `source` is where a move began."""

    sequence: int
    kind: Kind
    path: str
    time: float
    source: str


class Ring:
    """The newest events, numbered without gaps.

    The numbers begin at the present microsecond, so that no number of an earlier ring,
    or of an earlier agent's, is ever one of this: whoever comes with one hears that
    something was missed. They stay below 2^53, for readers in JavaScript.

    Args:
        clock: Wall time in Unix seconds.
        capacity: How many events are kept.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, capacity: int = RING_EVENTS
    ) -> None:
        self._capacity = capacity
        self._events: dict[int, Happening] = {}
        self.last = int(clock() * 1_000_000)
        """The number of the newest event, or the one before the first."""

    def add(self, kind: Kind, path: str, when: float, source: str = "") -> None:
        """Add an event; the oldest falls off."""
        self.last += 1
        self._events[self.last] = Happening(self.last, kind, path, when, source)
        self._events.pop(self.last - self._capacity, None)

    def holds_all_after(self, sequence: int) -> bool:
        """Tell whether everything that came after an event is still there."""
        return self.last - len(self._events) <= sequence <= self.last

    def after(self, sequence: int, limit: int) -> list[Happening]:
        """Return the first events after one; all of them must be there."""
        end = min(self.last, sequence + limit)
        return [self._events[each] for each in range(sequence + 1, end + 1)]
