"""A context: runs of code, one after the other, in one worker that keeps their state.

    idle --run--> running --done--> idle
    running --worker dies--> without worker --run--> running, with nothing of before
    any --delete--> deleted

The order of runs is the order in which they were asked for. A run whose time is up is
interrupted by SIGINT, and with the rest of its worker killed `STOP_S` later; a run belongs
to its context, so a client that leaves does not end it.

An api that is killed takes none of this along. The worker and the run under way go on in
the keeper; the next api finds the worker by its job, asks it for nothing at all, and knows
from the answer that the old run is over. The old run's time limit is kept with the keeper.
"""

import asyncio
import time
from collections.abc import Coroutine

import msgspec

from agent.errors import AgentError, ConflictError
from agent.interpreter.languages import Asked, Language, language_of
from agent.interpreter.models import Failure, InterpreterContext, Word
from agent.interpreter.run import COMPLETED, INTERRUPTED, Ending, Run, completed, died
from agent.interpreter.worker import BrokenError, DiedError, Worker, new_mark
from agent.keeper.client import Exit, Job, Keeper

STOP_S = 2.0
"""Between SIGINT and SIGKILL of a run whose time is up, and TERM and KILL of a worker."""

WAITING_MAX = 1024
"""Runs that wait in one context."""

TIMED_OUT = 4008
SHUT_DOWN = Ending(1001, "context shutdown")


class Facts(msgspec.Struct, frozen=True):
    """What a context is known by; written on its worker's job."""

    id: str
    cwd: str
    language: str
    created_at: str


