"""Workspace symbols of a Python project whose server has none (contract 40 §9).

A process of its own keeps them (`programs/python_symbols.py`). It is started by the first
question and ends with the server that it stands in for.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from agent.errors import AgentError
from agent.files.threads import Threads
from agent.lsp.child import Child, Command, Hooks
from agent.lsp.client import Client, make_line
from agent.lsp.following import Disk
from agent.lsp.places import Project

PROGRAM = Path(__file__).with_name("programs") / "python_symbols.py"
LIMIT_S = 60.0
"""For one question; the program itself gives up parsing earlier."""


class SymbolIndex:
    """The symbols of one project.

    Args:
        project: Its directory.
        threads: For what blocks.
        environment: Returns what the process is started with.
    """

    def __init__(
        self,
        project: Project,
        threads: Threads,
        environment: Callable[[], Awaitable[dict[str, str]]],
    ) -> None:
        self._project = project
        self._threads = threads
        self._environment = environment
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def ask(self, query: str, disk: Disk) -> msgspec.Raw:
        """Return the matches for a query as they came.

        Args:
            query: What is looked for.
            disk: Knows what changed, so that not all has to be looked at.

        Raises:
            AgentError: The process cannot be started, or died.
        """
        async with self._lock:
            client = self._client
            if client is None or client.failure is not None:
                disk.recent = None
                client = self._client = await self._start()
        changed = disk.take_recent()
        try:
            params = {"query": query, "changed": changed}
            return await client.ask("workspace/symbol", params, LIMIT_S)
        except BaseException:
            # It may not have heard of the changes.
            disk.recent = None
            raise

    @property
    def pid(self) -> int | None:
        """The process, if it runs."""
        client = self._client
        return None if client is None or client.failure else client.child.pid

    async def aclose(self) -> None:
        """End the process."""
        async with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.fail(AgentError("the symbol index was closed"))
            await client.child.end()

    async def _start(self) -> Client:
        if self._client is not None:
            await self._client.child.end()
        ended = AgentError("the symbol index ended")
        client = Client(broken=lambda: None)
        client.speak(
            await self._threads.run(make_line, client.write, {}, lambda *_: None)
        )
        command = Command(
            words=(sys.executable, "-I", "-S", str(PROGRAM), self._project.path),
            cwd=self._project.path,
            environment=await self._environment(),
        )
        hooks = Hooks(received=client.received, exited=lambda: client.fail(ended))
        try:
            await Child.start(command, hooks, self._threads, client.attach)
        except OSError as error:
            raise AgentError(f"the symbol index cannot be started: {error}") from error
        return client
