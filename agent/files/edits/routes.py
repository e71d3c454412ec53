"""The routes of edits: make them, take them back."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.files.edits.models import EditRequest, EditResult
from agent.files.edits.registry import Edits
from agent.keeper.client import Keeper
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.web.routes import Routes

routes = Routes("files")

EDITS = web.AppKey("edits", Edits)
"""The owner of edits."""

FILES_TOLD_MAX = 50
"""Names that the timeline is told of one edit."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Recover what a killed agent left, then open what the routes work with."""
    edits = Edits(app[WORK_DIR], app[SETTINGS].state_dir)
    app[EDITS] = edits
    await edits.open()
    yield
    await edits.aclose()


@routes.post("/files/edit", errors=(400, 403, 404, 409, 413, 507))
async def edit_files(request: web.Request, body: EditRequest) -> EditResult:
    """Edit several files, all or none.

    The edits are made in their order, each on what those before it left; the files change
    only when all of them can be made. With `dryRun` nothing changes. Paths lead through
    links, but a link is neither moved nor deleted; a file with several names (hard links)
    is edited under the given one, and the others keep the old content. Names that are not
    UTF-8 cannot be given.
    """
    result = await request.app[EDITS].edit(body)
    if isinstance(result.id, str):
        _tell(request.app[KEEPER], "edit.applied", result.id, result)
    return result


@routes.post("/files/edit/{edit_id}/undo", errors=(400, 403, 404, 409, 507))
async def undo_edit(request: web.Request, edit_id: str) -> EditResult:
    """Take an edit back, unless one of its files was changed since.

    The answer's `id` is that of the taking back, by which to take that back in turn.
    """
    result = await request.app[EDITS].undo(edit_id)
    _tell(request.app[KEEPER], "edit.undone", edit_id, result)
    return result


def _tell(keeper: Keeper, kind: str, edit: str, result: EditResult) -> None:
    files = [each.path for each in result.files[:FILES_TOLD_MAX]]
    keeper.tell(kind, edit=edit, files=files, files_count=len(result.files))
