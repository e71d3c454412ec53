"""Waits for any or all of some conditions, with a limit.

Each condition is a task that returns its facts, or fails when it cannot come to hold any
more. Nothing of a wait outlives it: whoever leaves ends the tasks, the programs that try
expressions, and the listening to files.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from agent import wire
from agent.errors import (
    AgentError,
    InvalidRequestError,
    TooManyError,
    UnavailableError,
)
from agent.files.watch.watches import Watches
from agent.keeper.client import Keeper, KeeperGoneError
from agent.process.wait import commands, endpoints
from agent.process.wait.entries import Entries
from agent.process.wait.expression import KIND, trying
from agent.process.wait.models import (
    Condition,
    ConditionResult,
    Facts,
    FileCondition,
    LogCondition,
    WaitRequest,
    WaitResponse,
)

log = logging.getLogger("agent.process")

WAITS_MAX = 64
"""At a time: each holds a connection, and up to 64 conditions."""

EXPRESSIONS_MAX = 16
"""At a time, in all waits: each is a process of some 10 MiB."""

Watching = Coroutine[None, None, Facts]


class Waits:
    """The owner of all that is waited for.

    Args:
        keeper: Who has the commands.
        watches: Who watches files.
        work_dir: The absolute directory that relative paths start from.
    """

    def __init__(self, keeper: Keeper, watches: Watches, work_dir: str) -> None:
        self._keeper = keeper
        self._entries = Entries(watches, work_dir)
        self._waits = 0
        self._expressions = 0
        self._ends: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """End what an api that was killed has left waiting."""
        if self._keeper.generation > 1:
            self._keep(self._end_strays())

    async def aclose(self) -> None:
        """Wait until what was ended is gone."""
        await asyncio.gather(*self._ends, return_exceptions=True)
        await self._entries.aclose()

    async def run(self, asked: WaitRequest, left: asyncio.Event) -> WaitResponse:
        """Wait until the conditions hold, cannot hold any more, or the time is over.

        Args:
            asked: For what, and how long.
            left: Set when nobody is to be answered any more.

        Raises:
            InvalidRequestError: A condition makes no sense.
            NotFoundError: There is no such session or command.
            TooManyError: There are too many waits, or too many expressions.
            UnavailableError: Nobody is to be answered any more.
        """
        if self._waits >= WAITS_MAX:
            raise TooManyError(f"{WAITS_MAX} waits are under way")
        self._waits += 1
        try:
            async with AsyncExitStack() as stack:
                watchings: list[Watching] = []
                stack.callback(_close_all, watchings)
                for condition in asked.conditions:
                    # One by one, so that those before a bad one are closed.
                    watchings.append(  # noqa: PERF401
                        await self._prepare(condition, asked, stack)
                    )
                return await _Wait(asked).run(watchings, left)
        finally:
            self._waits -= 1

    async def _prepare(
        self, condition: Condition, asked: WaitRequest, stack: AsyncExitStack
    ) -> Watching:
        """Check a condition against what there is; return what waits for it."""
        key = _key_of(condition)
        if key in {"command", "log", "quiet"}:
            return await self._prepare_command(condition, asked, stack)
        if condition.port is not None:
            hosts = endpoints.hosts_of(condition.port.host)
            return endpoints.until_open(condition.port, hosts)
        if condition.http is not None:
            target = endpoints.target_of(condition.http.url)
            return endpoints.until_answered(condition.http, target)
        assert condition.file is not None  # noqa: S101 - there is one, and it is no other
        return await self._prepare_file(condition.file)

    async def _prepare_command(
        self, condition: Condition, asked: WaitRequest, stack: AsyncExitStack
    ) -> Watching:
        named = condition.command or condition.log or condition.quiet
        assert named is not None  # noqa: S101 - the caller has looked
        keeper = self._keeper
        job = await commands.find_job(keeper, named.session_id, named.command_id)
        if condition.command is not None:
            return commands.until_ended(keeper, job.id)
        if condition.quiet is not None:
            return commands.until_quiet(keeper, job.id, condition.quiet)
        assert condition.log is not None  # noqa: S101 - as above
        commands.check_offset(job, condition.log.offset)
        matcher = await self._matcher(condition.log, asked.timeout, stack)
        return commands.until_said(keeper, job.id, condition.log, matcher)

    async def _matcher(
        self, condition: LogCondition, limit_s: float, stack: AsyncExitStack
    ) -> commands.Matcher:
        if not condition.regex:
            return commands.LiteralMatcher(condition.pattern)
        if self._expressions >= EXPRESSIONS_MAX:
            raise TooManyError(f"{EXPRESSIONS_MAX} expressions are waited for")
        self._expressions += 1
        stack.callback(self._one_expression_less)
        program = trying(self._keeper, condition.pattern, limit_s, self._end)
        return await stack.enter_async_context(program)

    def _one_expression_less(self) -> None:
        self._expressions -= 1

    async def _prepare_file(self, condition: FileCondition) -> Watching:
        path, before = await self._entries.resolve(condition)
        return self._entries.until(path, condition.state, before)

    # -- programs -----------------------------------------------------------------

    def _end(self, job_id: str) -> None:
        self._keep(self._end_job(job_id))

    async def _end_job(self, job_id: str) -> None:
        try:
            await self._keeper.end(job_id, 0)
            await self._keeper.wait(job_id)
            await self._keeper.forget(job_id)
        except AgentError as error:
            # Nobody is left to be told; its own time limit ends it, too.
            log.warning("an expression's program could not be ended: %s", error)

    async def _end_strays(self) -> None:
        # Asked before the first request is served, so none of them is ours.
        for job in await self._keeper.list(KIND):
            await self._end_job(job.id)

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


def _close_all(watchings: list[Watching]) -> None:
    """Close what was never begun, because a later condition makes no sense."""
    for each in watchings:
        each.close()


def _key_of(condition: Condition) -> str:
    given = [
        name
        for name in condition.__struct_fields__
        if getattr(condition, name) is not None
    ]
    if len(given) != 1:
        keys = ", ".join(condition.__struct_fields__)
        raise InvalidRequestError(f"a condition has exactly one of {keys}")
    return given[0]


class _Wait:
    """One wait, from the moment on that its conditions are known to make sense."""

    def __init__(self, asked: WaitRequest) -> None:
        self._asked = asked
        self._keys = [_key_of(each) for each in asked.conditions]
        self._began = time.monotonic()
        self._news = asyncio.Event()
        self._held: list[int] = []
        self._results = [
            ConditionResult(index=index, state="pending")
            for index in range(len(asked.conditions))
        ]

    async def run(self, watchings: list[Watching], left: asyncio.Event) -> WaitResponse:
        """Wait for all of them, and return what they have come to."""
        leaving = asyncio.create_task(left.wait())
        leaving.add_done_callback(lambda _: self._news.set())
        tasks = [asyncio.create_task(each) for each in watchings]
        for index, task in enumerate(tasks):
            task.add_done_callback(partial(self._note, index))
        timed_out = False
        try:
            async with asyncio.timeout(self._asked.timeout):
                await self._until_decided(tasks, left)
        except TimeoutError:
            timed_out = True
        finally:
            leaving.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, leaving, return_exceptions=True)
        _raise_faults(tasks)
        return WaitResponse(
            satisfied=self._is_satisfied(),
            timed_out=timed_out and not self._is_satisfied(),
            duration_seconds=self._elapsed(),
            held=self._held,
            conditions=self._results,
        )

    async def _until_decided(
        self, tasks: list[asyncio.Task[Facts]], left: asyncio.Event
    ) -> None:
        while not self._is_decided():
            await self._news.wait()
            self._news.clear()
            if left.is_set():
                raise UnavailableError("the agent is shutting down")
            _raise_faults(tasks)

    def _note(self, index: int, task: asyncio.Task[Facts]) -> None:
        self._news.set()
        if task.cancelled() or self._results[index].state != "pending":
            return
        error = task.exception()
        if error is None:
            self._held.append(index)
            facts: dict[str, object] = {self._keys[index]: task.result()}
            state = "held"
        else:
            facts = {"reason": _reason(error)}
            state = "failed"
        self._results[index] = msgspec.structs.replace(
            self._results[index], state=state, after_seconds=self._elapsed(), **facts
        )

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 4)

    def _is_satisfied(self) -> bool:
        wanted = 1 if self._asked.mode == "any" else len(self._results)
        return len(self._held) >= wanted

    def _is_decided(self) -> bool:
        if self._is_satisfied():
            return True
        failed = sum(each.state == "failed" for each in self._results)
        return failed > 0 if self._asked.mode == "all" else failed == len(self._results)


def _reason(error: BaseException) -> str:
    if isinstance(error, AgentError):
        return wire.printable(error.message)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "internal error"


def _raise_faults(tasks: list[asyncio.Task[Facts]]) -> None:
    """Let through what is no condition's failure, but ours."""
    for task in tasks:
        if not task.done() or task.cancelled():
            continue
        error = task.exception()
        if isinstance(error, KeeperGoneError):
            raise error
        if error is not None and not isinstance(error, AgentError | OSError):
            raise error
