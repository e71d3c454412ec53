"""A server with the archive routes, and trees to pack."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from agent.files import routes as files_routes
from agent.files.archives import routes as archives_routes
from agent.registry import SETTINGS, WORK_DIR
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.server import Server, application
from tests.files.conftest import TOKEN, Agent, descriptors, settled, strays


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Serve files and archives; nothing may be left open or behind."""
    work_dir, state_dir = tmp_path / "work", tmp_path / "state"
    work_dir.mkdir()
    state_dir.mkdir(0o700)
    settings = Settings(token=TOKEN, state_dir=str(state_dir))
    before = descriptors()
    tables = [files_routes.routes, archives_routes.routes]
    app = application(Dispatcher(tables, settings), settings)
    app[SETTINGS] = settings
    app[WORK_DIR] = str(work_dir)
    app.cleanup_ctx.extend([files_routes.context, archives_routes.context])
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
    assert not await asyncio.to_thread(strays, work_dir)


async def pack(agent: Agent, path: object, suffix: str) -> bytes:
    """Download an archive."""
    url = agent.at("/files/archive", str(path), format=suffix)
    async with agent.client.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def unpack(
    agent: Agent, path: object, archive: Any, **query: str
) -> tuple[int, dict[str, Any]]:
    """Unpack an archive; return the status and the answer."""
    url = agent.at("/files/extract", str(path), **query)
    async with agent.client.post(url, data=archive) as answer:
        return answer.status, await answer.json()
