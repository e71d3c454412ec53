"""One shell on a terminal.

    unstarted --start--> running --shell exits--> ended

Its process lives in the keeper, and so do the last 256 KiB of its output; everything here
can be made again from the keeper's list.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent import wire
from agent.errors import AgentError, ConflictError, GoneError, NotFoundError
from agent.keeper.client import (
    UNSEEN,
    Exit,
    Job,
    Keeper,
    Spec,
    StartError,
    Subscription,
)
from agent.pty.models import Facts, PtySessionInfo, Unstarted

KIND = "pty"
"""What the keeper's list calls these jobs."""

STORE_PREFIX = "pty/"
"""Of the names under which the keeper holds terminals that have no process yet."""

WINDOW_BYTES = 256 * 1024
"""Output under way to one client, besides what its connection holds."""

SESSION_ENDED = "SESSION_ENDED"


def gone() -> GoneError:
    """Return the error about a terminal that has ended."""
    return GoneError("PTY session has ended", code=SESSION_ENDED)


class Terminal:
    """A terminal, started or not.

    Args:
        keeper: Who has the process.
        facts: What it was created with.
        size: Rows and columns.

    Attributes:
        exit: How its shell ended, once it has.
        evicted: Set when it is no longer to be kept for those who come back.
    """

    def __init__(self, keeper: Keeper, facts: Facts, size: tuple[int, int]) -> None:
        self._keeper = keeper
        self._size = size
        self._job_id = ""
        self._deleted = False
        self._changing = asyncio.Lock()
        self._followers: set[Subscription] = set()
        self._unused = asyncio.Event()
        self._unused.set()
        self.facts = facts
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.evicted = asyncio.Event()

    @classmethod
    def of_job(cls, keeper: Keeper, job: Job) -> "Terminal":
        """Return the terminal that an earlier api process has started."""
        facts = wire.decode(job.label.encode(), Facts)
        terminal = cls(keeper, facts, (job.rows, job.columns))
        terminal._job_id = job.id
        return terminal

    @classmethod
    def of_store(cls, keeper: Keeper, held: bytes) -> "Terminal":
        """Return the terminal that an earlier api process was to start later."""
        unstarted = wire.decode(held, Unstarted)
        return cls(keeper, unstarted.facts, (unstarted.rows, unstarted.columns))

    @property
    def started(self) -> bool:
        """Whether it has, or had, a shell."""
        return bool(self._job_id)

    def info(self) -> PtySessionInfo:
        """Return what the wire tells of it."""
        rows, columns = self._size
        return PtySessionInfo(
            id=self.facts.id,
            cwd=self.facts.cwd,
            envs=self.facts.environment,
            cols=columns,
            rows=rows,
            created_at=self.facts.created,
            active=self.started and not self.exit.done(),
            lazy_start=self.facts.lazy,
        )

    # -- its life -----------------------------------------------------------------

    async def keep(self) -> None:
        """Have the keeper hold it while it has no process.

        Raises:
            TooLargeError: There is no room for more.
        """
        rows, columns = self._size
        held = Unstarted(facts=self.facts, rows=rows, columns=columns)
        await self._keeper.kv_set(self._stored_as, wire.encode(held))

    async def unkeep(self) -> None:
        """Have the keeper forget it, if it is one that has no process."""
        if self.facts.lazy:
            await self._keeper.kv_delete(self._stored_as)

    async def start(self, shell: str) -> bool:
        """Start its shell; return False when that has been done.

        Raises:
            AgentError: It cannot be started, or was deleted.
        """
        async with self._changing:
            if self._deleted:
                raise NotFoundError(f"PTY session {self.facts.id} not found")
            if self.started:
                return False
            try:
                job = await self._keeper.spawn(self._spec(shell))
            except StartError as error:
                raise AgentError(
                    f"failed to start PTY session: {error.message}"
                ) from error
            self._job_id = job.id
            await self.unkeep()
            return True

    def _spec(self, shell: str) -> Spec:
        rows, columns = self._size
        wanted = self.facts.environment or {}
        return Spec(
            argv=[shell, "-i", "-l"],
            cwd=self.facts.cwd,
            env=self.facts.environment,
            # The size of the terminal that the agent was started from is not this one's,
            # and curses would believe it.
            unset=[name for name in ("COLUMNS", "LINES") if name not in wanted],
            output="pty",
            kind=KIND,
            label=wire.encode(self.facts).decode(),
            told={"pty": self.facts.id},
            rows=rows,
            columns=columns,
        )

    async def resize(self, columns: int, rows: int) -> None:
        """Set its size; the program in it is told.

        Raises:
            GoneError: It has ended.
        """
        async with self._changing:
            if self._deleted:
                raise gone()
            if self.started:
                try:
                    await self._keeper.resize(self._job_id, rows, columns)
                except (ConflictError, NotFoundError) as error:
                    raise gone() from error
            self._size = (rows, columns)
            if not self.started:
                await self.keep()

    async def end(self) -> None:
        """Kill its shell and everything that came of it."""
        async with self._changing:
            self._deleted = True
            if not self.started:
                await self.unkeep()
                return
        try:
            await self._keeper.end(self._job_id, 0)
        except NotFoundError:
            """It has ended by itself, and was forgotten."""

    async def wait(self) -> Exit:
        """Wait for the end of its shell; from then on its clients get the rest.

        Raises:
            AgentError: The keeper is gone, or does not know it.
        """
        end = await self._keeper.wait(self._job_id)
        for each in self._followers:
            # Something may have opened the terminal again, by name, and go on writing.
            each.stop_at(end.output_bytes)
        self.exit.set_result(end)
        return end

    async def forget(self) -> None:
        """Drop it and its output, once nobody follows it any more."""
        await self._unused.wait()
        await self._keeper.forget(self._job_id)

    @property
    def _stored_as(self) -> str:
        return STORE_PREFIX + hashlib.sha256(self.facts.id.encode()).hexdigest()

    # -- its clients --------------------------------------------------------------

    @asynccontextmanager
    async def follow(self, since: int | None) -> AsyncIterator[Subscription]:
        """Follow its output from an offset, or from what no client has had yet.

        Raises:
            InvalidRequestError: It has not written so much.
        """
        offset = UNSEEN if since is None else since
        output = self._keeper.subscribe(self._job_id, offset, window_bytes=WINDOW_BYTES)
        self._followers.add(output)
        self._unused.clear()
        try:
            async with output:
                if self.exit.done():
                    output.stop_at(self.exit.result().output_bytes)
                yield output
        finally:
            self._followers.discard(output)
            if not self._followers:
                self._unused.set()

    async def write(self, data: bytes) -> None:
        """Type at it.

        Raises:
            TooLargeError: It has not read what was typed before.
            ConflictError: It has ended.
            NotFoundError: The same.
        """
        await self._keeper.write(self._job_id, data)
