"""Clients of sessions, against whole agents with one shell or another."""

import asyncio
import contextlib
import io
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from aiohttp import ClientSession, ClientTimeout, WSMsgType
from yarl import URL

from tests.support.agent import Agent, running

NEWEST, LABELLED, FIRST = "0.226.1", "0.150.0", "0.25.6"
"""Versions of the SDK: one of each level."""
VERSION_HEADER = "X-Daytona-SDK-Version"

OUT, ERR = b"\x01\x01\x01", b"\x02\x02\x02"
_MARKER = re.compile(rb"(\x01\x01\x01|\x02\x02\x02)")
MESSAGE_MAX_BYTES = 32 * 1024

SHELLS = {
    "bash": "/bin/bash",
    "dash": "/bin/dash",
    "ash": "/bin/busybox",
    "zsh": "/usr/bin/zsh",
}


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    @property
    def failure(self) -> tuple[int, str]:
        """The status, and the code of an error."""
        told = self.json()
        assert told["statusCode"] == self.status
        assert told["source"] == "DAYTONA_DAEMON"
        assert told["message"]
        return self.status, told["code"]


@dataclass(frozen=True)
class Followed:
    """What a websocket brought until it was closed."""

    messages: list[bytes]
    code: int | None
    reason: str

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """Stdout and stderr; every message has to keep the rules F1, F2, F3 and F6."""
        return parts_of(self.messages)

    @property
    def body(self) -> bytes:
        """All messages together."""
        return b"".join(self.messages)


def parts_of(messages: list[bytes]) -> tuple[bytes, bytes]:
    """Take labelled messages apart; none may break a rule that a client counts on."""
    found = {OUT: bytearray(), ERR: bytearray()}
    for message in messages:
        assert len(message) <= MESSAGE_MAX_BYTES
        before, *records = _MARKER.split(message)
        assert before == b"", message[:80]
        assert records, "an empty message"
        for marker, payload in zip(records[::2], records[1::2], strict=True):
            assert payload, message[-80:]
            found[marker] += payload
    return bytes(found[OUT]), bytes(found[ERR])


