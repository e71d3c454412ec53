"""The route that waits."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from agent.errors import UnavailableError
from agent.process.wait.models import WaitRequest, WaitResponse
from agent.process.wait.waits import Waits
from agent.registry import KEEPER, WATCHES, WORK_DIR
from agent.web.routes import Routes
from agent.web.server import told_of_the_end

routes = Routes("process")

WAITS = web.AppKey("waits", Waits)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the route works with, and close it."""
    waits = Waits(app[KEEPER], app[WATCHES], app[WORK_DIR])
    waits.open()
    app[WAITS] = waits
    yield
    await waits.aclose()


@routes.post("/process/wait", errors=(400, 403, 404, 413, 429, 503))
async def wait(request: web.Request, body: WaitRequest) -> WaitResponse:
    """Wait for any or all of some conditions, at most so long.

    A command's end, a text in its log, its silence, a port, an HTTP status, a file. What
    holds already counts, but for `quiet` and for a file's `changed`. The answer tells
    which conditions held, in which order, and with what was found. It comes when `mode`
    is satisfied, when it cannot be any more (`satisfied` and `timedOut` are false, and a
    condition's `reason` says why), or at the limit (`timedOut`): each of them is a 200.
    A client that leaves ends the wait, and nothing else.
    """
    left = asyncio.Event()
    with told_of_the_end(request, left.set):
        try:
            return await request.app[WAITS].run(body, left)
        except UnavailableError:
            if request.transport is None:
                raise ConnectionResetError("the client left") from None
            raise
