"""A real server on loopback with the file routes and those that a test adds."""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiohttp import ClientResponse, web

from agent.files import routes as files_routes
from agent.files.registry import Files
from agent.keeper.client import Keeper
from agent.registry import KEEPER, WORK_DIR
from agent.settings import Settings
from agent.web.routes import Routes
from tests.support.serving import (
    AUTH,
    TOKEN,
    Context,
    Served,
    descriptors,
    serving,
    settled,
)

__all__ = [
    "TOKEN",
    "Agent",
    "descriptors",
    "failure",
    "fresh",
    "read_or_reset",
    "serve",
    "settled",
    "strays",
]


class Room(Protocol):
    """A module of routes."""

    @property
    def routes(self) -> Routes:
        """Its table."""

    @property
    def context(self) -> Context:
        """Opens what the routes work with, and closes it."""


@dataclass
class Agent(Served):
    """A running server and a client for it."""

    work_dir: Path
    state_dir: Path

    @property
    def files(self) -> Files:
        """The owner that the routes work with."""
        return self.app[files_routes.FILES]


@pytest.fixture(params=[files_routes.TAKEN_BYTES, 1], ids=["served", "taken"])
def any_receiver(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the test twice: small bodies are received by the server, or by our threads."""
    monkeypatch.setattr(files_routes, "TAKEN_BYTES", request.param)


async def read_or_reset(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection is closed, or reset, by the server."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(2**20):
            answer += data
    return answer


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
    async with serve(*fresh(tmp_path)) as running:
        yield running


def fresh(root: Path) -> tuple[Path, Path]:
    """Make a work dir and a state dir."""
    work_dir, state_dir = root / "work", root / "state"
    work_dir.mkdir()
    state_dir.mkdir(0o700)
    return work_dir, state_dir


@contextlib.asynccontextmanager
async def serve(
    work_dir: Path, state_dir: Path, *rooms: Room, **options: Any
) -> AsyncIterator[Agent]:
    """Serve files, and `rooms`; nothing may be left open or behind afterwards."""
    settings = Settings(**{"token": TOKEN, "state_dir": str(state_dir), **options})
    every: tuple[Room, ...] = (files_routes, *rooms)
    before = descriptors()

    def prepare(app: web.Application) -> None:
        app[WORK_DIR] = str(work_dir)
        # Without a line to a keeper: what it is told is lost.
        app[KEEPER] = Keeper()

    async with serving(
        [each.routes for each in every],
        [each.context for each in every],
        settings,
        prepare=prepare,
        headers=AUTH,
    ) as served:
        yield Agent(**vars(served), work_dir=work_dir, state_dir=state_dir)
    await settled(lambda: descriptors() <= before)
    assert not await asyncio.to_thread(strays, work_dir)


def strays(directory: Path) -> list[Path]:
    """Return the temporary files of uploads below a directory."""
    return [
        Path(top) / name
        for top, _, names in os.walk(directory)
        for name in names
        if name.startswith(".tbx-")
    ]


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
