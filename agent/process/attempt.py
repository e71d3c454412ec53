"""A command as something that is run once and answered as often as it is asked for."""

from collections.abc import Awaitable, Callable

from agent.keeper.client import RunResult
from agent.web.idempotency import Answered


class RunAttempt:
    """A command that is answered as a whole, for `agent.web.idempotency.Keys`.

    Args:
        start: Runs it under a job's name.
        result: Returns what came of that name.
        forget: Drops it.
        answer: Makes the answer.
    """

    def __init__(
        self,
        start: Callable[[str], Awaitable[RunResult]],
        result: Callable[[str], Awaitable[RunResult]],
        forget: Callable[[str], Awaitable[None]],
        answer: Callable[[RunResult], Answered],
    ) -> None:
        self._start = start
        self._result = result
        self._forget = forget
        self._answer = answer

    async def first(self, job_id: str) -> Answered:
        """Run it, and return its outcome."""
        return self._answer(await self._start(job_id))

    async def again(self, job_id: str) -> Answered:
        """Return the outcome of what runs or ran."""
        return self._answer(await self._result(job_id))

    async def stored(self, job_id: str) -> None:
        """Drop the result."""
        await self._forget(job_id)
