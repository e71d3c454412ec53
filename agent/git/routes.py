"""The published routes of git (contract 20)."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from aiohttp import web

from agent import wire
from agent.git import branches, commits, remotes, settings_files, status, work_tree
from agent.git.access import given_credentials
from agent.git.clones import Clone, Wanted
from agent.git.credentials import check_credentials, check_site
from agent.git.models import (
    AddRemoteRequest,
    AddRequest,
    Branches,
    BranchRequest,
    CheckoutRequest,
    CloneRequest,
    CommitInfo,
    CommitRequest,
    CommitResponse,
    ConfigResponse,
    ConfigureUserRequest,
    CredentialsRequest,
    InitRepositoryRequest,
    PullRequest,
    PushRequest,
    Remote,
    Remotes,
    ResetRequest,
    RestoreRequest,
    SetConfigRequest,
    Status,
)
from agent.git.plain_store import keep_in_plain_text
from agent.git.registry import Repositories
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.web.clients import takes_new_fields
from agent.web.progress import tell_by_events, wants_events
from agent.web.routes import JSON_TYPE, Encoded, PositiveInt, Routes
from agent.web.server import DISPATCHER
from agent.web.stream import stream
from agent.wire import UNSET

routes = Routes("git")

REPOSITORIES = web.AppKey("repositories", Repositories)

Count = Annotated[int, msgspec.Meta(ge=0)]

LOCAL = (400, 403, 404, 409, 500)
DISTANT = (400, 401, 403, 404, 409, 422, 500, 502)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    repositories = Repositories(app[KEEPER], app[WORK_DIR], app[SETTINGS])
    app[REPOSITORIES] = repositories
    repositories.open()
    endings = app[DISPATCHER].on_drain
    endings.add(repositories.runner.end_soon)
    yield
    endings.discard(repositories.runner.end_soon)
    await repositories.aclose()


@routes.get("/git/status", errors=LOCAL)
async def get_status(request: web.Request, path: str) -> Encoded[Status]:
    """Tell what differs between HEAD, the index and the files, and from upstream.

    Untracked files are told one by one, ignored ones are not. A rename is a deleted and
    an added file.
    """
    return Encoded(
        await status.status(
            request.app[REPOSITORIES],
            path,
            with_new_fields=takes_new_fields(request.headers),
        )
    )


@routes.get("/git/history", errors=LOCAL)
async def get_commit_history(
    request: web.Request, path: str, limit: PositiveInt | None = None, skip: Count = 0
) -> list[CommitInfo] | web.StreamResponse:
    """List the commits from HEAD, newest first.

    All of them, unless `limit` and `skip`, which are our additions, ask for a part.
    """
    pieces = await commits.history(request.app[REPOSITORIES], path, limit, skip)
    async with contextlib.aclosing(pieces):
        return await stream(request, pieces, {"Content-Type": JSON_TYPE})


@routes.get("/git/branches", errors=LOCAL)
async def list_branches(request: web.Request, path: str) -> Branches:
    """List the local branches, and tell which one is checked out."""
    return await branches.branches(
        request.app[REPOSITORIES],
        path,
        with_new_fields=takes_new_fields(request.headers),
    )


@routes.post("/git/branches", status=201, errors=LOCAL)
async def create_branch(request: web.Request, body: BranchRequest) -> None:
    """Create a branch at HEAD and check it out; local changes come along."""
    await branches.create_branch(request.app[REPOSITORIES], body.path, body.name)


@routes.delete("/git/branches", status=204, errors=LOCAL)
async def delete_branch(request: web.Request, body: BranchRequest) -> None:
    """Delete a branch, merged or not; not the one that is checked out."""
    await branches.delete_branch(request.app[REPOSITORIES], body.path, body.name)


@routes.post("/git/checkout", errors=LOCAL)
async def checkout_branch(request: web.Request, body: CheckoutRequest) -> None:
    """Check out a branch, or any commit by hash, tag or `HEAD~1`.

    A branch that only a remote has becomes a local one that follows it. Nothing changes
    when local changes would be overwritten.
    """
    await branches.checkout(request.app[REPOSITORIES], body.path, body.branch)


@routes.post("/git/add", errors=LOCAL)
async def add_files(request: web.Request, body: AddRequest) -> None:
    """Stage files as they are, deletions included: all that are named, or none.

    Names are literal. A file that is named is staged although it may be ignored.
    """
    await work_tree.add(request.app[REPOSITORIES], body.path, body.files)


@routes.post("/git/commit", errors=LOCAL)
async def commit_changes(request: web.Request, body: CommitRequest) -> CommitResponse:
    """Commit the index, with the message as it is; no hook runs, nothing is signed."""
    made = await commits.commit(
        request.app[REPOSITORIES],
        body.path,
        body.message,
        (body.author, body.email),
        allow_empty=bool(body.allow_empty),
    )
    return CommitResponse(hash=made)


@routes.post("/git/clone", errors=DISTANT)
async def clone_repository(
    request: web.Request, body: CloneRequest
) -> web.StreamResponse | None:
    """Clone one branch and all tags of a repository; all of it, or nothing.

    A client that asks for `text/event-stream` is told of the progress: `progress`, and
    at the end `done` or `error`. The clone then ends with it when it leaves; else it goes
    on. The credentials are shown to the host of the address only, over https, or over
    http to this machine, and are kept nowhere.
    """
    repositories = request.app[REPOSITORIES]
    wanted = Wanted(
        url=body.url,
        path=body.path,
        branch=body.branch or "",
        commit_id=body.commit_id or "",
        credentials=given_credentials(body.username, body.password),
        skip_tls=bool(body.insecure_skip_tls),
        depth=body.depth or 0,
    )
    clone = Clone(repositories, wanted)
    # Before the first event, so that a bad request is an ordinary failure.
    await clone.check()
    if wants_events(request):
        return await tell_by_events(request, clone.make)
    await clone.make()
    return None


@routes.post("/git/pull", errors=DISTANT)
async def pull_changes(request: web.Request, body: PullRequest) -> None:
    """Bring the current branch forward to what it follows; never merge or rebase."""
    await remotes.pull(
        request.app[REPOSITORIES],
        body.path,
        given_credentials(body.username, body.password),
        body.remote or "",
        body.branch or "",
    )


@routes.post("/git/push", errors=DISTANT)
async def push_changes(request: web.Request, body: PushRequest) -> None:
    """Push a branch to its namesake on a remote; never by force."""
    await remotes.push(
        request.app[REPOSITORIES],
        body.path,
        given_credentials(body.username, body.password),
        body.remote or "",
        body.branch or "",
        bool(body.set_upstream),
    )


@routes.post("/git/init", status=201, errors=LOCAL)
async def init_repository(request: web.Request, body: InitRepositoryRequest) -> None:
    """Make an empty repository, with the directories above it."""
    await commits.init(
        request.app[REPOSITORIES],
        body.path,
        bare=bool(body.bare),
        initial_branch=body.initial_branch or "",
    )


@routes.post("/git/reset", errors=LOCAL)
async def reset_changes(request: web.Request, body: ResetRequest) -> None:
    """Move HEAD, the index and the files to a commit, by mode.

    With `files` only those are reset, and HEAD stays; that takes mode mixed or hard.
    """
    await work_tree.reset(
        request.app[REPOSITORIES],
        body.path,
        body.mode or "mixed",
        body.target,
        body.files or [],
    )


@routes.post("/git/restore", errors=LOCAL)
async def restore_files(request: web.Request, body: RestoreRequest) -> None:
    """Take files back from the index or a commit: all that are named, or none."""
    await work_tree.restore(
        request.app[REPOSITORIES],
        body.path,
        body.files,
        body.staged,
        body.worktree,
        body.source,
    )


@routes.get("/git/remotes", errors=LOCAL)
async def list_remotes(request: web.Request, path: str) -> Remotes:
    """List the remotes; passwords in their addresses are left out."""
    return await remotes.remotes(request.app[REPOSITORIES], path)


@routes.post("/git/remotes", status=201, errors=DISTANT)
async def add_remote(request: web.Request, body: AddRemoteRequest) -> None:
    """Add a remote, and fetch from it if asked to.

    A password in the address is kept as `/git/credentials` keeps it, not in the
    repository.
    """
    await remotes.add_remote(
        request.app[REPOSITORIES],
        body.path,
        Remote(name=body.name, url=body.url),
        overwrite=bool(body.overwrite),
        fetch=bool(body.fetch),
    )


@routes.get("/git/config", errors=LOCAL)
async def get_config(
    request: web.Request, key: str, scope: str | None = None, path: str | None = None
) -> ConfigResponse:
    """Tell the value of a key in one scope: global, local (with `path`) or system."""
    value = await settings_files.get_value(request.app[REPOSITORIES], key, scope, path)
    return ConfigResponse(value=UNSET if value is None else wire.printable(value))


@routes.post("/git/config", errors=LOCAL)
async def set_config(request: web.Request, body: SetConfigRequest) -> None:
    """Set a key in one scope; it has this one value afterwards."""
    await settings_files.set_values(
        request.app[REPOSITORIES], {body.key: body.value}, body.scope, body.path
    )


@routes.post("/git/config/user", errors=LOCAL)
async def configure_user(request: web.Request, body: ConfigureUserRequest) -> None:
    """Set `user.name` and `user.email` in one scope."""
    await settings_files.set_values(
        request.app[REPOSITORIES],
        {"user.name": body.name, "user.email": body.email},
        body.scope,
        body.path,
    )


@routes.post("/git/credentials", errors=(400, 413))
async def authenticate(request: web.Request, body: CredentialsRequest) -> None:
    """Keep credentials for a host; requests to it that bring none are given them.

    They are kept in the agent's memory for a time, and not on disk, unless the setting
    `git_credentials` is `store`: then git's plain-text store has them, for all programs.
    """
    repositories = request.app[REPOSITORIES]
    site = check_site(body.protocol or "https", body.host or "github.com")
    credentials = check_credentials(body.username, body.password)
    if repositories.settings.git_credentials == "store":
        await keep_in_plain_text(repositories, site, credentials)
    else:
        await repositories.store.put(site, credentials)
