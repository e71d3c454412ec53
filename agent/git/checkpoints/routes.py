"""The routes of checkpoints."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.git.checkpoints.models import (
    Checkpoint,
    CheckpointList,
    CheckpointRequest,
    CheckpointRestoreRequest,
    RestoreResult,
)
from agent.git.checkpoints.registry import WORKING, Checkpoints
from agent.git.history.differences import TEXT_MAX_BYTES, Form
from agent.git.history.models import Difference
from agent.git.history.routes import DIFFERENCES, send_difference
from agent.git.routes import REPOSITORIES
from agent.registry import KEEPER, SETTINGS
from agent.web.routes import PositiveInt, Routes
from agent.wire import printable

routes = Routes("checkpoints")

CHECKPOINTS = web.AppKey("checkpoints", Checkpoints)
"""The owner of checkpoints."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    checkpoints = Checkpoints(app[REPOSITORIES], app[DIFFERENCES], app[SETTINGS])
    app[CHECKPOINTS] = checkpoints
    yield
    await checkpoints.aclose()


@routes.post(
    "/git/checkpoint", status=201, errors=(400, 403, 404, 408, 409, 413, 429, 507)
)
async def create_checkpoint(
    request: web.Request, path: str, body: CheckpointRequest | None = None
) -> Checkpoint:
    """Keep the state of a directory, a repository or not, outside it.

    Contents, modes, owners, links and empty directories are kept, byte by byte; what
    git ignores is not, unless `include_ignored` asks for it, and neither is any `.git`.
    Nested repositories count as plain directories. Nothing is written into the directory.
    """
    wanted = body or CheckpointRequest()
    made = await request.app[CHECKPOINTS].create(
        path, wanted.message, include_ignored=wanted.include_ignored
    )
    request.app[KEEPER].tell(
        "checkpoint.created", checkpoint=made.id, path=printable(path)
    )
    return made


@routes.get("/git/checkpoint", errors=(400, 403))
async def list_checkpoints(request: web.Request, path: str) -> CheckpointList:
    """List the checkpoints of a directory, newest first.

    `interruptedRestore` tells of a restore that the agent did not live to end.
    """
    return await request.app[CHECKPOINTS].list(path)


@routes.delete("/git/checkpoint/{checkpoint_id}", status=204, errors=(400, 403, 404))
async def delete_checkpoint(
    request: web.Request, checkpoint_id: str, path: str
) -> None:
    """Forget a checkpoint, and give back the space of what only it had."""
    await request.app[CHECKPOINTS].delete(path, checkpoint_id)
    request.app[KEEPER].tell(
        "checkpoint.deleted", checkpoint=checkpoint_id, path=printable(path)
    )


@routes.get(
    "/git/checkpoint/{checkpoint_id}/diff", errors=(400, 403, 404, 408, 409, 413, 507)
)
async def get_checkpoint_diff(  # noqa: PLR0913, PLR0917 - its parameters on the wire
    request: web.Request,
    checkpoint_id: str,
    path: str,
    to: str = WORKING,
    file: str | None = None,
    context: int = 3,
    renames: bool = True,
    max_bytes: PositiveInt = TEXT_MAX_BYTES,
) -> Difference | web.StreamResponse:
    """Tell what differs from a checkpoint to another one, or to the directory now.

    A client that accepts `text/x-diff` gets the unified text alone, byte by byte.
    """
    form = Form(context=context, renames=renames, file=file)
    found = await request.app[CHECKPOINTS].difference(path, checkpoint_id, to, form)
    return await send_difference(request, found, max_bytes)


@routes.post(
    "/git/checkpoint/{checkpoint_id}/restore",
    errors=(400, 403, 404, 408, 409, 413, 507),
)
async def restore_checkpoint(
    request: web.Request,
    checkpoint_id: str,
    path: str,
    body: CheckpointRestoreRequest | None = None,
) -> RestoreResult:
    """Lead a directory back to a checkpoint; `before` takes that back.

    Files that were added since are deleted; what is ignored stays, unless the
    checkpoint has it. When something that no checkpoint has is in the way, or the disk is
    full, nothing changes. HEAD, index and configuration of a repository never do.
    """
    wanted = body or CheckpointRestoreRequest()
    result = await request.app[CHECKPOINTS].restore(
        path, checkpoint_id, wanted.paths, dry_run=wanted.dry_run
    )
    if not wanted.dry_run:
        request.app[KEEPER].tell(
            "checkpoint.restored",
            checkpoint=checkpoint_id,
            path=printable(path),
            changes_count=result.changes_count,
        )
    return result
