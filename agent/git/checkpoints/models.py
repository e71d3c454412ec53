"""The shapes of checkpoints on the wire."""

from typing import Literal

from msgspec import field

from agent.wire import UNSET, Model, SnakeModel, UnsetType

Reason = Literal["unreadable", "too large"]
"""Why an entry is not in a checkpoint although nothing ignores it."""

Action = Literal["write", "delete", "mode", "create directory", "remove directory"]
"""What a restore does to one entry."""


class CheckpointRequest(SnakeModel, frozen=True, kw_only=True):
    """What a new checkpoint is called, and whether it takes what is ignored, too."""

    message: str = ""
    include_ignored: bool = False


class SkippedEntry(Model, frozen=True, kw_only=True):
    """An entry that is not in a checkpoint, and that no restore touches."""

    path: str
    reason: Reason


class Checkpoint(Model, frozen=True, kw_only=True):
    """One state of a directory.

    `files` and `bytes` are those of the whole state; `filesChanged` counts what differs
    from the checkpoint before it. Of what was skipped the first few are named.
    """

    id: str
    created_at: str
    message: str
    include_ignored: bool
    files: int
    bytes: int
    files_changed: int
    skipped: list[SkippedEntry]
    skipped_count: int
    restored: str | UnsetType = UNSET
    """The checkpoint for whose restore this one was taken."""


class InterruptedRestore(Model, frozen=True, kw_only=True):
    """A restore that did not end: ask for it again, or go back to `before`."""

    id: str
    before: str


class CheckpointList(Model, frozen=True, kw_only=True):
    """The checkpoints of a directory, newest first."""

    checkpoints: list[Checkpoint]
    interrupted_restore: InterruptedRestore | UnsetType = UNSET


class CheckpointRestoreRequest(SnakeModel, frozen=True, kw_only=True):
    """How to restore: only `paths` (files or directories), only pretending."""

    paths: list[str] = field(default_factory=list)
    dry_run: bool = False


class RestoredEntry(Model, frozen=True, kw_only=True):
    """What a restore did, or would do, to one entry."""

    path: str
    action: Action


class RestoreResult(Model, frozen=True, kw_only=True):
    """What a restore did; `before` is the checkpoint that takes it back."""

    changes: list[RestoredEntry]
    changes_count: int
    before: str | UnsetType = UNSET
