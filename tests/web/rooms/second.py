"""A room below the first one's paths, whose handler uses what that one opened."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.web.routes import Routes
from tests.web.rooms import EVENTS
from tests.web.rooms.first import NAME

routes = Routes("second")


async def context(_app: web.Application) -> AsyncIterator[None]:
    """Open nothing."""
    EVENTS.append("opened second")
    yield
    EVENTS.append("closed second")


@routes.get("/first/second")
async def get(request: web.Request) -> web.Response:
    """Tell what the first room left."""
    return web.Response(text=f"second after {request.app[NAME]}")
