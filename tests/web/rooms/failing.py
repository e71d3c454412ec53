"""A room whose context fails once."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.web.routes import Routes
from tests.web.rooms import EVENTS

routes = Routes("failing")


async def context(_app: web.Application) -> AsyncIterator[None]:
    """Fail the first time."""
    EVENTS.append("trying failing")
    if EVENTS.count("trying failing") == 1:
        raise OSError("not now")
    yield


@routes.get("/failing")
async def get() -> web.Response:
    """Answer."""
    return web.Response(text="failing no more")
