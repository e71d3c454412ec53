"""A real server on loopback around route tables of the test's own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, web

from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.guard import Guard
from agent.web.routes import Routes
from agent.web.server import Server, application
from agent.web.websockets import WEBSOCKETS, Websockets

TOKEN = "secret-token"


@dataclass
class Served:
    """A running server."""

    port: int
    app: web.Application
    dispatcher: Dispatcher
    server: Server
    client: ClientSession

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def auth(self) -> dict[str, str]:
        """The headers of a caller who may call."""
        return {"Authorization": f"Bearer {TOKEN}"}

    async def raw(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own and return all until it is closed."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            await writer.drain()
            return await reader.read()

    async def raw_head(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own and return the answer's head."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            await writer.drain()
            return await reader.readuntil(b"\r\n\r\n")

    @contextlib.asynccontextmanager
    async def connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection, closed at the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers; all of them are closed at the end."""
    opened: list[Served] = []

    async def start(
        tables: Iterable[Routes], guard: Guard | None = None, **options: Any
    ) -> Served:
        settings = Settings(**{"token": TOKEN, **options})
        dispatcher = Dispatcher(tables, settings, guard=guard)
        app = application(dispatcher, settings)
        app[WEBSOCKETS] = Websockets()
        server = Server(app, settings)
        sock = socket.create_server(("127.0.0.1", 0))
        await server.start([sock])
        served = Served(sock.getsockname()[1], app, dispatcher, server, ClientSession())
        opened.append(served)
        return served

    yield start
    for served in opened:
        await served.client.close()
        await served.server.aclose()
