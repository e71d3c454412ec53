"""The routes that change a repository beyond the published ones."""

from aiohttp import web

from agent import wire
from agent.errors import ConflictError
from agent.git.changes import merges, stashes, tags, worktrees
from agent.git.changes.conflicts import MERGE_CONFLICT, Conflicts
from agent.git.changes.fetching import Fetch
from agent.git.changes.models import (
    CherryPickRequest,
    FetchRequest,
    FetchResult,
    Head,
    MergeRequest,
    RebaseRequest,
    StashApplyRequest,
    Stashed,
    StashEntryRequest,
    StashList,
    StashRequest,
    TagList,
    TagNameRequest,
    TagRequest,
    WorktreeList,
    WorktreeRemoval,
    WorktreeRequest,
)
from agent.git.routes import DISTANT, LOCAL, REPOSITORIES
from agent.web.errors import envelope, failure_of
from agent.web.progress import tell_by_events, wants_events
from agent.web.routes import JSON_TYPE, Routes

routes = Routes("git")


@routes.post("/git/fetch", errors=DISTANT)
async def fetch_changes(
    request: web.Request, body: FetchRequest
) -> FetchResult | web.StreamResponse:
    """Fetch from a remote, and tell which references that has changed.

    A client that asks for `text/event-stream` is told of the progress: `progress`, and
    at the end `done`, with the ordinary answer, or `error`; the fetch ends when such
    a client leaves.
    """
    fetch = Fetch(request.app[REPOSITORIES], body)
    # Before the first event, so that a bad request is an ordinary failure.
    await fetch.check()
    if wants_events(request):
        return await tell_by_events(request, fetch.tell)
    return await fetch.make()


@routes.post("/git/merge", errors=LOCAL)
async def merge_revision(
    request: web.Request, body: MergeRequest
) -> Head | web.StreamResponse:
    """Merge a revision into the current branch.

    Conflicts are 409 with their files in `conflicts`, and nothing has changed; with
    `keep_conflicts` they are left to be resolved, until `step` continues or aborts.
    """
    return _answer(request, await merges.merge(request.app[REPOSITORIES], body))


@routes.post("/git/rebase", errors=LOCAL)
async def rebase_branch(
    request: web.Request, body: RebaseRequest
) -> Head | web.StreamResponse:
    """Put the current branch's commits on top of `upstream`, or of `onto`.

    Conflicts are told, and kept or taken back, as a merge's.
    """
    return _answer(request, await merges.rebase(request.app[REPOSITORIES], body))


@routes.post("/git/cherry-pick", errors=LOCAL)
async def cherry_pick_commits(
    request: web.Request, body: CherryPickRequest
) -> Head | web.StreamResponse:
    """Repeat commits on the current branch, in the order given.

    Conflicts are told, and kept or taken back, as a merge's.
    """
    return _answer(request, await merges.cherry_pick(request.app[REPOSITORIES], body))


@routes.get("/git/stash", errors=LOCAL)
async def list_stash(request: web.Request, path: str) -> StashList:
    """List what is put away, newest first."""
    return await stashes.stashes(request.app[REPOSITORIES], path)


@routes.post("/git/stash", status=201, errors=LOCAL)
async def push_stash(request: web.Request, body: StashRequest) -> Stashed:
    """Put local changes away; `hash` is missing when there were none."""
    return await stashes.push(request.app[REPOSITORIES], body)


@routes.post("/git/stash/apply", errors=LOCAL)
async def apply_stash(
    request: web.Request, body: StashApplyRequest
) -> web.StreamResponse | None:
    """Bring an entry of the stash back, and keep it there.

    Conflicts are 409 with their files in `conflicts`, and nothing has changed, unless
    `keep_conflicts` is true.
    """
    found = await stashes.apply(request.app[REPOSITORIES], body, drops=False)
    return None if found is None else _conflict(request, found)


@routes.post("/git/stash/pop", errors=LOCAL)
async def pop_stash(
    request: web.Request, body: StashApplyRequest
) -> web.StreamResponse | None:
    """Bring an entry of the stash back and forget it; one with conflicts stays."""
    found = await stashes.apply(request.app[REPOSITORIES], body, drops=True)
    return None if found is None else _conflict(request, found)


@routes.delete("/git/stash", status=204, errors=LOCAL)
async def drop_stash(request: web.Request, body: StashEntryRequest) -> None:
    """Forget an entry of the stash."""
    await stashes.drop(request.app[REPOSITORIES], body)


@routes.get("/git/tags", errors=LOCAL)
async def list_tags(request: web.Request, path: str) -> TagList:
    """List the tags, by name, and what they lead to."""
    return await tags.tags(request.app[REPOSITORIES], path)


@routes.post("/git/tags", status=201, errors=LOCAL)
async def create_tag(request: web.Request, body: TagRequest) -> None:
    """Make a tag of a revision; with a message it is annotated. Nothing is signed."""
    await tags.create_tag(request.app[REPOSITORIES], body)


@routes.delete("/git/tags", status=204, errors=LOCAL)
async def delete_tag(request: web.Request, body: TagNameRequest) -> None:
    """Delete a tag."""
    await tags.delete_tag(request.app[REPOSITORIES], body)


@routes.get("/git/worktrees", errors=LOCAL)
async def list_worktrees(request: web.Request, path: str) -> WorktreeList:
    """List the worktrees, the repository's own first."""
    return await worktrees.worktrees(request.app[REPOSITORIES], path)


@routes.post("/git/worktrees", status=201, errors=LOCAL)
async def add_worktree(request: web.Request, body: WorktreeRequest) -> None:
    """Make a worktree of `branch`, of a `new_branch`, or detached at `revision`."""
    await worktrees.add_worktree(request.app[REPOSITORIES], body)


@routes.delete("/git/worktrees", status=204, errors=LOCAL)
async def remove_worktree(request: web.Request, body: WorktreeRemoval) -> None:
    """Remove a worktree with its files; one with changes in it only by force."""
    await worktrees.remove_worktree(request.app[REPOSITORIES], body)


def _answer(
    request: web.Request, outcome: Head | Conflicts
) -> Head | web.StreamResponse:
    if isinstance(outcome, Conflicts):
        return _conflict(request, outcome)
    return outcome


def _conflict(request: web.Request, found: Conflicts) -> web.Response:
    """Return the envelope of a conflict, with the files and whether they are kept."""
    failure = failure_of(ConflictError(found.message, code=MERGE_CONFLICT))
    body = {
        **envelope(failure, path=request.path, method=request.method),
        "conflicts": found.files,
        "kept": found.kept,
    }
    return web.Response(
        status=failure.status,
        body=wire.encode(body),
        headers={"Content-Type": JSON_TYPE},
    )
