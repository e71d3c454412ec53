"""Walks a tree: a directory, then what is in it, names in the order of their bytes.

What cannot be read, or is gone by the time it is looked at, is left out; links are told
and not followed, but for the root.
"""

import os
from collections.abc import Iterator

from agent.files.search.engine.globs import any_test
from agent.files.search.engine.ignoring import Ignoring
from agent.files.search.engine.request import Request, order, raw

Entry = tuple[bytes, bytes, "os.DirEntry[bytes]"]
"""Path below the root, name, and what the directory says of it."""


def walk(request: Request) -> Iterator[Entry]:
    """Go through all entries below the root that the request wants to see."""
    seen = _Seen(request)
    stack = [_entries(raw(request.root) + b"/", b"")]
    seen.enter(b"")
    while stack:
        for prefix, entry in stack[-1]:
            path = prefix + entry.name
            is_directory = _is_directory(entry)
            if seen.is_left_out(path, entry.name, is_directory=is_directory):
                continue
            if not seen.is_before(path):
                yield path, entry.name, entry
            elif not (is_directory and seen.leads_on(path)):
                continue
            if is_directory:
                stack.append(_entries(entry.path + b"/", path + b"/"))
                seen.enter(path + b"/")
                break
        else:
            stack.pop()
            seen.leave()


class _Seen:
    """What of a tree a request wants to see."""

    def __init__(self, request: Request) -> None:
        self._excluded = any_test(request.exclude)
        self._ignoring = Ignoring(request.root) if request.gitignore else None
        self._after = raw(request.after[0]) if request.after else b""
        self._after_order = order(self._after)

    def enter(self, prefix: bytes) -> None:
        """Go into a directory."""
        if self._ignoring:
            self._ignoring.enter(prefix)

    def leave(self) -> None:
        """Go back to the one above."""
        if self._ignoring:
            self._ignoring.leave()

    def is_left_out(self, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Tell whether an entry, and all below it, is left out."""
        if self._excluded and self._excluded(os.fsdecode(name)):
            return True
        return self._ignoring is not None and self._ignoring.ignores(
            path, name, is_directory=is_directory
        )

    def is_before(self, path: bytes) -> bool:
        """Tell whether the caller has what comes with this entry already."""
        return bool(self._after) and order(path) < self._after_order

    def leads_on(self, path: bytes) -> bool:
        """Tell whether the place to go on from is below this directory."""
        return self._after.startswith(path + b"/")


def is_regular(entry: "os.DirEntry[bytes]") -> bool:
    """Tell whether an entry is a regular file itself, and not a link to one."""
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return False


def _is_directory(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _entries(
    directory: bytes, prefix: bytes
) -> Iterator[tuple[bytes, "os.DirEntry[bytes]"]]:
    """Return what is in a directory, sorted; nothing when it cannot be read."""
    try:
        with os.scandir(directory) as scan:
            found = sorted(scan, key=_name)
    except OSError:
        return iter(())
    return iter([(prefix, entry) for entry in found])


def _name(entry: "os.DirEntry[bytes]") -> bytes:
    return entry.name
