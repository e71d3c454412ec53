"""Clients of interpreter contexts, against a whole agent or a keeper alone."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import (
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    WSMsgType,
)

from tests.support.agent import Agent

KEYS = {"type", "text", "name", "value", "traceback"}
COMPLETED = ["completed"]


@dataclass
class Ran:
    """What one run told, and how its websocket was closed."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    code: int | None = None
    reason: str = ""

    def _text(self, kind: str) -> str:
        return "".join(each["text"] for each in self.messages if each["type"] == kind)

    @property
    def stdout(self) -> str:
        """What was written to standard output."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """What was written to standard error."""
        return self._text("stderr")

    @property
    def error(self) -> dict[str, Any] | None:
        """The one exception, if any."""
        found = [each for each in self.messages if each["type"] == "error"]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def controls(self) -> list[str]:
        """The words of the control messages."""
        return [each["text"] for each in self.messages if each["type"] == "control"]

    @property
    def rich(self) -> list[dict[str, Any]]:
        """The messages that only `rich` asks for."""
        kinds = {"display", "result"}
        return [each for each in self.messages if each["type"] in kinds]

    @property
    def ended_well(self) -> bool:
        """Whether it came to its end, and with no exception."""
        return (self.code, self.controls, self.error) == (1000, COMPLETED, None)


class Talk:
    """One websocket on which one run is told of."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.ran = Ran()

    async def step(self) -> bool:
        """Take one message; False when it was the close."""
        message = await self.socket.receive()
        if message.type is WSMsgType.TEXT:
            told = json.loads(message.data)
            if told["type"] in {"stdout", "stderr"}:
                assert len(message.data.encode()) <= 32 * 1024
            assert told.keys() == KEYS or told["type"] in {"display", "result"}
            self.ran.messages.append(told)
            return True
        if message.type is WSMsgType.CLOSE:
            self.ran.code, self.ran.reason = message.data, message.extra or ""
        return False

    async def until(self, text: str) -> None:
        """Take messages until the output has this text."""
        while text not in self.ran.stdout:
            assert await self.step(), self.ran

    async def end(self) -> Ran:
        """Take everything up to the close."""
        while await self.step():
            pass
        return self.ran


class Desk:
    """Asks one agent to run code."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self.session = session
        self.url = f"{url}/process/interpreter"

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make a request; return status and JSON."""
        url = f"{self.url}/{path}"
        async with self.session.request(method, url, json=body) as answer:
            return answer.status, await answer.json()

    async def create(self, **body: str) -> str:
        """Make a context and return its id."""
        status, told = await self.ask("POST", "context", body)
        assert status == 200, told
        context_id: str = told["id"]
        return context_id

    async def contexts(self) -> list[dict[str, Any]]:
        """Return the contexts that are listed."""
        listed: list[dict[str, Any]] = (await self.ask("GET", "context"))[1]["contexts"]
        return listed

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Talk]:
        """Open a websocket, nothing said yet."""
        socket = await self.session.ws_connect(f"{self.url}/execute", max_msg_size=0)
        try:
            yield Talk(socket)
        finally:
            await socket.close()

    @contextlib.asynccontextmanager
    async def start(
        self, code: str, context: str | None = None, **more: object
    ) -> AsyncIterator[Talk]:
        """Have code run, nothing of it taken yet."""
        asked = {"code": code, **more}
        if context is not None:
            asked["contextId"] = context
        async with self.connect() as talk:
            await talk.socket.send_str(json.dumps(asked))
            yield talk

    async def run(self, code: str, context: str | None = None, **more: object) -> Ran:
        """Run code to its end."""
        async with self.start(code, context, **more) as talk:
            return await talk.end()


@contextlib.asynccontextmanager
async def asking(agent: Agent) -> AsyncIterator[Desk]:
    """Give a client of an agent."""
    limit = ClientTimeout(total=None)
    async with ClientSession(headers=agent.auth, timeout=limit) as session:
        yield Desk(session, agent.url)


@pytest.fixture
async def desk(agent: Agent) -> AsyncIterator[Desk]:
    """Return a client of a running agent."""
    async with asking(agent) as desk:
        yield desk


def running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
