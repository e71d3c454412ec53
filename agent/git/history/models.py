"""The shapes of differences, commits and blame on the wire."""

from typing import Literal

from agent.wire import UNSET, Model, UnsetType

FileChange = Literal[
    "Added",
    "Copied",
    "Deleted",
    "Modified",
    "Renamed",
    "Type changed",
    "Updated but unmerged",
]
"""What happened to a file, in the words of the status route where it has one."""


class FileDifference(Model, frozen=True, kw_only=True):
    """One file of a difference; a binary one has no line counts."""

    path: str
    change: FileChange
    old_mode: str
    new_mode: str
    binary: bool
    additions: int
    deletions: int
    previous_path: str | UnsetType = UNSET


class Difference(Model, frozen=True, kw_only=True):
    """The files that differ, and how, in unified form.

    `truncated`: `diff` was cut at the size asked for; `files` is always complete.
    """

    files: list[FileDifference]
    diff: str
    truncated: bool


class Person(Model, frozen=True, kw_only=True):
    """Who did something to a commit, and when (RFC 3339, with the person's offset)."""

    name: str
    email: str
    timestamp: str


class Commit(Model, frozen=True, kw_only=True):
    """One commit."""

    hash: str
    parents: list[str]
    author: Person
    committer: Person
    message: str


class ShownCommit(Difference, frozen=True, kw_only=True):
    """One commit, and its difference to its first parent."""

    commit: Commit


class BlamedLine(Model, frozen=True, kw_only=True):
    """One line, and the commit that gave it its form."""

    line: int
    original_line: int
    hash: str
    path: str
    content: str


class BlamedCommit(Model, frozen=True, kw_only=True):
    """What a line's commit says; lines not committed yet have a hash of zeros."""

    author: str
    email: str
    timestamp: str
    summary: str


class Blame(Model, frozen=True, kw_only=True):
    """Who wrote which line; `truncated`: there are more lines than one answer has."""

    lines: list[BlamedLine]
    commits: dict[str, BlamedCommit]
    truncated: bool
