"""Runs a session's command for a request, and makes the answer of it."""

from collections.abc import AsyncIterator

from agent import wire
from agent.sessions.labels import text_of
from agent.sessions.levels import Level
from agent.sessions.logs import json_of
from agent.sessions.models import SessionExecuteRequest, SessionExecuteResponse
from agent.sessions.sessions import Order, Outcome, Sessions
from agent.web.idempotency import Answered


class Execution:
    """One request to run a command in a session.

    Args:
        sessions: Who runs it.
        session_id: Where.
        body: What is asked for.
        level: The format of the output.
    """

    def __init__(
        self,
        sessions: Sessions,
        session_id: str,
        body: SessionExecuteRequest,
        level: Level,
    ) -> None:
        self._sessions = sessions
        self._session_id = session_id
        self._body = body
        self._level = level

    @property
    def is_async(self) -> bool:
        """Whether the answer comes before the command's end."""
        return bool(self._body.run_async or self._body.is_async)

    async def start(self, command_id: str = "") -> SessionExecuteResponse:
        """Start the command, and return the answer that does not wait for it."""
        order = self._order(command_id)
        return _accepted(await self._sessions.start(self._session_id, order))

    async def run(self, command_id: str = "") -> Outcome:
        """Run the command to its end."""
        return await self._sessions.run(self._session_id, self._order(command_id))

    def _order(self, command_id: str) -> Order:
        return Order(
            text=self._body.command,
            id=command_id,
            echo=not self._body.suppress_input_echo,
            timeout_s=self._body.timeout,
            limits=self._body.limits,
        )

    def inline(self, outcome: Outcome) -> SessionExecuteResponse:
        """Return the answer for a short output."""
        chunks = outcome.log.first_chunks()
        is_split = self._level is Level.SPLIT
        return SessionExecuteResponse(
            cmd_id=outcome.id,
            output=text_of(chunks, labelled=self._level is Level.LABELLED),
            stdout=text_of(chunks, only=1) if is_split else None,
            stderr=text_of(chunks, only=2) if is_split else None,
            exit_code=outcome.exit_code,
        )

    async def pieces(self, outcome: Outcome) -> AsyncIterator[bytes]:
        """Yield the JSON of the answer, whatever its length."""
        if outcome.log.is_short:
            yield wire.encode(self.inline(outcome))
            return
        before = b'{"cmdId":"%s","exitCode":%d,' % (
            outcome.id.encode(),
            outcome.exit_code,
        )
        if self._level is Level.SPLIT:
            async for piece in json_of(outcome.log, before):
                yield piece
            return
        yield before + b'"stdout":null,"stderr":null,"output":"'
        is_labelled = self._level is Level.LABELLED
        async for text in outcome.log.pieces(labelled=is_labelled):
            yield wire.encode(text)[1:-1]
        yield b'"}'

    # -- with an idempotency key (agent.web.idempotency.Attempt) ----------------

    async def first(self, job_id: str) -> Answered:
        """Run it under this name, and return the answer."""
        if self.is_async:
            return _answered_at_once(await self.start(job_id))
        return self._answered(await self.run(job_id))

    async def again(self, job_id: str) -> Answered:
        """Return the answer to what was started under this name."""
        if self.is_async:
            await self._sessions.command(self._session_id, job_id)
            return _answered_at_once(_accepted(job_id))
        return self._answered(await self._sessions.outcome(self._session_id, job_id))

    async def stored(self, job_id: str) -> None:
        """Do nothing: a command stays as long as its session."""

    def _answered(self, outcome: Outcome) -> Answered:
        return Answered(status=200, headers={}, pieces=self.pieces(outcome))


def _accepted(command_id: str) -> SessionExecuteResponse:
    return SessionExecuteResponse(
        cmd_id=command_id, output=None, stdout=None, stderr=None, exit_code=None
    )


def _answered_at_once(accepted: SessionExecuteResponse) -> Answered:
    async def pieces() -> AsyncIterator[bytes]:
        yield wire.encode(accepted)

    return Answered(status=202, headers={}, pieces=pieces())
