"""Clients that follow the timeline of a real agent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout

from tests.support.agent import Agent, StartAgent

Said = dict[str, Any]


class Stream:
    """One open answer of events."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last = ""

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
                said: Said = json.loads(fields["data"])
                assert fields["event"] == said["type"]
                assert fields["id"] == str(said.get("id", fields["id"]))
                self.last = fields["id"]
                return said
        return None

    async def until(self, wanted: Callable[[Said], bool]) -> list[Said]:
        """Return what is said up to a certain event."""
        found: list[Said] = []
        while said := await self.next():
            found.append(said)
            if wanted(said):
                return found
        raise AssertionError(f"the stream ended after {found[-3:]}")


class Client:
    """Asks one agent."""

    def __init__(self, session: ClientSession, agent: Agent) -> None:
        self.session = session
        self.agent = agent

    @contextlib.asynccontextmanager
    async def follow(self, last: str = "", **query: Any) -> AsyncIterator[Stream]:
        """Follow the timeline."""
        headers = {"Last-Event-ID": last} if last else {}
        url = f"{self.agent.url}/events"
        async with self.session.get(url, params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield Stream(answer)

    async def page(self, **query: Any) -> Any:
        """Return a page of what has happened."""
        url = f"{self.agent.url}/events"
        params = {"follow": "false", **query}
        async with self.session.get(url, params=params) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: Any) -> Any:
        """Send a request and return its answer."""
        url = f"{self.agent.url}{path}"
        async with self.session.post(url, json=body) as answer:
            text = await answer.text()
            return json.loads(text) if text else None

    async def execute(self, command: str, **fields: Any) -> Any:
        """Run a command."""
        return await self.post("/process/execute", {"command": command, **fields})

    async def fill(self, count: int) -> None:
        """Make events of some 4 KiB each, as quickly as can be."""
        names = [f"NAME_{number:0200}" for number in range(20)]
        for _ in range(count):
            await self.post("/env", {"unset": names})


@contextlib.asynccontextmanager
async def asking(agent: Agent) -> AsyncIterator[Client]:
    """Give a client of an agent."""
    timeout = ClientTimeout(total=None, sock_read=25)
    async with ClientSession(headers=agent.auth, timeout=timeout) as session:
        yield Client(session, agent)


@pytest.fixture
async def client(start_agent: StartAgent) -> AsyncIterator[Client]:
    """Return the client of an agent."""
    agent = await asyncio.to_thread(start_agent)
    async with asking(agent) as client:
        yield client


@pytest.fixture
async def small(start_agent: StartAgent) -> AsyncIterator[Client]:
    """Return the client of an agent that keeps few events."""
    agent = await asyncio.to_thread(start_agent, "--events-max-bytes", "131072")
    async with asking(agent) as client:
        yield client
