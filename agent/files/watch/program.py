"""Watches one tree and writes down what changes: a process of its own.

    python -m agent.files.watch.program <directory> <0 or 1: what is below it, too>

In a process of its own because watchfiles holds the interpreter while it walks a tree,
a third of a second for thirty thousand entries. It writes lines of JSON to its standard
output, a terminal in raw mode (the keeper keeps a bounded ring of that, and no file):

    {"ready": true}                     everything from here on is noticed
    {"error": [errno, message]}         it cannot be watched; the last line
    {"time": 1.5, "events": [["created", "a/b"], ...]}
    {"overflow": true}                  something was missed
    {"gone": true}                      the directory is not there any more; the last line

What watchfiles does not do is added here. It tells nothing of what is in a new directory
before its own watch is there, so new directories are looked through, twice. It gives the
changes of a moment in no order, so they are put in one that is possible. It knows a
directory that links lead to by one of its names, so names are resolved. A name that is
not UTF-8 ends it, so it is begun again, and said that something was missed. It does not
tell which deletion and creation are one move.
"""

import errno
import json
import os
import re
import stat
import sys
import time
import tty
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

from agent.files.journal import PREFIX

STEP_MS = 20
"""Between two looks at what has come; also how long it must be quiet."""
DEBOUNCE_MS = 60
"""After which changes are told although more come."""
LOOK_MS = 1000
"""Between two looks at whether the directory is still there."""
RESTART_S = 1.0
"""Between two beginnings, when something keeps ending the watcher."""
LINE_EVENTS = 200
"""In one line."""

ADDED, MODIFIED, DELETED = 1, 2, 3
TEMPORARY = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}")

Event = tuple[str, str]


class Watcher(Protocol):
    """What watchfiles gives; named here because it is imported late."""

    def watch(
        self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: None
    ) -> set[tuple[int, str]] | Literal["signal", "stop", "timeout"]:
        """Wait for changes."""

    def close(self) -> None:
        """End it."""


