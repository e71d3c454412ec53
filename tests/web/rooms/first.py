"""A room that takes two turns of the loop to open."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from agent.web.routes import Routes
from tests.web.rooms import EVENTS

routes = Routes("first")

NAME = web.AppKey("name", str)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with."""
    EVENTS.append("opening first")
    await asyncio.sleep(0)
    app[NAME] = "first"
    EVENTS.append("opened first")
    yield
    EVENTS.append("closed first")


@routes.get("/first")
async def get(request: web.Request) -> web.Response:
    """Tell what the context left."""
    return web.Response(text=request.app[NAME])


@routes.post("/first/{word}/deeper")
async def post(request: web.Request, word: str) -> web.Response:
    """Tell a word, and the length of the body."""
    return web.Response(text=f"{word} {len(await request.read())}")
