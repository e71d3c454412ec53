"""The owner of all terminals.

Ids are the clients' own. A terminal is in the table from before its shell is started, so
that of two that ask for one id at once the second is refused, until its shell has exited;
then it can be found for some time only by those who say from which offset they go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from agent.errors import AgentError, ConflictError, NotFoundError, TooManyError
from agent.keeper.client import Keeper, Subscription
from agent.process.shell import Shells
from agent.pty.attachment import PING_S, Attachment, Line, refuse
from agent.pty.models import Facts
from agent.pty.requests import Wanted
from agent.pty.terminal import KIND, STORE_PREFIX, Terminal, gone

RESUME_S = 60.0
"""For which the rest of an ended terminal's output is kept for those who come back."""

ENDED_MAX = 32
"""Of those kept so; each is 256 KiB."""

UNSTARTED_MAX = 256
"""Terminals that wait for their first client; they cost no process, so nothing else counts them."""

NOT_FOUND = "PROCESS_NOT_FOUND"


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """How a client connects.

    Attributes:
        since: The offset to go on from; None for what no client has had.
        told_exit: It understands the message that the shell has exited.
    """

    since: int | None = None
    told_exit: bool = False


OpenLine = Callable[[], Awaitable[Line]]
"""Answers the upgrade. What comes before is still answered by plain HTTP."""


