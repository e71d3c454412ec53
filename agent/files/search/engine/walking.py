"""Walks a tree: a directory, then what is in it, names in the order of their bytes.

What cannot be read, or is gone by the time it is looked at, is left out; links are told
and not followed, but for the root.
"""

import os
from _collections_abc import Iterable, Iterator

from agent.files.search.engine.globs import RawTest, any_test
from agent.files.search.engine.request import Request, order, raw

Entry = tuple[bytes, bytes, "os.DirEntry[bytes]"]
"""Path below the root, name, and what the directory says of it."""


def walk(request: Request, keep: RawTest | None = None) -> Iterator[Entry]:
    """Go through the entries below the root that the request wants to see.

    Args:
        request: What is left out, and what the caller has already.
        keep: Entries with other names need not come, unless they are directories.
    """
    seen = _Seen(request)
    root = raw(request.root) + b"/"
    stack = [(b"", _entries(root, keep))]
    seen.enter(b"")
    while stack:
        prefix, entries = stack[-1]
        for name, entry in entries:
            path = prefix + name
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
            except OSError:
                is_directory = False
            if seen.is_picky:
                told, is_directory = seen.judge(path, name, is_directory=is_directory)
                if told:
                    yield path, name, entry
            else:
                yield path, name, entry
            if is_directory:
                below = path + b"/"
                stack.append((below, _entries(root + below, keep)))
                seen.enter(below)
                break
        else:
            stack.pop()
            seen.leave()


class _Seen:
    """What of a tree a request wants to see.

    Attributes:
        is_picky: Whether that is anything less than all.
    """

    def __init__(self, request: Request) -> None:
        self._excluded = any_test(request.exclude)
        self._ignoring = None
        if request.gitignore:
            # Only here, for the time that it takes.
            from agent.files.search.engine.ignoring import (  # noqa: PLC0415
                Ignoring,
            )

            self._ignoring = Ignoring(request.root)
        self._after = raw(request.after[0]) if request.after else b""
        self._after_order = order(self._after)
        self.is_picky = bool(self._excluded or self._ignoring or self._after)

    def enter(self, prefix: bytes) -> None:
        """Go into a directory."""
        if self._ignoring:
            self._ignoring.enter(prefix)

    def leave(self) -> None:
        """Go back to the one above."""
        if self._ignoring:
            self._ignoring.leave()

    def judge(
        self, path: bytes, name: bytes, *, is_directory: bool
    ) -> tuple[bool, bool]:
        """Tell whether an entry is told, and whether the walk goes into it."""
        if self._excluded and self._excluded(name):
            return False, False
        if self._ignoring and self._ignoring.ignores(
            path, name, is_directory=is_directory
        ):
            return False, False
        if self._after and order(path) < self._after_order:
            # The caller has it; the place to go on from may be below it.
            return False, is_directory and self._after.startswith(path + b"/")
        return True, is_directory


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
    directory: bytes, keep: RawTest | None
) -> Iterator[tuple[bytes, "os.DirEntry[bytes]"]]:
    """Return what is in a directory, sorted; nothing when it cannot be read."""
    try:
        with os.scandir(directory) as scan:
            found = [(entry.name, entry) for entry in _kept(scan, keep)]
    except OSError:
        return iter(())
    # No two names are the same, so entries are never compared.
    found.sort()
    return iter(found)


def _kept(
    scan: "Iterable[os.DirEntry[bytes]]", keep: RawTest | None
) -> "Iterable[os.DirEntry[bytes]]":
    if keep is None:
        return scan
    found = list(scan)
    try:
        return [
            entry
            for entry in found
            if keep(entry.name) or entry.is_dir(follow_symlinks=False)
        ]
    except OSError:
        # One of them is gone; the quick way does not say which.
        return [entry for entry in found if keep(entry.name) or _is_directory(entry)]
