"""A real server with the routes of files and of edits."""

import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.files.edits import routes as edits_routes
from tests.files.conftest import Agent, fresh, serve

Send = Callable[..., Awaitable[tuple[int, Any]]]


@contextlib.asynccontextmanager
async def serve_edits(work_dir: Path, state_dir: Path) -> AsyncIterator[Agent]:
    """Serve the routes; nothing may be left behind afterwards."""
    async with serve(work_dir, state_dir, edits_routes) as agent:
        yield agent
    assert list((state_dir / "edits").glob("*/plan")) == []
    assert list((state_dir / "edits").glob("*/commit")) == []


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Serve over a fresh work dir and state dir."""
    async with serve_edits(*fresh(tmp_path)) as running:
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