class Terminals:
    """All terminals.

    Args:
        keeper: Who has the processes.
        work_dir: The absolute directory that relative ones resolve against.
        ping_s: Between two pings to a client.
        resume_s: For which ended terminals can be gone on with.
    """

    def __init__(
        self,
        keeper: Keeper,
        work_dir: str,
        *,
        ping_s: float = PING_S,
        resume_s: float = RESUME_S,
    ) -> None:
        self._keeper = keeper
        self._work_dir = work_dir
        self._shells = Shells(keeper)
        self._ping_s = ping_s
        self._resume_s = resume_s
        self._by_id: dict[str, Terminal] = {}
        self._ended: dict[str, Terminal] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Find what an earlier api process has left."""
        if self._keeper.generation == 1:
            return
        for name in await self._keeper.kv_list():
            held = name.startswith(STORE_PREFIX) and await self._keeper.kv_get(name)
            if held:
                self._adopt(Terminal.of_store(self._keeper, held))
        for job in await self._keeper.list(KIND):
            # It replaces one that was started when the other process was killed.
            terminal = Terminal.of_job(self._keeper, job)
            self._adopt(terminal)
            self._mind(terminal)
        by_age = sorted(self._by_id.items(), key=lambda each: each[1].facts.created)
        self._by_id = dict(by_age)

    def _adopt(self, terminal: Terminal) -> None:
        self._by_id[terminal.facts.id] = terminal

    async def aclose(self) -> None:
        """Stop minding them; they live on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- finding ------------------------------------------------------------------

    def all(self) -> list[Terminal]:
        """Return all terminals, in the order they were created in."""
        return list(self._by_id.values())

    def get(self, session_id: str) -> Terminal:
        """Return a terminal.

        Raises:
            NotFoundError: There is none of that id, or its shell has exited.
        """
        terminal = self._by_id.get(session_id)
        if terminal is None:
            raise NotFoundError("PTY session not found", code=NOT_FOUND)
        return terminal

    def _find(self, session_id: str, since: int | None) -> Terminal:
        terminal = self._by_id.get(session_id)
        if terminal is None and since is not None:
            terminal = self._ended.get(session_id)
        if terminal is None:
            raise NotFoundError(f"PTY session {session_id} not found")
        return terminal

    # -- their lives --------------------------------------------------------------

    async def create(self, wanted: Wanted) -> Terminal:
        """Open a terminal.

        Raises:
            ConflictError: There is one of that id.
            TooManyError: There are as many as allowed.
            AgentError: Its shell cannot be started; it is as if it had never been.
        """
        if wanted.id in self._by_id:
            raise ConflictError(f"PTY session {wanted.id} already exists")
        if wanted.lazy and self._unstarted() >= UNSTARTED_MAX:
            raise TooManyError(f"{UNSTARTED_MAX} PTY sessions wait for a client")
        facts = Facts(
            id=wanted.id,
            cwd=str(Path(self._work_dir, wanted.cwd)),
            environment=wanted.environment,
            created=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            lazy=wanted.lazy,
        )
        terminal = Terminal(self._keeper, facts, (wanted.rows, wanted.columns))
        self._by_id[wanted.id] = terminal
        if wanted.lazy:
            async with self._dropped_on_failure(terminal):
                await terminal.keep()
        else:
            await self._start(terminal)
        return terminal

    async def resize(self, session_id: str, columns: int, rows: int) -> Terminal:
        """Set a terminal's size.

        Raises:
            GoneError: It has ended, or there never was one.
        """
        terminal = self._by_id.get(session_id)
        if terminal is None:
            raise gone()
        await terminal.resize(columns, rows)
        return terminal

    async def delete(self, session_id: str) -> None:
        """Kill a terminal's shell and everything that came of it.

        Raises:
            NotFoundError: There is none of that id.
        """
        terminal = self.get(session_id)
        del self._by_id[session_id]
        await terminal.end()

    async def _start(self, terminal: Terminal) -> None:
        async with self._dropped_on_failure(terminal):
            if await terminal.start(await self._shells.choose()):
                self._mind(terminal)

    @contextlib.asynccontextmanager
    async def _dropped_on_failure(self, terminal: Terminal) -> AsyncIterator[None]:
        try:
            yield
        except AgentError:
            self._drop(terminal)
            await terminal.unkeep()
            raise

    def _drop(self, terminal: Terminal) -> None:
        if self._by_id.get(terminal.facts.id) is terminal:
            del self._by_id[terminal.facts.id]

    def _unstarted(self) -> int:
        return sum(not each.started for each in self._by_id.values())

    def _mind(self, terminal: Terminal) -> None:
        task = asyncio.create_task(self._until_forgotten(terminal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_forgotten(self, terminal: Terminal) -> None:
        with contextlib.suppress(AgentError):
            await terminal.wait()
            self._drop(terminal)
            await self._kept_for_a_while(terminal)
            await terminal.forget()

    async def _kept_for_a_while(self, terminal: Terminal) -> None:
        session_id = terminal.facts.id
        if before := self._ended.pop(session_id, None):
            before.evicted.set()
        self._ended[session_id] = terminal
        if len(self._ended) > ENDED_MAX:
            self._ended.pop(next(iter(self._ended))).evicted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._resume_s):
                await terminal.evicted.wait()
        if self._ended.get(session_id) is terminal:
            del self._ended[session_id]

    # -- their clients ------------------------------------------------------------

    async def attend(self, terminal: Terminal, line: OpenLine, visit: Visit) -> None:
        """Serve a client of a terminal until either of them is gone."""
        async with terminal.follow(visit.since) as output:
            await self._serve(terminal, output, await line(), visit)

    async def connect(self, session_id: str, line: OpenLine, visit: Visit) -> None:
        """Serve a client, whatever it asks for: a refusal is told over the line."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                terminal = self._find(session_id, visit.since)
                if not terminal.started:
                    await self._start(terminal)
                output = await stack.enter_async_context(terminal.follow(visit.since))
            except AgentError as error:
                await refuse(await line(), error.message)
                return
            await self._serve(terminal, output, await line(), visit)

    async def _serve(
        self, terminal: Terminal, output: Subscription, line: Line, visit: Visit
    ) -> None:
        client = Attachment(
            terminal, line, output, told_exit=visit.told_exit, ping_s=self._ping_s
        )
        await client.run(tell_offset=visit.since is not None)
