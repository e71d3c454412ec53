"""Clients that listen to a real agent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
)

from tests.support.agent import Agent, StartAgent

Said = dict[str, Any]


class Listening:
    """One open answer of events."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.ids: list[str] = []

    async def next(self) -> Said | None:
        """Return the next event; None at the end of the answer."""
        fields: dict[str, str] = {}
        while line := await self.response.content.readline():
            text = line.decode().rstrip("\n")
            if text.startswith(":"):
                continue
            if text:
                name, _, value = text.partition(": ")
                fields[name] = value
            elif "data" in fields:
                found: Said = json.loads(fields["data"])
                assert fields == {
                    "id": str(found["sequence"]),
                    "event": found["kind"],
                    "data": fields["data"],
                }
                self.ids.append(fields["id"])
                return found
        return None

    async def until(self, kind: str, path: str | None = None) -> list[Said]:
        """Return what is said up to a certain word."""
        found: list[Said] = []
        while said := await self.next():
            found.append(said)
            if said["kind"] == kind and path in (None, said.get("path")):
                return found
        raise AssertionError(f"no {kind} {path} in {found}")


class Client:
    """Asks one agent."""

    def __init__(self, session: ClientSession, agent: Agent) -> None:
        self.session = session
        self.agent = agent

    def url(self, path: Path | str, **query: str) -> str:
        """Return the address of a watch."""
        pairs = "".join(f"&{name}={value}" for name, value in query.items())
        return f"{self.agent.url}/files/watch?path={path}{pairs}"

    @contextlib.asynccontextmanager
    async def listen(
        self, path: Path | str, last: str = "", **query: str
    ) -> AsyncIterator[Listening]:
        """Listen, the first word taken."""
        headers = {"Last-Event-ID": last} if last else {}
        async with self.session.get(self.url(path, **query), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            listening = Listening(answer)
            first = await listening.next()
            assert first is not None
            assert first["kind"] == "ready"
            yield listening

    @contextlib.asynccontextmanager
    async def socket(
        self, path: Path | str, **query: str
    ) -> AsyncIterator[ClientWebSocketResponse]:
        """Listen by websocket, the first word taken."""
        async with self.session.ws_connect(self.url(path, **query)) as socket:
            assert (await socket.receive_json())["kind"] == "ready"
            yield socket

    async def failure(self, path: Path | str, **query: str) -> tuple[int, str]:
        """Return the status and message of a refusal."""
        async with self.session.get(self.url(path, **query)) as answer:
            body = await answer.json()
            return answer.status, body["message"]


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """Return a whole agent: its keeper starts the programs that watch."""
    return start_agent()


@pytest.fixture
async def client(agent: Agent) -> AsyncIterator[Client]:
    """Return a client of a running agent."""
    limit = ClientTimeout(total=None)
    async with ClientSession(headers=agent.auth, timeout=limit) as session:
        yield Client(session, agent)


def told(events: Iterable[Said], under: Path | str = "") -> list[tuple[str, str]]:
    """Return the kinds and paths of events."""
    prefix = f"{under}/"
    return [(each["kind"], each["path"].removeprefix(prefix)) for each in events]


async def in_thread(work: Any, *arguments: Any) -> Any:
    """Do what blocks."""
    return await asyncio.to_thread(work, *arguments)
