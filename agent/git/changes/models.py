"""The shapes of the routes that change a repository, on the wire."""

from typing import Literal

from msgspec import field

from agent.wire import UNSET, Model, SnakeModel, UnsetType

Step = Literal["start", "continue", "abort", "skip"]
"""Begin, or say what becomes of one that was left with its conflicts."""


class Identity(SnakeModel, frozen=True, kw_only=True):
    """Who commits; with one of the two missing, git's own configuration says it."""

    author: str | None = None
    email: str | None = None


class FetchRequest(SnakeModel, frozen=True, kw_only=True):
    """What to fetch; credentials count when both are there."""

    path: str
    remote: str = "origin"
    branch: str | None = None
    tags: bool = False
    prune: bool = False
    depth: int | None = None
    username: str | None = None
    password: str | None = None


class RefUpdate(Model, frozen=True, kw_only=True):
    """A reference that a fetch made, moved (both hashes) or removed."""

    ref: str
    old_hash: str | UnsetType = UNSET
    new_hash: str | UnsetType = UNSET


class FetchResult(Model, frozen=True, kw_only=True):
    """What a fetch changed; of very many references the first ones are named."""

    updates: list[RefUpdate]
    updates_count: int


class MergeRequest(Identity, frozen=True, kw_only=True):
    """What to merge into the current branch."""

    path: str
    revision: str = ""
    step: Step = "start"
    message: str | None = None
    fast_forward: Literal["allow", "only", "never"] = "allow"
    squash: bool = False
    keep_conflicts: bool = False


class RebaseRequest(Identity, frozen=True, kw_only=True):
    """Where to put the current branch's commits."""

    path: str
    upstream: str = ""
    onto: str | None = None
    step: Step = "start"
    keep_conflicts: bool = False


class CherryPickRequest(Identity, frozen=True, kw_only=True):
    """Which commits to repeat on the current branch, in their order."""

    path: str
    revisions: list[str] = field(default_factory=list)
    step: Step = "start"
    mainline: int | None = None
    no_commit: bool = False
    keep_conflicts: bool = False


class Head(Model, frozen=True, kw_only=True):
    """Where the current branch is afterwards, and whether it has moved."""

    hash: str
    changed: bool


class StashRequest(Identity, frozen=True, kw_only=True):
    """What to put away."""

    path: str
    message: str | None = None
    include_untracked: bool = False
    keep_index: bool = False


class StashEntryRequest(SnakeModel, frozen=True, kw_only=True):
    """Which of the stash's entries; 0 is the newest."""

    path: str
    index: int = 0


class StashApplyRequest(StashEntryRequest, frozen=True, kw_only=True):
    """Which entry to bring back, and how."""

    restore_index: bool = False
    keep_conflicts: bool = False


class StashEntry(Model, frozen=True, kw_only=True):
    """One entry of the stash."""

    index: int
    hash: str
    message: str
    timestamp: str


class StashList(Model, frozen=True, kw_only=True):
    """The stash, newest first."""

    entries: list[StashEntry]


class Stashed(Model, frozen=True, kw_only=True):
    """The commit of a new entry; none when there was nothing to put away."""

    hash: str | UnsetType = UNSET


class TagRequest(Identity, frozen=True, kw_only=True):
    """A new tag; with a message it is an annotated one."""

    path: str
    name: str
    revision: str = "HEAD"
    message: str | None = None
    force: bool = False


class TagNameRequest(SnakeModel, frozen=True, kw_only=True):
    """Which tag."""

    path: str
    name: str


class Tag(Model, frozen=True, kw_only=True):
    """A tag, and the object that it leads to; an annotated one says more."""

    name: str
    hash: str
    annotated: bool
    message: str | UnsetType = UNSET
    tagger: str | UnsetType = UNSET
    email: str | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET


class TagList(Model, frozen=True, kw_only=True):
    """The tags of a repository, by name."""

    tags: list[Tag]


class WorktreeRequest(SnakeModel, frozen=True, kw_only=True):
    """A new worktree: of a branch, of a new one, or of a revision without a branch."""

    path: str
    worktree: str
    branch: str | None = None
    new_branch: str | None = None
    revision: str | None = None


class WorktreeRemoval(SnakeModel, frozen=True, kw_only=True):
    """Which worktree; one with changes only by force."""

    path: str
    worktree: str
    force: bool = False


class Worktree(Model, frozen=True, kw_only=True):
    """One worktree; the first of a list is the repository's own."""

    path: str
    bare: bool
    detached: bool
    locked: bool
    prunable: bool
    hash: str | UnsetType = UNSET
    branch: str | UnsetType = UNSET


class WorktreeList(Model, frozen=True, kw_only=True):
    """The worktrees of a repository."""

    worktrees: list[Worktree]
