"""Watches one tree and writes down what changes: a process of its own.

    python -m agent.files.watch.program <directory> <0 or 1: what is below it, too>

In a process of its own because watchfiles holds the interpreter while it walks a tree,
a third of a second for thirty thousand entries. It writes lines of JSON to its standard
output, a terminal in raw mode (the keeper keeps a bounded ring of that, and no file):

    {"ready": true}                     everything from here on is noticed
    {"error": [errno, message]}         it cannot be watched; the last line
    {"time": 1.5, "events": [["created", "a/b", ""], ["moved", "c", "a/b"], ...]}
    {"overflow": true}                  something was missed
    {"gone": true}                      the directory is not there any more; the last line

What watchfiles says becomes events in `changes`. Two things make it begin anew, and say
that something was missed: a name that is not UTF-8, which ends it, and a queue of the
system that was too short (`kernel_queue`), for a directory that was made meanwhile would
never be watched.
"""

import errno
import json
import os
import sys
import time
import tty
from typing import Literal, Protocol

from agent.files.watch.changes import Changes, Event
from agent.files.watch.kernel_queue import KernelQueue, queues
from agent.files.watch.known import Known

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
        self._watcher, self._queue = self._begin()
        # After the watcher began, so that nothing happens in between.
        self._changes = Changes(
            root,
            self._identity[0] if self._identity else 0,
            recursive=recursive,
            known=Known(root, recursive=recursive),
        )

    def _begin(self) -> "tuple[Watcher, KernelQueue | None]":
        before = queues()
        watcher = self._watch()
        new = queues() - before
        # None, or more: not as we know it, so that a drop stays unnoticed.
        return watcher, KernelQueue(new.pop()) if len(new) == 1 else None

    def _watch(self) -> "Watcher":
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
            # Before the look at the directory, so that its last events are told.
            if changes is None:
                self._begin_anew()
                say({"overflow": True})
            else:
                self._tell(list(self._changes.events(changes)))
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
            return None
        if self._queue and self._queue.has_overflowed():
            return None
        return set() if isinstance(found, str) else found

    def _begin_anew(self) -> None:
        time.sleep(RESTART_S)
        if self._now() != self._identity:
            return
        old, queue = self._watcher, self._queue
        self._watcher, self._queue = self._begin()
        self._changes.begin()
        if queue:
            queue.close()
        old.close()

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.root)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _tell(self, events: list[Event]) -> None:
        now = time.time()
        for first in range(0, len(events), LINE_EVENTS):
            some = events[first : first + LINE_EVENTS]
            say(
                {
                    "time": now,
                    "events": [
                        (kind, printable(path), printable(source))
                        for kind, path, source in some
                    ],
                }
            )


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
        say({"ready": True})
        watch.run()
    except (OSError, RuntimeError) as error:
        say({"error": [number_of(error), str(error)]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
