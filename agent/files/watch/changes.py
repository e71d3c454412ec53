"""Makes events of what watchfiles says, moment by moment.

watchfiles tells nothing of what is in a new directory before its own watch is there, so
new directories are looked through, twice. It gives the changes of a moment as a set, so
they are put in an order that is possible. It follows links to directories and tells one
directory by one of its names, so names are resolved, and what is elsewhere is left out.
It tells a move as a deletion and a creation; what the two have in common is found out
by what was known before (`known`).
"""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from agent.files.journal import PREFIX
from agent.files.watch.births import birth_of
from agent.files.watch.known import UNKNOWN, Entry, Known, listed, now
from agent.files.watch.order import in_order, parents

ADDED, MODIFIED, DELETED = 1, 2, 3
LATELY_S = 0.05
"""Before the last look: stamps are coarse, and one event too many beats one too few."""
TEMPORARY = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}")

Event = tuple[str, str, str]
"""What happened, to which path below the root, and where it was before it moved."""
Kinds = dict[str, set[int]]


class Status(NamedTuple):
    """What stands somewhere now."""

    device: int
    inode: int
    is_dir: bool


class Changes:
    """The changes of one tree.

    Args:
        root: Its absolute path, without links.
        device: The root's; what is on another is never told as moved.
        recursive: Whether what is below counts.
        known: What was there before.
    """

    def __init__(
        self, root: str, device: int, *, recursive: bool, known: Known
    ) -> None:
        self._root = root
        self._device = device
        self._recursive = recursive
        self._known = known
        self._since = now()
        self._before = self._since
        self.begin()

    def begin(self) -> None:
        """Look at what is there, as if nothing was told yet."""
        self._written: set[str] = set()
        self._told: set[str] = set()
        self._told_before: set[str] = set()
        self._found: set[str] = set()
        self._found_before: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._renamed_before: dict[str, str] = {}
        self._fresh: list[str] = []
        self._fresh_before: list[str] = []
        self._known.scan()

    def events(self, changes: Collection[tuple[int, str]]) -> Iterator[Event]:
        """Yield one moment's events in an order in which they may have happened."""
        if not changes and self._known.lost:
            self._known.scan()
        # Before anything is looked at.
        self._before, self._since = self._since, now()
        kinds = self._kinds(changes)
        here = {p: self._status(p) for p in kinds if ADDED in kinds[p]}
        moves = self._moves(kinds, here)
        gone = {path for path in here if here[path] is None}
        late = self._late(kinds, moves)
        told_elsewhere = {*gone, *late, *moves.values()}
        yield from self._fleeting(gone - {*moves.values()}, kinds, late)
        for path in sorted(kinds, reverse=True):
            if DELETED in kinds[path] and path not in told_elsewhere:
                yield from self._deleted(path)
        self._written = {path for path in kinds if MODIFIED in kinds[path]}
        yield from self._arrived([p for p in here if p not in gone], moves)
        for path in sorted(late, reverse=True):
            yield from self._deleted(path)
        yield from self._modified(path for path in kinds if kinds[path] == {MODIFIED})
        yield from self._look_again()

    def _kinds(self, changes: Collection[tuple[int, str]]) -> Kinds:
        """Return what happened to each path."""
        kinds: Kinds = {}
        for kind, path in changes:
            if TEMPORARY.fullmatch(os.path.basename(path)):
                continue
            named = self._named(path)
            if named is not None:
                kinds.setdefault(named, set()).add(kind)
        if kinds.get(""):
            # The directory's own end is told otherwise.
            kinds[""] &= {MODIFIED}
        return kinds

    def _named(self, path: str) -> str | None:
        """Return a path's name below the root without links; None: it is elsewhere."""
        if path == self._root:
            return ""
        parent, name = os.path.split(path)
        real = os.path.realpath(parent)
        if real == self._root:
            return name
        inside = self._root.rstrip("/") + "/"
        return f"{real[len(inside) :]}/{name}" if real.startswith(inside) else None

    def _status(self, path: str) -> Status | None:
        try:
            found = os.lstat(os.path.join(self._root, path))
        except OSError:
            return None
        return Status(found.st_dev, found.st_ino, stat.S_ISDIR(found.st_mode))

    def _moves(self, kinds: Kinds, here: Mapping[str, Status | None]) -> dict[str, str]:
        """Return which new paths are moved ones, and where those were."""
        left: dict[tuple[int, bool], tuple[str, Entry]] = {}
        for path in kinds:
            if DELETED in kinds[path] and (entry := self._known.find(path)):
                left[entry.inode, entry.is_dir] = path, entry
        moves: dict[str, str] = {}
        for path in sorted(here):
            status = here[path]
            if status is None or status.device != self._device:
                continue
            source, entry = left.get((status.inode, status.is_dir), ("", None))
            if entry and self._is_move(source, path, entry, here):
                del left[entry.inode, entry.is_dir]
                moves[path] = source
        return moves

    def _is_move(
        self, source: str, path: str, entry: Entry, here: Mapping[str, Status | None]
    ) -> bool:
        """Tell whether what stands at `path` is surely what was known at `source`."""
        if source == path or (entry.is_dir and not self._known.whole):
            return False
        if any(here.get(above) for above in parents(source)):
            # That directory is another one by now: too much happened at once.
            return False
        born = birth_of(os.path.join(self._root, path))
        return born is not None and born < entry.since

    def _fleeting(
        self, gone: Collection[str], kinds: Kinds, late: Collection[str]
    ) -> Iterator[Event]:
        """Tell of what came and is not there any more."""
        for path in sorted(gone):
            if not self._had_place(path, kinds):
                # Its directory is not told of yet, or has another name by now.
                continue
            if not self._known.find(path):
                yield "created", path, ""
                self._known.put(path, UNKNOWN, is_dir=False, since=self._since)
            if DELETED in kinds[path] and path not in late:
                yield from self._deleted(path)

    def _had_place(self, path: str, kinds: Kinds) -> bool:
        """Tell whether the directory of something was there before this moment."""
        parent = os.path.dirname(path)
        if self._known.whole and parent:
            entry = self._known.find(parent)
            return entry is not None and entry.is_dir
        return not any(ADDED in kinds.get(above, ()) for above in parents(path))

    def _is_told_of(self, path: str) -> bool:
        """Tell whether something is known; when that cannot be told, too."""
        return not path or not self._known.whole or self._known.find(path) is not None

    def _late(self, kinds: Kinds, moves: Mapping[str, str]) -> set[str]:
        """Return the deletions that come after the moves."""
        sources = set(moves.values())
        above = {each for source in sources for each in parents(source)}
        return {
            path
            for path in kinds
            if DELETED in kinds[path]
            and path not in sources
            and (path in above or any(each in moves for each in parents(path)))
            and (path in above or not self._known.find(path))
        }

    def _deleted(self, path: str) -> Iterator[Event]:
        if not self._is_told_of(path):
            return
        self._forget(path)
        yield "deleted", path, ""

    def _forget(self, path: str) -> None:
        entry = self._known.find(path)
        below = path + "/" if entry is None or entry.is_dir else None
        for told in self._sets():
            told.discard(path)
            if below:
                told -= {each for each in told if each.startswith(below)}
        self._known.drop(path)

    def _arrived(
        self, created: Collection[str], moves: Mapping[str, str]
    ) -> Iterator[Event]:
        pending = {*created, *moves}
        new = [path for path in created if path not in moves]
        for kind, path, source in in_order(new, moves):
            pending.discard(path)
            if kind == "deleted":
                pending.add(next(p for p in moves if moves[p] == path))
                yield from self._deleted(path)
            elif kind == "moved":
                yield from self._moved(path, source, pending)
            else:
                yield from self._created(path, pending)

    def _moved(
        self, path: str, source: str, pending: Collection[str]
    ) -> Iterator[Event]:
        entry = self._known.find(source)
        for told in self._sets():
            told -= {each for each in told if each.startswith(source + "/")}
            told.discard(source)
        self._known.move(source, path, since=self._since)
        self._told.add(path)
        self._renamed[source] = path
        yield "moved", path, source
        if entry and not entry.is_dir:
            yield from self._touched(path, written=source in self._written)
        elif self._recursive:
            yield from self._below(path, pending, moved=True)
            self._fresh.append(path)

    def _touched(self, path: str, *, written: bool = False) -> Iterator[Event]:
        """Tell if something moved may have been written to, which watchfiles does not."""
        with suppress(OSError):
            found = os.lstat(os.path.join(self._root, path))
            late = found.st_mtime >= self._before - LATELY_S
            if written or late:
                yield "modified", path, ""

    def _modified(self, paths: Iterable[str]) -> Iterator[Event]:
        for path in sorted(map(self._present_name, paths)):
            if self._is_told_of(path):
                yield "modified", path, ""

    def _present_name(self, path: str) -> str:
        """Return the name of what was told by one from before its directory moved."""
        for renamed in (self._renamed, self._renamed_before):
            for above in parents(path):
                if above in renamed and not self._known.find(path):
                    return renamed[above] + path[len(above) :]
        return path

    def _created(self, path: str, pending: Collection[str]) -> Iterator[Event]:
        status = self._status(path)
        if path in self._found or path in self._found_before:
            # Told already; but it may be yet another file by that name, just as new.
            yield "modified", path, ""
        else:
            self._told.add(path)
            # What is in it is new, too, even if a walk has seen it already.
            self._known.drop(path)
            yield "created", path, ""
        inode, is_dir = (status.inode, status.is_dir) if status else (UNKNOWN, False)
        self._known.put(path, inode, is_dir=is_dir, since=self._since)
        if self._recursive and is_dir:
            yield from self._below(path, pending)
            self._fresh.append(path)

    def _look_again(self) -> Iterator[Event]:
        """Look into the directories that were new a moment ago for the second time."""
        for path in self._fresh_before:
            yield from self._below(path)
        self._renamed_before, self._renamed = self._renamed, {}
        self._fresh_before, self._fresh = self._fresh, []
        self._told_before, self._told = self._told, set()
        self._found_before, self._found = self._found, set()

    def _sets(self) -> tuple[set[str], ...]:
        return self._told, self._told_before, self._found, self._found_before

    def _below(
        self, path: str, pending: Collection[str] = (), *, moved: bool = False
    ) -> Iterator[Event]:
        """Tell what is in a new directory and was not told of, and what left it again.

        What is in `pending` is told by itself.
        """
        open_ = [path]
        while open_:
            directory = open_.pop()
            found = {
                f"{directory}/{name}": entry
                for name, entry in listed(os.path.join(self._root, directory)).items()
                if not TEMPORARY.fullmatch(name)
            }
            yield from self._missing(directory, found, pending)
            for below in found.keys() - set(pending):
                entry = found[below]
                if entry.is_dir:
                    open_.append(below)
                if not self._is_told(below, entry.inode):
                    self._found.add(below)
                    yield "created", below, ""
                elif moved and not entry.is_dir:
                    yield from self._touched(below)
                self._known.put(
                    below, entry.inode, is_dir=entry.is_dir, since=self._since
                )

    def _missing(
        self, directory: str, found: Collection[str], pending: Collection[str]
    ) -> Iterator[Event]:
        if not self._known.whole:
            return
        for name in self._known.names(directory):
            below = f"{directory}/{name}"
            if below not in found and below not in pending:
                yield from self._deleted(below)

    def _is_told(self, path: str, inode: int) -> bool:
        known = self._known.find(path)
        if known and known.inode in {inode, UNKNOWN}:
            return True
        return any(path in told for told in self._sets())
