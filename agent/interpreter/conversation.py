"""One client's websocket: a request, what comes of it, and a close frame (contract 33 §3).

Pings are answered all the while, in the queue and behind a flood of output too.
"""

import asyncio
import contextlib

from agent import wire
from agent.errors import AgentError, InvalidBodyError, NotFoundError
from agent.interpreter.contexts import Contexts
from agent.interpreter.models import DEFAULT_TIMEOUT_S, ExecuteRequest
from agent.interpreter.run import Ending, Run
from agent.web.duplex import Duplex

FIRST_MESSAGE_S = 30.0
PING_INTERVAL_S = 30.0
"""So that what sits in between does not take the connection for idle."""

UNREAD = Ending(1002, "failed to read first message")


class Conversation:
    """A conversation with one client.

    Args:
        duplex: Its websocket.
        contexts: Where its code is run.
        first_message_s: How long it has to say what it wants.
    """

    def __init__(
        self,
        duplex: Duplex,
        contexts: Contexts,
        first_message_s: float = FIRST_MESSAGE_S,
    ) -> None:
        self._duplex = duplex
        self._contexts = contexts
        self._first_message_s = first_message_s

    async def hold(self) -> None:
        """Run what the client asks for, and tell it what comes of that."""
        try:
            async with asyncio.timeout(self._first_message_s):
                first = await self._duplex.receive()
        except TimeoutError:
            first = None
        run = Run("", {})
        await self._submit(first, run) if first is not None else run.end(UNREAD)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listen(run))
            await self._talk(run)
            listening.cancel()
        ending = run.ending
        if ending is not None:
            await self._duplex.close(ending.code, ending.reason)

    async def _submit(self, first: bytes, run: Run) -> None:
        """Read a request into a run, and have it run."""
        try:
            request = wire.decode(first, ExecuteRequest)
        except InvalidBodyError:
            run.end(Ending(1002, "invalid JSON payload"))
            return
        timeout_s = request.timeout_s
        if not request.code:
            run.end(Ending(1008, "code is required"))
            return
        if timeout_s is not None and timeout_s < 0:
            run.end(Ending(1008, "timeout must be greater than or equal to 0"))
            return
        run.code = request.code
        run.envs = request.envs or {}
        run.rich = bool(request.rich)
        run.timeout_s = DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            context = await self._contexts.get(request.context_id or "")
        except NotFoundError as error:
            run.end(Ending(1008, error.message))
        except AgentError as error:
            run.end(Ending(1011, f"failed to get default context: {error}"))
        else:
            context.submit(run)

    async def _listen(self, run: Run) -> None:
        """Answer pings until the client leaves; what else it says means nothing."""
        while await self._duplex.receive() is not None:
            pass
        run.outbox.leave()
        run.outbox.close()

    async def _talk(self, run: Run) -> None:
        """Send what there is to tell, until all of it is told or the client has left."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                try:
                    async with asyncio.timeout(PING_INTERVAL_S):
                        message = await run.outbox.get()
                except TimeoutError:
                    await self._duplex.ping()
                    continue
                if message is None:
                    return
                await self._duplex.send_text(message)
        run.outbox.leave()
