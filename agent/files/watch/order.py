"""Puts what happened in one moment in an order in which it may have happened.

The system's own order is lost on the way. But a directory is made before what is in it, a
name is free again before it is given anew, and what leaves a directory does so before
that directory moves itself.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

Kind = Literal["created", "deleted", "moved"]
Step = tuple[Kind, str, str]
"""What happened, to which path, and where it was before it moved."""


def in_order(created: Collection[str], moves: Mapping[str, str]) -> Iterator[Step]:
    """Yield creations and moves (new path to old path) one after the other.

    Where no order is possible, as when two files change their names, a move becomes the
    deletion of the one and the creation of the other.
    """
    pending = _Pending(created, moves)
    for first in sorted({*created, *moves}):
        chain = {first: None}
        while chain:
            path = next(reversed(chain))
            blocker = pending.blocker(path) if path in pending.sources else None
            if path not in pending.sources:
                del chain[path]
            elif blocker is None:
                del chain[path]
                yield pending.take(path)
            elif blocker in chain:
                yield pending.break_up(list(chain), blocker)
                # Who waits for whom is different now.
                chain = {first: None}
            else:
                chain[blocker] = None


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, the nearest first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


class _Pending:
    """What is not told yet; `sources` has "" for what is created."""

    def __init__(self, created: Collection[str], moves: Mapping[str, str]) -> None:
        self.sources = {**dict.fromkeys(created, ""), **moves}
        self._goal = {source: path for path, source in moves.items()}
        self._below: dict[str, dict[str, None]] = {}
        for path, source in moves.items():
            for above in parents(source):
                self._below.setdefault(above, {})[path] = None

    def blocker(self, path: str) -> str | None:
        """Return the path of something that has to come before, or None."""
        for above in (path, *parents(path)):
            if above in self._goal:
                return self._goal[above]
            if above != path and above in self.sources:
                return above
        source = self.sources[path]
        return next(iter(self._below.get(source, ())), None) if source else None

    def take(self, path: str) -> Step:
        """Let one thing have happened."""
        source = self.sources.pop(path)
        if not source:
            return "created", path, ""
        self._forget(path, source)
        return "moved", path, source

    def break_up(self, chain: list[str], first: str) -> Step:
        """Make two of one of the moves that wait for each other."""
        waiting = chain[chain.index(first) :]
        path = next(each for each in waiting if self.sources[each])
        source, self.sources[path] = self.sources[path], ""
        self._forget(path, source)
        return "deleted", source, ""

    def _forget(self, path: str, source: str) -> None:
        del self._goal[source]
        for above in parents(source):
            del self._below[above][path]