class Context:
    """One context.

    Args:
        keeper: Who has its worker.
        facts: What it is known by.
        stop_s: See `STOP_S`.
    """

    def __init__(self, keeper: Keeper, facts: Facts, stop_s: float = STOP_S) -> None:
        self._keeper = keeper
        self._language: Language = language_of(facts.language)
        self._stop_s = stop_s
        self._worker: Worker | None = None
        self._turn = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._runs: dict[asyncio.Task[None], Run] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._running: Run | None = None
        self._deleted = False
        self.facts = facts

    @property
    def _limit_name(self) -> str:
        return f"interpreter-limit:{self.facts.id}"

    def model(self) -> InterpreterContext:
        """Return what the wire tells of it."""
        facts = self.facts
        return InterpreterContext(
            id=facts.id,
            cwd=facts.cwd,
            created_at=facts.created_at,
            active=self._worker is not None and self._worker.alive,
            language=facts.language,
        )

    # -- the worker ---------------------------------------------------------------

    async def start(self) -> Worker:
        """Return the worker, started if there is none.

        Raises:
            StartError: It cannot be started; says why.
            TooManyError: As many jobs as allowed are running.
        """
        async with self._starting:
            old = self._worker
            if old is not None and old.alive:
                return old
            label = msgspec.json.encode(self.facts).decode()
            self._worker = await Worker.start(
                self._keeper, self._language, self.facts.cwd, label, self.facts.id
            )
            if old is not None:
                # Kept until here, because its job is what the context is known by.
                self._retire(old)
            return self._worker

    def adopt(self, job: Job) -> None:
        """Take over the worker that an earlier api has left; older ones are ended."""
        old, self._worker = self._worker, Worker(self._keeper, self._language, job)
        if old is not None:
            self._retire(old)

    async def settle(self) -> None:
        """Let a run that an earlier api has left come to its end, within its time."""
        limit = await self._keeper.kv_get(self._limit_name)
        deadline = msgspec.json.decode(limit, type=float) if limit else 0.0
        left_s = max(0.001, deadline - time.monotonic()) if deadline else 0.0
        run = Run("", {}, timeout_s=left_s)
        run.outbox.leave()
        self._begin(run, self._settle(run))

    async def _settle(self, run: Run) -> None:
        async with self._turn:
            if self._worker is not None and self._worker.alive:
                await self._take(self._worker, run)

    def _retire(self, worker: Worker) -> None:
        task = asyncio.ensure_future(self._end(worker))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, worker: Worker) -> None:
        await worker.end(self._stop_s)
        await worker.forget()
        await worker.aclose()

    async def delete(self) -> None:
        """End the worker and all that came of it; runs end with `context shutdown`."""
        self._deleted = True
        for run in self._runs.values():
            run.end(SHUT_DOWN)
            run.outbox.hurry()
        async with self._starting:
            worker, self._worker = self._worker, None
        if worker is not None:
            await self._end(worker)
        await asyncio.gather(*self._retiring)
        await self._keeper.kv_delete(self._limit_name)
        await self._leave()

    async def aclose(self) -> None:
        """Leave it to the next api."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._leave()
        if self._worker is not None:
            await self._worker.aclose()

    async def _leave(self) -> None:
        tasks = list(self._runs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- runs ---------------------------------------------------------------------

    def submit(self, run: Run) -> None:
        """Have code run after all that was submitted before."""
        if self._deleted:
            run.end(SHUT_DOWN)
        elif len(self._runs) >= WAITING_MAX:
            run.end(Ending(1008, f"{WAITING_MAX} runs are waiting already"))
        else:
            self._begin(run, self._queue(run))

    def _begin(self, run: Run, running: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(running)
        self._runs[task] = run
        task.add_done_callback(self._runs.pop)

    async def interrupt(self) -> None:
        """Interrupt the run under way.

        Raises:
            ConflictError: There is none.
        """
        if self._running is None or self._worker is None:
            raise ConflictError(f"nothing is running in context {self.facts.id}")
        self._running.interrupted = True
        await self._worker.interrupt()

    async def _queue(self, run: Run) -> None:
        async with self._turn:
            # A client that has left before its turn came wants nothing any more.
            if run.outbox.left or run.ending is not None:
                run.end(SHUT_DOWN)
                return
            try:
                await self._run(run)
            except AgentError as error:
                default = "default " if self.facts.id == "default" else ""
                run.end(Ending(1011, f"failed to get {default}context: {error}"))

    async def _run(self, run: Run) -> None:
        """Run code in the worker that there is, or in a new one.

        Raises:
            AgentError: There is no worker to be had.
        """
        worker = await self.start()
        deadline = time.monotonic() + run.timeout_s if run.timeout_s else 0.0
        await self._keeper.kv_set(self._limit_name, msgspec.json.encode(deadline))
        ending = await self._take(worker, run)
        if ending is None:
            # It had died of itself, and nobody had noticed yet.
            ending = await self._take(await self.start(), run)
        run.end(ending or died("it did not start"))

    async def _take(self, worker: Worker, run: Run) -> Ending | None:
        """Run code in a worker, for as long as it may; None when that did not begin."""
        asked = Asked(new_mark(), new_mark(), run.code, run.envs, run.rich)
        task = asyncio.ensure_future(worker.run(asked, run.tell))
        self._running = run
        try:
            done, _ = await asyncio.wait({task}, timeout=run.timeout_s or None)
            if not done:
                await self._stop(worker, run, task)
        finally:
            self._running = None
            task.cancel()
            await asyncio.wait({task})
        return self._ending(worker, run, task, timed_out=not done)

    async def _stop(self, worker: Worker, run: Run, task: "asyncio.Task[Word]") -> None:
        """Stop a run whose time is up: ask, then kill."""
        run.outbox.hurry()
        await worker.interrupt()
        done, _ = await asyncio.wait({task}, timeout=self._stop_s)
        if not done:
            await worker.end(0)
            await asyncio.wait({task})

    def _ending(
        self, worker: Worker, run: Run, task: "asyncio.Task[Word]", *, timed_out: bool
    ) -> Ending | None:
        error = task.exception()
        if isinstance(error, BrokenError):
            self._retire_broken(worker)
        if self._deleted:
            return SHUT_DOWN
        if timed_out:
            return Ending(TIMED_OUT)
        if isinstance(error, DiedError) and error.begun and self._language.exits:
            exited = _exited(error.how)
            if exited is not None:
                return exited
        if error is not None:
            return _ending_of(error)
        word = INTERRUPTED if run.interrupted else COMPLETED
        return completed(task.result().error, word)

    def _retire_broken(self, worker: Worker) -> None:
        if self._worker is worker:
            self._worker = None
        self._retire(worker)


def _exited(how: Exit) -> Ending | None:
    """Return the ending of a run that has ended its shell; None when that was killed."""
    if how.signal:
        return None
    failure = Failure("CommandError", f"exit code {how.exit_code}", "")
    return completed(failure if how.exit_code else None, COMPLETED)


def _ending_of(error: BaseException) -> Ending | None:
    """Return the ending that a failure stands for; None when nothing was run."""
    match error:
        case DiedError(begun=False):
            return None
        case DiedError() | BrokenError():
            return died(str(error))
        case AgentError():
            return Ending(1008, error.message)
        case _:
            raise error
