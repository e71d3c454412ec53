"""The wire shapes of the git routes (contract 20)."""

from typing import Annotated

from msgspec import Meta

from agent import wire
from agent.wire import UNSET, UnsetType

Text = Annotated[str, Meta(min_length=1)]
"""A string that has to say something (contract 00 §3)."""


class Request(wire.SnakeModel, frozen=True, kw_only=True):
    """Base of the request bodies."""

    path: Text
    """The root of the repository."""


class AddRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/add`."""

    files: list[str]
    """Relative to the root; `.` is everything."""


class BranchRequest(Request, frozen=True, kw_only=True):
    """The body of `POST` and `DELETE /git/branches`."""

    name: Text


class CheckoutRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/checkout`."""

    branch: Text
    """A branch, or anything that names a commit."""


class CloneRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/clone`."""

    url: Text
    branch: str | None = None
    commit_id: str | None = None
    username: str | None = None
    password: str | None = None
    insecure_skip_tls: bool | None = None
    depth: int | None = None


class CommitRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/commit`."""

    message: Text
    author: Text
    email: Text
    allow_empty: bool | None = None


class CommitResponse(wire.Model, frozen=True, kw_only=True):
    """The answer of `/git/commit`."""

    hash: str


class SetConfigRequest(wire.SnakeModel, frozen=True, kw_only=True):
    """The body of `POST /git/config`."""

    key: Text
    value: str
    scope: str | None = None
    path: str | None = None


class ConfigResponse(wire.Model, frozen=True, kw_only=True):
    """The answer of `GET /git/config`; without `value` when the key is not set."""

    value: str | UnsetType = UNSET


class ConfigureUserRequest(wire.SnakeModel, frozen=True, kw_only=True):
    """The body of `/git/config/user`."""

    name: Text
    email: Text
    scope: str | None = None
    path: str | None = None


class CredentialsRequest(wire.SnakeModel, frozen=True, kw_only=True):
    """The body of `/git/credentials`."""

    username: Text
    password: Text
    host: str | None = None
    """`github.com` when not given."""
    protocol: str | None = None
    """`https` when not given."""


class InitRepositoryRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/init`."""

    bare: bool | None = None
    initial_branch: str | None = None


class PullRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/pull`."""

    username: str | None = None
    password: str | None = None
    branch: str | None = None
    remote: str | None = None


class PushRequest(PullRequest, frozen=True, kw_only=True):
    """The body of `/git/push`."""

    set_upstream: bool | None = None


class AddRemoteRequest(Request, frozen=True, kw_only=True):
    """The body of `POST /git/remotes`."""

    name: Text
    url: Text
    fetch: bool | None = None
    overwrite: bool | None = None


class ResetRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/reset`."""

    mode: str | None = None
    """soft, mixed (when not given), hard, merge or keep."""
    target: str | None = None
    files: list[str] | None = None


class RestoreRequest(Request, frozen=True, kw_only=True):
    """The body of `/git/restore`."""

    files: list[str]
    staged: bool | None = None
    worktree: bool | None = None
    source: str | None = None


class FileStatus(wire.Model, frozen=True, kw_only=True):
    """One file that differs; `staging` and `worktree` are words such as `Modified`."""

    name: str
    staging: str
    worktree: str
    extra: str = ""
    """The previous name of a renamed file; renames are told as two files."""


class Status(wire.Model, frozen=True, kw_only=True):
    """The answer of `/git/status`."""

    current_branch: str
    """`HEAD` when no branch is checked out."""
    file_status: list[FileStatus]
    branch_published: bool
    ahead: int
    behind: int
    detached: bool | UnsetType = UNSET
    upstream: str | UnsetType = UNSET


class Branches(wire.Model, frozen=True, kw_only=True):
    """The answer of `GET /git/branches`."""

    branches: list[str]
    current: str | UnsetType = UNSET
    """Absent when no branch is checked out."""


class CommitInfo(wire.Model, frozen=True, kw_only=True):
    """One commit of the history."""

    hash: str
    author: str
    email: str
    message: str
    timestamp: str
    """When it was written, in the author's own time zone."""


class Remote(wire.Model, frozen=True, kw_only=True):
    """One remote; a password in its address is left out."""

    name: str
    url: str


class Remotes(wire.Model, frozen=True, kw_only=True):
    """The answer of `GET /git/remotes`."""

    remotes: list[Remote]
