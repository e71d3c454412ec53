"""A server with the archive routes, and trees to pack."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.files.archives import routes as archives_routes
from tests.files.conftest import Agent, fresh, serve


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Serve files and archives; nothing may be left open or behind."""
    async with serve(*fresh(tmp_path), archives_routes) as running:
        yield running


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
    if isinstance(archive, bytes):
        archive = io.BytesIO(archive)
    async with agent.client.post(url, data=archive) as answer:
        return answer.status, await answer.json()
