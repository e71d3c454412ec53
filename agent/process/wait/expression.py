"""Tries an expression on output, in a program of its own (see `program`)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from agent.errors import AgentError, InvalidRequestError, UnavailableError
from agent.keeper.client import Chunk, Keeper, Spec, Subscription
from agent.process.wait.program import HEAD
from agent.process.wait.text import Found

KIND = "wait"
"""What the keeper's list calls these programs."""

START_LIMIT_S = 10.0
"""Until the expression is read."""

ANSWER_LIMIT_S = 10.0
"""For one batch of output: an expression that takes longer has no end in sight."""

ROOM = os.path.abspath(__file__).removesuffix("/agent/process/wait/expression.py")
"""Where the package lies, for a program that does not look for it anywhere else."""
PROGRAM = (
    f"import sys; sys.path.insert(0, {ROOM!r});"
    " from agent.process.wait.program import main; main()"
)
ARGV = (sys.executable, "-I", "-S", "-X", "utf8", "-c", PROGRAM)


class _Word(msgspec.Struct, frozen=True, kw_only=True):
    """A line that the program says."""

    ready: bool = False
    invalid: str | None = None
    stream: int = 0
    offset: int = 0
    end: int = 0
    line: str = ""
    match: str = ""


class Expression:
    """A program that tries one expression; made by `trying`.

    Args:
        keeper: Who runs it.
        job_id: Its job.
        output: What it says.
    """

    def __init__(self, keeper: Keeper, job_id: str, output: Subscription) -> None:
        self._keeper = keeper
        self._job_id = job_id
        self._output = output
        self._said = bytearray()

    async def begin(self, pattern: str) -> None:
        """Wait until the expression was read.

        Raises:
            InvalidRequestError: It is none.
        """
        word = await self._word(START_LIMIT_S)
        if word.invalid is not None:
            raise InvalidRequestError(f"pattern {pattern[:100]!r}: {word.invalid}")

    async def look(self, chunks: Sequence[Chunk]) -> Found | None:
        """Return the first match in what comes next, if there is one.

        Raises:
            UnavailableError: It takes too long, or the program has ended.
        """
        frames = bytearray()
        for chunk in chunks:
            frames += HEAD.pack(chunk.stream, chunk.offset, len(chunk.data))
            frames += chunk.data
        frames += HEAD.pack(0, 0, 0)
        try:
            await self._keeper.write(self._job_id, bytes(frames))
        except AgentError as error:
            raise UnavailableError("the program that tries it has ended") from error
        word = await self._word(ANSWER_LIMIT_S)
        if not word.stream:
            return None
        return Found(word.stream, word.offset, word.end, word.line, word.match)

    async def _word(self, limit_s: float) -> _Word:
        try:
            async with asyncio.timeout(limit_s):
                return msgspec.json.decode(await self._line(), type=_Word)
        except TimeoutError as error:
            raise UnavailableError("the expression takes too long") from error
        except (msgspec.DecodeError, StopAsyncIteration) as error:
            raise UnavailableError("the program that tries it has ended") from error

    async def _line(self) -> bytes:
        while b"\n" not in self._said:
            self._said += (await anext(self._output)).data
        line, _, rest = self._said.partition(b"\n")
        self._said = rest
        return bytes(line)


@asynccontextmanager
async def trying(
    keeper: Keeper, pattern: str, limit_s: float, end: Callable[[str], None]
) -> AsyncIterator[Expression]:
    """Give a program that tries an expression, for as long as it is needed.

    Args:
        keeper: Who runs it.
        pattern: The expression.
        limit_s: After which nobody can need it any more.
        end: Has a job ended and forgotten.

    Raises:
        InvalidRequestError: It is no expression.
        TooManyError: As many commands as the agent allows are running.
    """
    spec = Spec(
        argv=[*ARGV, json.dumps(pattern)],
        cwd="/",
        stdin="pipe",
        live=True,
        kind=KIND,
        timeout_s=limit_s + START_LIMIT_S,
    )
    job_id = (await keeper.spawn(spec)).id
    try:
        async with keeper.subscribe(job_id) as output:
            expression = Expression(keeper, job_id, output)
            await expression.begin(pattern)
            yield expression
    finally:
        end(job_id)
