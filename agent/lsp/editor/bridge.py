"""An editor's own language server, over a websocket: one message, one JSON text.

Each connection has a server process of its own, because `initialize` is said once. What
both say is passed on as it is, but for the editor's process id: it names nobody here, and
servers end when that process is gone.
"""

import asyncio
import contextlib
import os
from collections import deque

import msgspec

from agent.errors import AgentError
from agent.lsp.candidates import family_of, installed
from agent.lsp.child import Child, Command, Hooks
from agent.lsp.framing import Framer, FramingError, frame
from agent.lsp.places import Project
from agent.lsp.registry import LanguageServers
from agent.web.duplex import Duplex
from agent.web.websockets import beside

WAITING_MAX_BYTES = 64 * 1024 * 1024
"""Said by a server and not taken by its editor, which is then disconnected."""
BRIDGES_MAX = 8
EXIT_LIMIT_S = 2.0
NORMAL, TOO_SLOW, BROKEN = 1000, 1008, 1011


class Bridge:
    """One editor and its server; made by `open`."""

    def __init__(self) -> None:
        self._framer = Framer()
        self._said: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._bell = asyncio.Event()
        self._over: tuple[int, str] | None = None
        self._child: Child | None = None

    @classmethod
    async def open(
        cls, servers: LanguageServers, language: str, project: Project
    ) -> "Bridge":
        """Start the server.

        Raises:
            InvalidRequestError: No such language.
            AgentError: No server is installed, or it cannot be started.
        """
        configuration = await servers.configuration(afresh=True)
        family = family_of(language, configuration.families)
        environment = await servers.environment()
        found = await servers.threads.run(
            installed, family, project.path, environment.get("PATH", "")
        )
        if not found:
            raise AgentError(f"no language server for {family.name} is installed")
        bridge = cls()
        command = Command(
            words=found[0].words, cwd=project.path, environment=environment
        )
        hooks = Hooks(received=bridge.take, exited=bridge.ended)
        try:
            await Child.start(command, hooks, servers.threads, bridge.attach)
        except OSError as error:
            raise AgentError(f"{found[0].candidate.name}: {error}") from error
        return bridge

    def attach(self, child: Child) -> None:
        """Say which process it is."""
        self._child = child

    @property
    def child(self) -> Child:
        """The process."""
        assert self._child is not None  # noqa: S101 - attached by `open`
        return self._child

    def take(self, content: bytes) -> None:
        """Take bytes from the server."""
        if self._over is not None:
            return
        try:
            messages = self._framer.feed(content)
        except FramingError as error:
            self._end(BROKEN, str(error))
            return
        self._said += messages
        self._waiting_bytes += sum(map(len, messages))
        if self._waiting_bytes > WAITING_MAX_BYTES:
            self._end(TOO_SLOW, "the client is too slow")
        self._bell.set()

    def ended(self) -> None:
        """Note that the server has ended."""
        self._end(NORMAL, f"the language server ended ({self.child.ending})")

    def _end(self, code: int, reason: str) -> None:
        self._over = self._over or (code, reason)
        self._bell.set()

    async def run(self, socket: Duplex) -> None:
        """Pass on what both say until one of them has enough."""
        try:
            with contextlib.suppress(ConnectionResetError):
                async with beside(self._hear(socket)):
                    await self._speak(socket)
                code, reason = self._over or (NORMAL, "")
                await socket.close(code, reason)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the server."""
        self.child.close_input()
        await self.child.wait(EXIT_LIMIT_S)
        await self.child.end()

    async def _speak(self, socket: Duplex) -> None:
        while True:
            self._bell.clear()
            while self._said:
                message = self._said.popleft()
                self._waiting_bytes -= len(message)
                await socket.send_text(message)
            if self._over is not None:
                return
            await self._bell.wait()

    async def _hear(self, socket: Duplex) -> None:
        try:
            while (message := await socket.receive()) is not None:
                self.child.write(frame(_with_our_process(message)))
                await self.child.room()
            self._end(NORMAL, "")
        except BrokenPipeError as error:
            self._end(BROKEN, str(error))


def _with_our_process(message: bytes) -> bytes:
    if b'"initialize"' not in message:
        return message
    try:
        said = msgspec.json.decode(message)
    except msgspec.DecodeError:
        return message
    if isinstance(said, dict) and said.get("method") == "initialize":
        params = said.get("params")
        if isinstance(params, dict):
            params["processId"] = os.getpid()
            return msgspec.json.encode(said)
    return message
