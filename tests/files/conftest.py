"""A real server on loopback with the file routes and nothing else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import ClientResponse, ClientSession, web

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
        return self.app[files_routes.FILES]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def at(self, route: str, path: str | bytes | Path | None = None, **query: str) -> str:
        """Return the URL of a route, every byte of its path parameter kept."""
        pairs = [f"{key}={value}" for key, value in query.items()]
        if path is not None:
            text = path if isinstance(path, bytes) else str(path).encode()
            pairs.insert(0, "path=" + quote_from_bytes(text))
        return f"{self.url}{route}?{'&'.join(pairs)}"

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

    def head(self, method: str, target: str, **headers: str) -> bytes:
        """Return a request's head; underscores in header names become hyphens."""
        lines = [
            f"{method} {target.removeprefix(self.url)} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {TOKEN}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


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
    """Serve the file routes over these directories."""
    settings = Settings(**{"token": TOKEN, "state_dir": str(state_dir), **options})
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


async def failure(response: ClientResponse) -> tuple[int, str, str]:
    """Return the status, code and message of an error answer, its envelope checked."""
    body = await response.json()
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert body["statusCode"] == response.status
    assert body["source"] == "DAYTONA_DAEMON"
    assert body["timestamp"].endswith("Z")
    assert body["path"].startswith("/files")
    assert body["method"] == response.method
    return response.status, body["code"], body["message"]
