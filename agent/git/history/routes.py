"""The routes that look at history: diff, show, blame."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from aiohttp import hdrs, web

from agent.git.history.blame import BlameRequest, blame
from agent.git.history.commits import show, show_file
from agent.git.history.differences import (
    TEXT_MAX_BYTES,
    Differences,
    Form,
    Found,
    Wanted,
)
from agent.git.history.models import Blame, Difference, ShownCommit
from agent.git.routes import LOCAL, REPOSITORIES
from agent.registry import SETTINGS
from agent.web.routes import JSON_TYPE, PositiveInt, Routes
from agent.web.stream import stream

routes = Routes("git")

DIFFERENCES = web.AppKey("differences", Differences)
"""Finds differences."""

DIFF_TYPE = "text/x-diff"


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with; there is nothing to close."""
    scratch_dir = f"{app[SETTINGS].state_dir}/git-scratch"
    differences = Differences(app[REPOSITORIES], scratch_dir)
    app[DIFFERENCES] = differences
    await differences.open()
    yield


@routes.get("/git/diff", errors=LOCAL)
async def get_diff(  # noqa: PLR0913, PLR0917 - its parameters on the wire
    request: web.Request,
    path: str,
    from_: str | None = None,
    to: str | None = None,
    staged: bool = False,
    merge_base: bool = False,
    untracked: bool = False,
    file: str | None = None,
    context: int = 3,
    renames: bool = True,
    max_bytes: PositiveInt = TEXT_MAX_BYTES,
) -> Difference | web.StreamResponse:
    """Tell what differs: the files with their line counts, and the unified text.

    Without revisions between the index and the files, or, `staged`, HEAD and the index;
    with `from`, between that and the files or the index; with `to` as well, between the
    two. `mergeBase` begins where the other side has left `from`. `untracked` tells of
    new files as well. A client that accepts `text/x-diff` gets the text alone, all of it
    and byte by byte; in JSON it is cut after `maxBytes`.
    """
    wanted = Wanted(
        old=from_, new=to, staged=staged, merge_base=merge_base, untracked=untracked
    )
    form = Form(context=context, renames=renames, file=file)
    async with request.app[DIFFERENCES].find(path, wanted, form) as found:
        return await send_difference(request, found, max_bytes)


@routes.get("/git/show", errors=LOCAL)
async def show_commit(  # noqa: PLR0913, PLR0917 - its parameters on the wire
    request: web.Request,
    path: str,
    revision: str = "HEAD",
    file: str | None = None,
    context: int = 3,
    renames: bool = True,
    max_bytes: PositiveInt = TEXT_MAX_BYTES,
) -> ShownCommit | web.StreamResponse:
    """Tell of one commit, and what it changed against its first parent.

    With `file` the answer is that file as it was in the commit, byte by byte.
    """
    repositories = request.app[REPOSITORIES]
    if file is not None:
        blob = await show_file(repositories, path, revision, file)
        size = {"Content-Length": str(blob.size_bytes)}
        return await _send(
            request, blob.pieces, {"Content-Type": "application/octet-stream", **size}
        )
    form = Form(context=context, renames=renames)
    found = await show(repositories, request.app[DIFFERENCES], path, revision, form)
    return await send_difference(request, found, max_bytes)


@routes.get("/git/blame", errors=LOCAL)
async def get_blame(
    request: web.Request,
    path: str,
    file: str,
    revision: str | None = None,
    start: PositiveInt = 1,
    end: PositiveInt | None = None,
) -> Blame:
    """Tell which commit gave each line of a file its form, from `start` to `end`.

    Without a revision the file is taken as it is now; what is not committed yet has
    a hash of zeros.
    """
    wanted = BlameRequest(file=file, revision=revision, start=start, end=end)
    return await blame(request.app[REPOSITORIES], path, wanted)


async def send_difference(
    request: web.Request, found: Found, max_bytes: int
) -> web.StreamResponse:
    """Send a difference as JSON, or its text alone to who accepts that."""
    if DIFF_TYPE in request.headers.get(hdrs.ACCEPT, ""):
        return await _send(request, found.text(), {"Content-Type": DIFF_TYPE})
    return await _send(request, found.json(max_bytes), {"Content-Type": JSON_TYPE})


async def _send(
    request: web.Request, pieces: AsyncGenerator[bytes, None], headers: dict[str, str]
) -> web.StreamResponse:
    async with contextlib.aclosing(pieces):
        return await stream(request, pieces, headers)
