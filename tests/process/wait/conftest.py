"""The route that waits, on a real keeper with a session in it."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.files.watch import routes as watch_routes
from agent.keeper.client import Keeper
from agent.keeper.session_client import CommandSpec, KeptSessions, ShellSpec
from agent.process.wait import routes as wait_routes
from agent.registry import KEEPER, WATCHES, WORK_DIR
from agent.settings import Settings
from tests.keeper.harness import running
from tests.support.serving import AUTH, TOKEN, Served, serving, settled

SESSION = "work"


class Desk:
    """Asks for waits, and has commands run in one session.

    Attributes:
        work_dir: The work dir.
        keeper: Who runs the commands.
    """

    def __init__(self, served: Served, keeper: Keeper, work_dir: Path) -> None:
        self.served = served
        self.keeper = keeper
        self.work_dir = work_dir
        self._sessions = KeptSessions(keeper)
        self._ids = itertools.count(1)

    async def open(self) -> None:
        """Start the session."""
        spec = ShellSpec(
            argv=["/bin/sh"],
            plain_argv=["/bin/sh"],
            prefix="command",
            cwd=str(self.work_dir),
        )
        await self._sessions.create(SESSION, spec)

    async def start(self, text: str, **fields: Any) -> str:
        """Start a command; return its id."""
        command_id = f"command-{next(self._ids)}"
        spec = CommandSpec(
            id=command_id, text=text.encode(), takes_input=True, echoes=False, **fields
        )
        await self._sessions.start(SESSION, spec)
        return command_id

    async def run(self, text: str, **fields: Any) -> str:
        """Run a command to its end; return its id."""
        command_id = await self.start(text, **fields)
        await self.keeper.wait(command_id)
        return command_id

    async def feed(self, command_id: str, line: str = "") -> None:
        """Write a line to a command's input."""
        await self.keeper.write(command_id, f"{line}\n".encode())

    async def delete_session(self) -> None:
        """End the session and all that came of it."""
        await self._sessions.end(SESSION, 0)

    async def ask(self, body: object) -> tuple[int, Any]:
        """Wait; return the status and what is told."""
        url = f"{self.served.url}/process/wait"
        async with self.served.client.post(url, json=body) as answer:
            return answer.status, await answer.json()

    async def wait(
        self, *conditions: object, mode: str = "any", limit_s: float = 8
    ) -> dict[str, Any]:
        """Wait; return what is told, which has to be an answer."""
        body = {"conditions": conditions, "mode": mode, "timeout": limit_s}
        status, told = await self.ask(body)
        assert status == 200, told
        answer: dict[str, Any] = told
        return answer

    @contextlib.asynccontextmanager
    async def waiting(
        self,
        *conditions: object,
        until: Callable[["Desk"], object],
        mode: str = "any",
        limit_s: float = 8,
    ) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
        """Wait beside the test, which goes on when the wait has come so far."""
        task = asyncio.create_task(self.wait(*conditions, mode=mode, limit_s=limit_s))
        try:
            await settled(lambda: task.done() or until(self))
            assert not task.done(), task.result()
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def waits(self) -> int:
        """How many waits are under way."""
        return self.served.app[wait_routes.WAITS]._waits

    @property
    def follows(self) -> int:
        """How many times a command's log is followed."""
        followed = [each._job_id for each in self.keeper._subscriptions.values()]
        return sum(each.startswith("command-") for each in followed)

    @property
    def awaits_end(self) -> bool:
        """Whether a command's end is waited for."""
        return bool(self.keeper._exits)

    @property
    def listens(self) -> bool:
        """Whether all that is to be watched is watched."""
        owner = self.served.app[WATCHES]
        trees = owner._trees.values()
        return owner._listeners > 0 and all(
            tree._opened.done() and tree._bells for tree in trees if tree.listeners
        )


def command(command_id: str, session_id: str = SESSION) -> dict[str, Any]:
    """Return the condition that a command has ended."""
    return {"command": {"sessionId": session_id, "commandId": command_id}}


def log(command_id: str, pattern: str, **fields: Any) -> dict[str, Any]:
    """Return the condition that a command has written something."""
    named = {"sessionId": SESSION, "commandId": command_id}
    return {"log": {**named, "pattern": pattern, **fields}}


def quiet(command_id: str, milliseconds: int) -> dict[str, Any]:
    """Return the condition that a command is silent."""
    named = {"sessionId": SESSION, "commandId": command_id}
    return {"quiet": {**named, "milliseconds": milliseconds}}


def file(path: Path | str, state: str = "exists") -> dict[str, Any]:
    """Return a condition on a file."""
    return {"file": {"path": str(path), "state": state}}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """Serve the route; nothing that waits may be left."""
    async with running(tmp_path) as house:
        keeper = await house.open()

        def prepare(app: web.Application) -> None:
            app[WORK_DIR] = str(house.work_dir)
            app[KEEPER] = keeper

        async with serving(
            [wait_routes.routes],
            [watch_routes.context, wait_routes.context],
            Settings(token=TOKEN, state_dir=str(tmp_path / "state")),
            prepare=prepare,
            headers=AUTH,
        ) as served:
            desk = Desk(served, keeper, house.work_dir)
            await desk.open()
            yield desk
            assert desk.waits == 0
        kinds = {job.kind for job in await keeper.list()}
        assert kinds <= {"session", "session-command"}
