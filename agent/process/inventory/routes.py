"""The routes of the process list."""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from aiohttp import web

from agent.process.inventory.inventory import Inventory
from agent.process.inventory.models import RunningProcess
from agent.registry import KEEPER, SETTINGS
from agent.web.routes import Routes

routes = Routes("process")

INVENTORY = web.AppKey("inventory", Inventory)

GRACE_MAX_S = 60.0
"""A request is answered at the end of it."""

GraceSeconds = Annotated[float, msgspec.Meta(ge=0, le=GRACE_MAX_S)]


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with, and close it."""
    inventory = Inventory(app[KEEPER], grace_s=app[SETTINGS].grace_s)
    app[INVENTORY] = inventory
    yield
    await inventory.aclose()


@routes.get("/process")
async def list_processes(
    request: web.Request,
    all: bool = False,  # noqa: A002 - its name on the wire
) -> list[RunningProcess]:
    """List what the agent runs: each with its whole tree of processes.

    Commands, sessions with the command that they run, PTYs, interpreter contexts and the
    entrypoint, oldest first. What a command has left in the background is told as well,
    with the state `background`, wherever `setsid` or a double fork have taken it. With
    `all` the agent's own processes and helpers are there too. Memory is the sum of the
    tree: proportional shares (`pss`) where they may be read.
    """
    return await request.app[INVENTORY].list(everything=all)


@routes.delete("/process/{pid}", status=204, errors=(400, 403, 404, 409))
async def end_process(
    request: web.Request, pid: str, grace: GraceSeconds | None = None
) -> None:
    """End a process that the agent runs, with its tree.

    The leader of a command, session, PTY, context or of the entrypoint takes all with it
    that came of it; a session is ended then. Any other process takes what descends from
    it. All are asked to end, and killed after `grace` seconds (by default the agent's
    own, 0 kills at once). The answer comes when none is left. The agent's own processes
    are 403, those of others 404.
    """
    await request.app[INVENTORY].end(pid, grace)
