"""Clients of terminals, against a whole agent."""

import contextlib
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from aiohttp import (
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    WSMsgType,
    web,
)

from agent.keeper.client import Keeper
from agent.pty.routes import TERMINALS, routes
from agent.pty.terminals import Terminals
from agent.settings import Settings
from agent.web.websockets import WEBSOCKETS, Websockets
from tests.support.agent import Agent, StartAgent
from tests.support.serving import TOKEN, serving

EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"
CONNECTED = {"type": "control", "status": "connected"}
PROMPT = b"READY> "


class Screen:
    """One client's websocket.

    Attributes:
        output: All bytes that came so far.
        controls: All control messages that came so far.
    """

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.output = bytearray()
        self.controls: list[dict[str, Any]] = []
        self.close: tuple[int | None, str] | None = None

    async def step(self) -> bool:
        """Take one message; False when it was the close."""
        message = await self.socket.receive()
        match message.type:
            case WSMsgType.BINARY:
                assert 0 < len(message.data) <= 32 * 1024
                self.output += message.data
            case WSMsgType.TEXT:
                self.controls.append(json.loads(message.data))
            case WSMsgType.CLOSE:
                self.close = (message.data, message.extra or "")
                return False
            case _:
                return False
        return True

    async def until(self, wanted: bytes, start: int = 0) -> bytes:
        """Take messages until the output has these bytes; return it up to their end."""
        while (at := self.output.find(wanted, start)) < 0:
            assert await self.step(), (self.close, bytes(self.output[-500:]))
        return bytes(self.output[: at + len(wanted)])

    async def until_size(self, size: int) -> None:
        """Take messages until there are so many bytes of output."""
        while len(self.output) < size:
            assert await self.step(), self.close

    async def until_closed(self) -> tuple[int | None, str]:
        """Take everything up to the close; return its code and reason."""
        while await self.step():
            pass
        assert self.close is not None
        return self.close

    async def type(self, text: str | bytes) -> None:
        """Send input."""
        await self.socket.send_bytes(text.encode() if isinstance(text, str) else text)

    async def run(self, line: str, mark: bytes) -> bytes:
        """Type a line and wait for bytes that only its output has."""
        start = len(self.output)
        await self.type(line + "\n")
        return (await self.until(mark, start))[start:]


class Desk:
    """Asks one agent for terminals."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self.session = session
        self.url = f"{url}/process/pty"

    async def ask(
        self, method: str, path: str = "", body: object = None
    ) -> tuple[int, Any]:
        """Make a request under `/process/pty`; return status and JSON."""
        url = self.url + path
        async with self.session.request(method, url, json=body) as answer:
            return answer.status, await answer.json()

    async def ids(self) -> list[str]:
        """Return the ids of all terminals."""
        _, told = await self.ask("GET")
        return [each["id"] for each in told["sessions"]]

    async def connect_until(self, session_id: str, wanted: bytes) -> bytes:
        """Connect, and return the output up to these bytes."""
        async with self.connect(session_id) as screen:
            return await screen.until(wanted)

    async def until_gone(self, session_id: str) -> None:
        """Wait until a terminal is no longer listed: its shell has exited."""
        while session_id in await self.ids():
            """The answer takes its time."""

    @contextlib.asynccontextmanager
    async def open(
        self, path: str, offers: Sequence[str] = (EXIT_CONTROL,)
    ) -> AsyncIterator[Screen]:
        """Open a websocket, nothing taken from it yet."""
        socket = await self.session.ws_connect(
            f"{self.url}/{path}", protocols=offers, max_msg_size=0
        )
        try:
            yield Screen(socket)
        finally:
            await socket.close()

    @contextlib.asynccontextmanager
    async def create(
        self,
        session_id: str,
        *,
        envs: dict[str, str] | None = None,
        offers: Sequence[str] = (EXIT_CONTROL,),
        **query: str | int,
    ) -> AsyncIterator[Screen]:
        """Create a terminal and connect to it, `connected` taken."""
        if envs is not None:
            offers = [*offers, environment_token(envs)]
        asked = urlencode({"id": session_id, **query})
        async with self.open(f"create-connect?{asked}", offers) as screen:
            await screen.step()
            assert screen.controls == [CONNECTED]
            yield screen

    @contextlib.asynccontextmanager
    async def connect(
        self,
        session_id: str,
        since: int | None = None,
        offers: Sequence[str] = (EXIT_CONTROL,),
    ) -> AsyncIterator[Screen]:
        """Connect to a terminal, the first message taken."""
        query = "" if since is None else f"?since={since}"
        path = f"{quote(session_id, safe='')}/connect{query}"
        async with self.open(path, offers) as screen:
            await screen.step()
            yield screen


def environment_token(envs: dict[str, str], padding: str = "") -> str:
    """Return the subprotocol that carries an environment."""
    encoded = urlsafe_b64encode(json.dumps(envs).encode()).decode().rstrip("=")
    return f"X-Daytona-Pty-Envs~{encoded}{padding}"


STARTUP_FILES = {
    ".zshrc": "PROMPT='READY> '\nunsetopt zle promptcr\nstty -echoctl\n",
    ".bash_profile": "PS1='READY> '\n",
    ".profile": "PS1='READY> '\nexport ENV=\n",
}
"""By shell: a prompt that is easy to find."""


def settle_in(home: Path) -> None:
    """Give every shell its prompt, whichever it is that this machine has."""
    for name, text in STARTUP_FILES.items():
        (home / name).write_text(text)


@pytest.fixture
def agent(start_agent: StartAgent, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """Return a whole agent, whose shells have a prompt of our own."""
    for name in ("COLUMNS", "LINES"):
        # As of the terminal that the agent was started from; no size of its terminals.
        monkeypatch.setenv(name, "7")
    agent = start_agent()
    settle_in(agent.home)
    return agent


@contextlib.asynccontextmanager
async def asking(url: str, auth: dict[str, str]) -> AsyncIterator[Desk]:
    """Give a client of what listens at an address."""
    limit = ClientTimeout(total=None)
    async with ClientSession(headers=auth, timeout=limit) as session:
        yield Desk(session, url)


@pytest.fixture
async def desk(agent: Agent) -> AsyncIterator[Desk]:
    """Return a client of a running agent."""
    async with asking(agent.url, agent.auth) as desk:
        yield desk


@contextlib.asynccontextmanager
async def terminals(
    keeper: Keeper, work_dir: Path, **options: Any
) -> AsyncIterator[Desk]:
    """Serve terminals in the test's own process, on a real keeper.

    Args:
        keeper: Who has the processes.
        work_dir: The work dir.
        options: Of `Terminals`: shells and times that a whole agent has no option for.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[WEBSOCKETS] = Websockets()
        owner = app[TERMINALS] = Terminals(keeper, str(work_dir), **options)
        await owner.open()
        yield
        await owner.aclose()

    settings = Settings(port=0, token=TOKEN)
    async with (
        serving([routes], [context], settings) as served,
        asking(served.url, served.auth) as desk,
    ):
        yield desk
