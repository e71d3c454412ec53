"""The source files of a project, as far as a server has to be told of them."""

import os
from collections.abc import Iterator

SCANNED_MAX = 20_000
"""Entries looked at; a project of more is not walked to its end."""
SKIPPED = frozenset(
    {"node_modules", ".git", ".venv", "venv", "dist", "build", "__pycache__"}
)


def first_source(root: str, suffixes: tuple[str, ...]) -> str | None:
    """Return a source file, those nearest to the root first; blocks."""
    return next(_walk(root, suffixes), None)


def sources_of(root: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the source files, those nearest to the root first; blocks."""
    return list(_walk(root, suffixes))


def _walk(root: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    level, left = [root], SCANNED_MAX
    while level and left > 0:
        below: list[str] = []
        for directory in level:
            entries = _entries(directory)
            left -= len(entries)
            for entry in entries:
                if entry.name.endswith(suffixes) and entry.is_file():
                    yield entry.path
            below += [each.path for each in entries if _is_entered(each)]
            if left <= 0:
                return
        level = below


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(directory), key=lambda each: each.name)
    except OSError:
        return []


def _is_entered(entry: os.DirEntry[str]) -> bool:
    return entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False)
