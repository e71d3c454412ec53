"""Serves chosen routes on loopback inside the test's own process, and talks to them.

    async with serving([routes], [context], settings) as served:
        async with served.client.get(served.at("/files", path)) as response: ...

Whatever must hold once the server is closed is for the caller to look at.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

from aiohttp import ClientSession, web
from yarl import URL

from agent.registry import SETTINGS
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.guard import Guard
from agent.web.rooms import Rooms
from agent.web.routes import Routes
from agent.web.server import Server, application

TOKEN = "served-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}

Context = Callable[[web.Application], AsyncIterator[None]]


@dataclass
class Served:
    """A running server, and a client for it that shows the token or does not."""

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
        return dict(AUTH)

    def at(
        self, route: str, path: str | bytes | Path | None = None, **query: str
    ) -> URL:
        """Return the URL of a route, every byte of its path parameter kept."""
        pairs = [f"{key}={value}" for key, value in query.items()]
        if path is not None:
            pairs.insert(0, "path=" + quote_from_bytes(os.fsencode(path)))
        return URL(f"{self.url}{route}?{'&'.join(pairs)}", encoded=True)

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

    def head(self, method: str, url: URL, **headers: object) -> bytes:
        """Return a request's head; underscores in header names become hyphens."""
        lines = [
            f"{method} {url.raw_path_qs} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {TOKEN}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def raw(self, *pieces: bytes) -> bytes:
        """Send pieces on a connection of their own; return all until it is closed."""
        async with self.connection() as (reader, writer):
            await _send(writer, pieces)
            return await reader.read()

    async def raw_head(self, *pieces: bytes) -> bytes:
        """Send pieces on a connection of their own; return the answer's head."""
        async with self.connection() as (reader, writer):
            await _send(writer, pieces)
            return await reader.readuntil(b"\r\n\r\n")


@contextlib.asynccontextmanager
async def serving(
    tables: Iterable[Routes],
    contexts: Iterable[Context],
    settings: Settings,
    *,
    guard: Guard | None = None,
    prepare: Callable[[web.Application], None] = lambda _: None,
    headers: dict[str, str] | None = None,
    rooms: Rooms | None = None,
) -> AsyncIterator[Served]:
    """Serve route tables while inside.

    Args:
        tables: What is served.
        contexts: Open what the routes work with, and close it.
        settings: The agent's options; its token is that of `head` when it is `TOKEN`.
        guard: Who may call; by default whoever shows the token.
        prepare: Gives the application what its contexts count on.
        headers: What the client always sends.
        rooms: What is served besides, once it is asked for.
    """
    dispatcher = Dispatcher(tables, settings, guard=guard, rooms=rooms)
    app = application(dispatcher, settings)
    app[SETTINGS] = settings
    prepare(app)
    app.cleanup_ctx.extend(contexts)
    server = Server(app, settings)
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await server.start([sock])
    try:
        async with ClientSession(headers=headers) as client:
            yield Served(port, app, dispatcher, server, client)
    finally:
        await server.aclose()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def settled(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds; the test's own limit ends the wait."""
    while not condition():  # noqa: ASYNC110 - there is no event for what it looks at
        await asyncio.sleep(0.001)


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
