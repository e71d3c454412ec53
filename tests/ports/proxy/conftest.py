"""A proxy in the test's own process, and applications behind it."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from agent.ports.proxy import routes
from agent.settings import Settings
from tests.support.serving import AUTH, TOKEN, Served, serving

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Serve(Protocol):
    """Starts applications; all are ended with the test."""

    async def __call__(self, app: web.Application, host: str = "127.0.0.1") -> int:
        """Serve an aiohttp application; return its port."""


class Speak(Protocol):
    """Starts servers that speak plain bytes."""

    async def __call__(self, talk: Talk) -> int:
        """Have `talk` speak on every connection; return the port."""


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a kernel does for a process that was killed."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings(token=TOKEN, state_dir=str(tmp_path))
    async with serving(
        [routes.routes], [routes.context], settings, headers=AUTH
    ) as server:
        yield server
        # What a request needed is given back, or gone.
        assert server.dispatcher.in_flight == 0


@pytest.fixture
def serve(aiohttp_server: AiohttpServer) -> Serve:
    async def start(app: web.Application, host: str = "127.0.0.1") -> int:
        server = await aiohttp_server(
            app, host=host, shutdown_timeout=0.1, auto_decompress=False
        )
        assert server.port is not None
        return server.port

    return start


@pytest.fixture
async def speak() -> AsyncIterator[Speak]:
    writers: list[asyncio.StreamWriter] = []
    servers: list[asyncio.Server] = []

    async def start(talk: Talk) -> int:
        async def accept(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writers.append(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
