"""A real server on loopback with the file routes and nothing else."""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import ClientResponse, ClientSession, web
from yarl import URL

from agent.files import routes as files_routes
from agent.files.registry import Files
from agent.registry import SETTINGS, WORK_DIR
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.server import Server, application

TOKEN = "files-token"


@dataclass
class Agent:
    """A running server and a client for it."""

    port: int
    app: web.Application
    client: ClientSession
    work_dir: Path
    state_dir: Path

    @property
    def files(self) -> Files:
        """The owner that the routes work with."""
        return self.app[files_routes.FILES]

    def at(
        self, route: str, path: str | bytes | Path | None = None, **query: str
    ) -> URL:
        """Return the URL of a route, every byte of its path parameter kept."""
        pairs = [f"{key}={value}" for key, value in query.items()]
        if path is not None:
            pairs.insert(0, "path=" + quote_from_bytes(os.fsencode(path)))
        text = f"http://127.0.0.1:{self.port}{route}?{'&'.join(pairs)}"
        return URL(text, encoded=True)

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
        """Send pieces, stop sending, and return all that comes back."""
        async with self.connection() as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()


async def read_or_reset(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection is closed, or reset, by the server."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(2**20):
            answer += data
    return answer


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def all_closed() -> Iterator[None]:
    """Fail the test that leaves a descriptor open."""
    before = descriptors()
    yield
    if descriptors() > before:
        # Sockets of a client may wait for the collector; descriptors of ours never do.
        gc.collect()
    assert descriptors() <= before


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Serve the file routes over a fresh work dir and state dir."""
    work_dir, state_dir = tmp_path / "work", tmp_path / "state"
    work_dir.mkdir()
    state_dir.mkdir(0o700)
    async with serve(work_dir, state_dir) as running:
        yield running


@contextlib.asynccontextmanager
async def serve(
    work_dir: Path, state_dir: Path, **options: Any
) -> AsyncIterator[Agent]:
    """Serve the file routes; nothing may be left open or behind afterwards."""
    settings = Settings(**{"token": TOKEN, "state_dir": str(state_dir), **options})
    before = descriptors()
    app = application(Dispatcher([files_routes.routes], settings), settings)
    app[SETTINGS] = settings
    app[WORK_DIR] = str(work_dir)
    app.cleanup_ctx.append(files_routes.context)
    server = Server(app, settings)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start([sock])
    session = ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        yield Agent(sock.getsockname()[1], app, session, work_dir, state_dir)
    finally:
        await session.close()
        await server.aclose()
    await settled(lambda: descriptors() <= before)
    assert not strays(work_dir)


def strays(directory: Path) -> list[Path]:
    """Return the temporary files of uploads below a directory."""
    return [
        Path(top) / name
        for top, _, names in os.walk(directory)
        for name in names
        if name.startswith(".tbx-")
    ]


async def settled(condition: Any) -> None:
    """Let the loop run until `condition` holds; the test's own limit ends the wait."""
    while not condition():  # noqa: ASYNC110 - there is no event for what it looks at
        await asyncio.sleep(0.001)


async def failure(response: ClientResponse) -> tuple[int, str, str]:
    """Return the status, code and message of an error answer, its envelope checked."""
    body = await response.json()
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert body["statusCode"] == response.status
    assert body["source"] == "DAYTONA_DAEMON"
    assert body["timestamp"].endswith("Z")
    assert body["path"] == response.url.path
    assert body["method"] == response.method
    return response.status, body["code"], body["message"]
