"""A real server with the routes of files and of edits."""

import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from agent.files import routes as files_routes
from agent.files.edits import routes as edits_routes
from agent.registry import SETTINGS, WORK_DIR
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.server import Server, application
from tests.files.conftest import TOKEN, Agent, strays

Send = Callable[..., Awaitable[tuple[int, Any]]]


@contextlib.asynccontextmanager
async def serve_edits(work_dir: Path, state_dir: Path) -> AsyncIterator[Agent]:
    """Serve the routes; nothing may be left behind afterwards."""
    settings = Settings(token=TOKEN, state_dir=str(state_dir))
    tables = [files_routes.routes, edits_routes.routes]
    app = application(Dispatcher(tables, settings), settings)
    app[SETTINGS] = settings
    app[WORK_DIR] = str(work_dir)
    app.cleanup_ctx.extend([files_routes.context, edits_routes.context])
    server = Server(app, settings)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start([sock])
    session = ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        yield Agent(sock.getsockname()[1], app, session, work_dir, state_dir)
    finally:
        await session.close()
        await server.aclose()
    assert strays(work_dir) == []
    assert list((state_dir / "edits").glob("*/plan")) == []
    assert list((state_dir / "edits").glob("*/commit")) == []


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Serve over a fresh work dir and state dir."""
    work_dir, state_dir = tmp_path / "work", tmp_path / "state"
    work_dir.mkdir()
    state_dir.mkdir(0o700)
    async with serve_edits(work_dir, state_dir) as running:
        yield running


@pytest.fixture
def edit(agent: Agent) -> Send:
    """Return a function that sends edits and returns status and answer."""

    async def send(*edits: dict[str, Any], **fields: Any) -> tuple[int, Any]:
        body = io.BytesIO(json.dumps({"edits": edits, **fields}).encode())
        async with agent.client.post(agent.at("/files/edit"), data=body) as response:
            return response.status, await response.json()

    return send


@pytest.fixture
def undo(agent: Agent) -> Send:
    """Return a function that takes an edit back."""

    async def send(name: str) -> tuple[int, Any]:
        url = agent.at(f"/files/edit/{name}/undo")
        async with agent.client.post(url) as response:
            return response.status, await response.json()

    return send