class Desk:
    """Asks one agent for sessions."""

    def __init__(self, client: ClientSession, agent: Agent) -> None:
        self.client = client
        self.agent = agent

    def url(self, path: str, **query: object) -> URL:
        """Return the address of a path under `/process/session`, taken as it is."""
        asked = f"?{urlencode(query)}" if query else ""
        return URL(f"{self.agent.url}/process/session{path}{asked}", encoded=True)

    async def ask(
        self,
        method: str,
        path: str = "",
        body: object = None,
        *,
        version: str = NEWEST,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """Make a request, and read its answer to the end."""
        sent = {VERSION_HEADER: version} if version else {}
        async with self.client.request(
            method,
            self.url(path, **query),
            # As a stream: a large body of bytes is warned about.
            data=None if body is None else io.BytesIO(json.dumps(body).encode()),
            headers={**sent, **(headers or {})},
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def follow(
        self,
        path: str,
        *,
        version: str = NEWEST,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Followed:
        """Follow a log by websocket to its end."""
        sent = {VERSION_HEADER: version} if version else {}
        messages = []
        async with self.client.ws_connect(
            self.url(path, **query), headers={**sent, **(headers or {})}, max_msg_size=0
        ) as socket:
            while True:
                message = await socket.receive()
                if message.type is not WSMsgType.BINARY:
                    break
                messages.append(message.data)
        assert message.type is WSMsgType.CLOSE, message
        return Followed(messages, message.data, message.extra or "")

    async def create(self, name: str = "", *, version: str = NEWEST) -> "Place":
        """Start a session, of a new name unless one is given."""
        name = name or str(uuid4())
        told = await self.ask("POST", "", {"sessionId": name}, version=version)
        assert (told.status, told.body) == (201, b""), told
        return Place(self, name)


class Place:
    """One session."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.name = name
        self.path = f"/{quote(name, safe='')}"

    async def exec(
        self, text: str, *, version: str = NEWEST, **fields: object
    ) -> Answer:
        """Ask for a command."""
        body = {"command": text, **fields}
        return await self.desk.ask("POST", f"{self.path}/exec", body, version=version)

    async def run(self, text: str, **more: Any) -> dict[str, Any]:
        """Run a command to its end; return what is told of it."""
        told = await self.exec(text, **more)
        assert told.status == 200, told
        answer: dict[str, Any] = told.json()
        return answer

    async def out(self, text: str) -> str:
        """Run a command that succeeds and complains of nothing; return its stdout."""
        told = await self.run(text)
        assert (told["exitCode"], told["stderr"]) == (0, ""), told
        stdout: str = told["stdout"]
        return stdout

    async def start(self, text: str, **more: Any) -> str:
        """Start a command that is not waited for, and return its id."""
        told = await self.exec(text, runAsync=True, **more)
        assert told.status == 202, told
        answer = told.json()
        command: str = answer.pop("cmdId")
        assert answer == dict.fromkeys(("output", "stdout", "stderr", "exitCode"))
        return command

    def at(self, command: str, what: str = "") -> str:
        """Return the path of a command, or of something of it."""
        return f"{self.path}/command/{command}{what}"

    async def told(self, command: str, **query: str) -> dict[str, Any]:
        """Return what is told of a command."""
        asked = f"?{urlencode(query)}" if query else ""
        told = await self.desk.ask("GET", self.at(command) + asked)
        assert told.status == 200, told
        answer: dict[str, Any] = told.json()
        return answer

    async def all(self) -> list[dict[str, Any]]:
        """Return what is told of all commands."""
        told = (await self.desk.ask("GET", self.path)).json()
        assert told["sessionId"] == self.name
        commands: list[dict[str, Any]] = told["commands"]
        return commands

    async def logs(self, command: str, **more: Any) -> Answer:
        """Return a command's log."""
        told = await self.desk.ask("GET", self.at(command, "/logs"), **more)
        assert told.status == 200, told
        return told

    async def follow(self, command: str, **more: Any) -> Followed:
        """Follow a command's log by websocket to its end."""
        return await self.desk.follow(self.at(command, "/logs"), follow="true", **more)

    async def code(self, command: str) -> int:
        """Wait until a command's log is over; return its exit code, which is there."""
        await self.follow(command)
        code: int = (await self.told(command))["exitCode"]
        return code

    async def send(self, command: str, text: str) -> Answer:
        """Send input."""
        return await self.desk.ask("POST", self.at(command, "/input"), {"data": text})

    async def post(self, command: str, what: str, body: object = None) -> Answer:
        """Post to `eof` or `signal`."""
        return await self.desk.ask("POST", self.at(command, f"/{what}"), body)

    async def until_printed(self, command: str, text: bytes) -> None:
        """Follow a command until its output has these bytes."""
        found = b""
        async with self.desk.client.get(
            self.desk.url(self.at(command, "/logs"), follow="true"),
            headers={VERSION_HEADER: FIRST},
        ) as answer:
            async for piece in answer.content.iter_any():
                found += piece
                if text in found:
                    return
        raise AssertionError(found[-500:])

    async def until_running(self, command: str) -> None:
        """Wait until a command's turn has come."""
        while (await self.told(command, verbose="true"))["verdict"][
            "state"
        ] == "queued":
            """The answer takes its time."""

    async def delete(self) -> Answer:
        """Delete the session."""
        return await self.desk.ask("DELETE", self.path)


def shell_path(name: str, root: Path) -> str:
    """Return the path of a shell; busybox is told by its name what to be."""
    if name != "ash":
        return SHELLS[name]
    path = root / "ash"
    if not path.exists():
        path.symlink_to(SHELLS[name])
    return str(path)


@contextlib.asynccontextmanager
async def asking(agent: Agent) -> AsyncIterator[Desk]:
    """Give a client of an agent."""
    limit = ClientTimeout(total=None)
    async with ClientSession(headers=agent.auth, timeout=limit) as client:
        yield Desk(client, agent)


@pytest.fixture(scope="module")
def module_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Return an agent that the tests of one file share, each with its own sessions."""
    with running(
        tmp_path_factory.mktemp("agent"), "--shell", "/bin/bash", "--grace-s", "1"
    ) as agent:
        yield agent


@pytest.fixture
async def desk(module_agent: Agent) -> AsyncIterator[Desk]:
    """Return a client of the shared agent; the sessions that it made are deleted."""
    async with asking(module_agent) as desk:
        yield desk
        await tidy(desk)


@pytest.fixture
async def place(desk: Desk) -> Place:
    """Return a new session."""
    return await desk.create()


@pytest.fixture(scope="module", params=list(SHELLS))
def shell_agent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agent]:
    """Return an agent of each shell."""
    root = tmp_path_factory.mktemp(request.param)
    if shutil.which(SHELLS[request.param]) is None:
        pytest.skip(f"no {request.param} here")
    shell = shell_path(request.param, root)
    with running(root / "agent", "--shell", shell, "--grace-s", "1") as agent:
        yield agent


@pytest.fixture
async def each(shell_agent: Agent) -> AsyncIterator[Place]:
    """Return a new session of each shell."""
    async with asking(shell_agent) as desk:
        yield await desk.create()
        await tidy(desk)


async def tidy(desk: Desk) -> None:
    """Delete all sessions."""
    told = (await desk.ask("GET")).json()
    await asyncio.gather(*(Place(desk, each["sessionId"]).delete() for each in told))
