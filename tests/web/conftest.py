"""A real server on loopback around route tables of the test's own."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from aiohttp import web

from agent.settings import Settings
from agent.web.guard import Guard
from agent.web.routes import Routes
from agent.web.websockets import WEBSOCKETS, Websockets
from tests.support.serving import TOKEN, Served, serving

__all__ = ["TOKEN", "Serve", "Served"]

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers; all of them are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            tables: Iterable[Routes], guard: Guard | None = None, **options: Any
        ) -> Served:
            settings = Settings(**{"token": TOKEN, **options})
            return await stack.enter_async_context(
                serving(tables, [], settings, guard=guard, prepare=_with_websockets)
            )

        yield start


def _with_websockets(app: web.Application) -> None:
    app[WEBSOCKETS] = Websockets()