class Watch:
    """One watched directory.

    Args:
        root: Its absolute path, without links.
        recursive: Whether what is below counts.
    """

    def __init__(self, root: str, *, recursive: bool) -> None:
        self.root = root
        self._recursive = recursive
        self._identity = self._now()
        self._watcher = self._begin()
        self._told: set[str] = set()
        self._told_before: set[str] = set()
        self._found: set[str] = set()
        self._found_before: set[str] = set()
        self._fresh: list[str] = []
        self._fresh_before: list[str] = []

    def _begin(self) -> "Watcher":
        from watchfiles._rust_notify import RustNotify  # noqa: PLC0415

        try:
            return RustNotify([self.root], False, False, 0, self._recursive, False)
        except PermissionError:
            # Something below may not be read. Only then, because whoever asks for that
            # to be ignored is not told of the system's limit either.
            if not os.access(self.root, os.R_OK):
                raise
            return RustNotify([self.root], False, False, 0, self._recursive, True)

    def run(self) -> None:
        """Write down what happens until the directory is gone."""
        while True:
            changes = self._wait()
            if changes is None:
                say({"overflow": True})
                continue
            # Before the look at the directory, so that its last events are told.
            self._tell(list(self._events(changes)))
            if self._now() != self._identity:
                say({"gone": True})
                return

    def _wait(self) -> set[tuple[int, str]] | None:
        """Return the next changes, none after a while, or None when some were missed."""
        from watchfiles._rust_notify import (  # noqa: PLC0415
            WatchfilesRustInternalError,
        )

        try:
            found = self._watcher.watch(DEBOUNCE_MS, STEP_MS, LOOK_MS, None)
        except WatchfilesRustInternalError:
            time.sleep(RESTART_S)
            if self._now() == self._identity:
                old, self._watcher = self._watcher, self._begin()
                old.close()
            return None
        return set() if isinstance(found, str) else found

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.root)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _events(self, changes: Iterable[tuple[int, str]]) -> Iterator[Event]:
        """Put one moment's changes in an order in which they may have happened."""
        kinds = self._kinds(changes)
        for path in sorted(kinds, reverse=True):
            if DELETED in kinds[path]:
                if ADDED in kinds[path] and not self._exists(path):
                    yield "created", path
                for told in self._sets():
                    told.discard(path)
                yield "deleted", path
        for path in sorted(kinds):
            yield from self._rest(path, kinds[path])
        yield from self._look_again()

    def _kinds(self, changes: Iterable[tuple[int, str]]) -> dict[str, set[int]]:
        """Return what happened to each path."""
        kinds: dict[str, set[int]] = {}
        for kind, path in changes:
            if not TEMPORARY.fullmatch(os.path.basename(path)):
                kinds.setdefault(self._named(path), set()).add(kind)
        if kinds.get(""):
            # The directory's own end is told otherwise.
            kinds[""] &= {MODIFIED}
        return kinds

    def _rest(self, path: str, kinds: set[int]) -> Iterator[Event]:
        if ADDED in kinds and (DELETED not in kinds or self._exists(path)):
            yield from self._created(path)
        elif MODIFIED in kinds and DELETED not in kinds:
            yield "modified", path

    def _created(self, path: str) -> Iterator[Event]:
        if path in self._found or path in self._found_before:
            # Told already; but it may be yet another file by that name, just as new.
            yield "modified", path
        else:
            self._told.add(path)
            yield "created", path
        if self._recursive and is_directory(os.path.join(self.root, path)):
            yield from self._below(path)
            self._fresh.append(path)

    def _look_again(self) -> Iterator[Event]:
        """Look into the directories that were new a moment ago for the second time."""
        for path in self._fresh_before:
            yield from self._below(path)
        self._fresh_before, self._fresh = self._fresh, []
        self._told_before, self._told = self._told, set()
        self._found_before, self._found = self._found, set()

    def _is_told(self, path: str) -> bool:
        return any(path in told for told in self._sets())

    def _sets(self) -> tuple[set[str], ...]:
        return self._told, self._told_before, self._found, self._found_before

    def _below(self, path: str) -> Iterator[Event]:
        """Tell of what is in a new directory and was not told of yet."""
        open_ = [path]
        while open_:
            directory = open_.pop()
            for name, is_dir in listed(os.path.join(self.root, directory)):
                below = f"{directory}/{name}"
                if is_dir:
                    open_.append(below)
                if self._is_told(below):
                    continue
                self._found.add(below)
                if not TEMPORARY.fullmatch(name):
                    yield "created", below

    def _named(self, path: str) -> str:
        """Return a path's name below the directory, links resolved where they stay in."""
        if path == self.root:
            return ""
        parent, name = os.path.split(path)
        real = os.path.realpath(parent)
        inside = self.root.rstrip("/") + "/"
        if real == self.root:
            return name
        if not (real + "/").startswith(inside):
            real = parent
        return f"{real[len(inside) :]}/{name}"

    def _exists(self, path: str) -> bool:
        return os.path.lexists(os.path.join(self.root, path))

    def _tell(self, events: list[Event]) -> None:
        now = time.time()
        for first in range(0, len(events), LINE_EVENTS):
            some = events[first : first + LINE_EVENTS]
            say(
                {
                    "time": now,
                    "events": [(kind, printable(path)) for kind, path in some],
                }
            )


def is_directory(path: str) -> bool:
    """Tell whether a directory is there, and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def listed(directory: str) -> list[tuple[str, bool]]:
    """Return the entries of a directory, none of anything else, and which are such."""
    try:
        with os.scandir(directory) as entries:
            return [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
    except OSError:
        # It went meanwhile, or is not ours to read.
        return []


def printable(path: str) -> str:
    """Return a path with every byte that is not UTF-8 as U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def number_of(error: OSError | RuntimeError) -> int:
    """Return an error's number, which those that watchfiles makes lack."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    if isinstance(error, PermissionError):
        return errno.EACCES
    if "watch limit" in str(error):
        return errno.ENOSPC
    return errno.EMFILE if "Too many open files" in str(error) else errno.EIO


def say(line: dict[str, object]) -> None:
    """Write one line, whole."""
    left = memoryview(json.dumps(line).encode() + b"\n")
    while left:
        left = left[os.write(1, left) :]


def main(arguments: list[str]) -> int:
    """Run the program; return its exit code."""
    tty.setraw(1)
    try:
        watch = Watch(arguments[0], recursive=arguments[1] == "1")
    except (OSError, RuntimeError) as error:
        say({"error": [number_of(error), str(error)]})
        return 1
    say({"ready": True})
    watch.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
