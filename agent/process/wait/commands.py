"""Conditions on a session's command: its end, a text in its log, its silence."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal as OneOf, Protocol

from agent.errors import InvalidRequestError, NotFoundError, UnavailableError
from agent.keeper.client import Chunk, Job, Keeper, Subscription
from agent.keeper.session_client import KeptSessions
from agent.process.wait.models import (
    CommandFacts,
    LogCondition,
    LogFacts,
    QuietCondition,
    QuietFacts,
)
from agent.process.wait.text import Found, Literal

NOT_FOUND = "PROCESS_NOT_FOUND"

ENTRYPOINT = "entrypoint"
"""The session of the image's own command, and the name of its job."""
ENTRYPOINT_COMMAND = "entrypoint_command"

BATCH_BYTES = 256 * 1024
"""Of a log, looked at together."""

NUMBERS = {"stdout": 1, "stderr": 2}

FORGOTTEN = "the command was forgotten"


class Matcher(Protocol):
    """Looks for a match in what comes."""

    async def look(self, chunks: Sequence[Chunk]) -> Found | None:
        """Take the next chunks; return the first match."""


class LiteralMatcher:
    """Looks for a text, in this process: its time is bounded by what comes.

    Args:
        pattern: The text.
    """

    def __init__(self, pattern: str) -> None:
        self._literal = Literal(pattern.encode("utf-8", "surrogateescape"))

    async def look(self, chunks: Sequence[Chunk]) -> Found | None:
        """Take the next chunks; return the first match."""
        for chunk in chunks:
            found = self._literal.look(chunk.stream, chunk.offset, chunk.data)
            if found is not None:
                return found
        return None


async def find_job(keeper: Keeper, session_id: str, command_id: str) -> Job:
    """Return the job of a command.

    Raises:
        NotFoundError: There is no such session, or no such command in it.
    """
    try:
        if session_id != ENTRYPOINT:
            job, _, _ = await KeptSessions(keeper).command(session_id, command_id)
            return job
        job = await keeper.info(ENTRYPOINT)
    except NotFoundError as error:
        message = error.message
        if session_id == ENTRYPOINT:
            message = "session not found"
        raise NotFoundError(message, code=NOT_FOUND) from error
    if command_id != ENTRYPOINT_COMMAND:
        raise NotFoundError("command not found", code=NOT_FOUND)
    return job


async def until_ended(keeper: Keeper, job_id: str) -> CommandFacts:
    """Wait for a command's end, with all its output stored.

    Raises:
        UnavailableError: It was forgotten before.
    """
    try:
        end = await keeper.wait(job_id)
    except NotFoundError as error:
        raise UnavailableError(FORGOTTEN) from error
    return CommandFacts(
        exit_code=end.exit_code, signal=end.signal or None, reason=end.reason
    )


async def until_said(
    keeper: Keeper, job_id: str, condition: LogCondition, matcher: Matcher
) -> LogFacts:
    """Wait for a text in a command's output.

    Raises:
        UnavailableError: It has ended, or was forgotten, without that text.
    """
    only = NUMBERS[condition.stream] if condition.stream else 0
    async with _following(keeper, job_id, condition.offset) as output:
        async for chunk in output:
            batch, size = [chunk], len(chunk.data)
            while output.has_more and size < BATCH_BYTES:
                batch.append(await anext(output))
                size += len(batch[-1].data)
            wanted = [each for each in batch if not only or each.stream == only]
            found = await matcher.look(wanted) if wanted else None
            if found is not None:
                return _facts(found)
        raise UnavailableError(_why_over(output))


def _facts(found: Found) -> LogFacts:
    stream: OneOf["stdout", "stderr"] = "stdout" if found.stream == 1 else "stderr"
    return LogFacts(
        stream=stream,
        match=found.match,
        line=found.line,
        offset=found.offset,
        next_offset=found.end,
    )


def _why_over(output: Subscription) -> str:
    if output.end is None or output.end.reason == "forgotten":
        return FORGOTTEN
    if output.end.reason != "finished":
        return f"the log is {output.end.reason}"
    if output.end.dropped_bytes:
        return "the output has ended without a match in what was kept of it"
    return "the output has ended without a match"


async def until_quiet(
    keeper: Keeper, job_id: str, condition: QuietCondition
) -> QuietFacts:
    """Wait until a command has written nothing for a while.

    Raises:
        UnavailableError: It was forgotten before.
    """
    async with _following(keeper, job_id, -1) as output:
        dropped = await _dropped(keeper, job_id)
        while True:
            try:
                async with asyncio.timeout(condition.milliseconds / 1000):
                    chunk = await anext(output, None)
            except TimeoutError:
                # What a full log drops is not followed, but it is no silence.
                before, dropped = dropped, await _dropped(keeper, job_id)
                if dropped == before:
                    return QuietFacts(offset=output.offset, ended=False)
                continue
            if chunk is not None:
                continue
            if output.end is None or output.end.reason != "finished":
                raise UnavailableError(_why_over(output))
            return QuietFacts(offset=output.offset, ended=True)


async def _dropped(keeper: Keeper, job_id: str) -> int:
    try:
        return (await keeper.info(job_id)).dropped_bytes
    except NotFoundError as error:
        raise UnavailableError(FORGOTTEN) from error


@asynccontextmanager
async def _following(
    keeper: Keeper, job_id: str, offset: int
) -> AsyncIterator[Subscription]:
    """Follow a log; that it is not there any more is a condition's failure."""
    output = keeper.subscribe(job_id, offset)
    try:
        await output.open()
    except NotFoundError as error:
        raise UnavailableError(FORGOTTEN) from error
    try:
        yield output
    finally:
        await output.aclose()


def check_offset(job: Job, offset: int) -> None:
    """Refuse to begin behind a log's end.

    Raises:
        InvalidRequestError: The log is not so long.
    """
    if offset > job.stored_bytes:
        raise InvalidRequestError(
            f"offset {offset}: the log has only {job.stored_bytes} bytes"
        )
