"""One client of one terminal, from its `connected` to its close frame.

What it must never do: hold up the terminal for longer than the keeper's brake allows, let
its own output starve its pongs or its input, or lose what came before the end.
"""

import asyncio
import time
from enum import Enum, auto
from typing import Protocol

from agent.errors import ConflictError, NotFoundError, TooLargeError
from agent.keeper.client import KeeperGoneError, Subscription
from agent.pty.exits import (
    GOING_AWAY,
    SLOW,
    TROUBLE,
    closing,
    exited_message,
    text_of,
)
from agent.pty.models import CloseReason, Control
from agent.pty.terminal import Terminal
from agent.wire import UNSET

PING_S = 30.0
"""Between two pings; idle proxies cut silence at 60 s."""

SILENT_PINGS = 1.5
"""Periods without a sign of life after which a client whose output stands still is gone:
it has had two, less the time that its last answer took."""

INPUT_MAX_BYTES = 4 * 1024 * 1024
"""Typed and not taken by the program yet, besides the keeper's own 1 MiB. Reading stops
nowhere before, or pings and interrupts would wait behind it."""

INPUT_PIECE_BYTES = 64 * 1024
"""Of it handed over at a time."""

INPUT_RETRY_S = 0.05
"""Between two tries to hand it over to a program that does not read."""

LAST_INPUT_S = 5.0
"""What a client typed before it left is handed over for so long."""

LEAVE_S = 30.0
"""In which a client has to take the rest of its output, and the close frame."""

REASON_BYTES = 123
"""RFC 6455 §5.5: what a close frame holds besides its code."""


class Line(Protocol):
    """The way to the client."""

    heard: float

    @property
    def moved(self) -> int:
        """How much output has left."""

    async def receive(self) -> bytes | None:
        """Return the next message; None when it is closed."""

    def send(self, data: bytes) -> None:
        """Send output, at once."""

    async def room(self) -> None:
        """Wait until there is room for more."""

    async def tell(self, text: str) -> None:
        """Send a control message."""

    async def ping(self) -> None:
        """Send a ping."""

    async def close(self, code: int, reason: str) -> None:
        """Close it once all was sent."""

    def abort(self) -> None:
        """Drop it."""


class Over(Enum):
    """Why a visit is over."""

    ENDED = auto()
    """All of the terminal's output was sent, and it has ended."""
    SLOW = auto()
    """The keeper would not wait any longer."""
    LEFT = auto()
    SILENT = auto()
    """Nothing is heard of it, and nothing reaches it."""
    CLOGGED = auto()
    """The program does not read what was typed."""
    LOST = auto()
    """The agent itself ends."""


class Attachment:
    """One client of one terminal.

    Args:
        terminal: Which one.
        line: The way to the client.
        output: The terminal's output, from where the client has come.
        told_exit: The client understands the message that the shell has exited.
        ping_s: Between two pings.
    """

    def __init__(
        self,
        terminal: Terminal,
        line: Line,
        output: Subscription,
        *,
        told_exit: bool,
        ping_s: float,
    ) -> None:
        self._terminal = terminal
        self._line = line
        self._output = output
        self._told_exit = told_exit
        self._ping_s = ping_s
        self._shown = output.offset
        self._input = bytearray()
        self._typed = asyncio.Event()
        self._no_more_input = False
        self._cut: asyncio.Future[Over] = asyncio.get_running_loop().create_future()

    async def run(self, *, tell_offset: bool) -> None:
        """Serve the client until it, or the terminal, is gone.

        Args:
            tell_offset: It asked by an offset, so it is told where its output begins.
        """
        offset = self._output.offset if tell_offset else UNSET
        connected = Control(status="connected", offset=offset)
        try:
            await self._line.tell(text_of(connected))
            over = await self._visit()
            async with asyncio.timeout(LEAVE_S):
                await self._take_leave(over)
        except ConnectionError:
            """The client is gone."""
        except TimeoutError:
            self._line.abort()
        finally:
            # What was taken but not sent is the next client's.
            self._output.offset = self._shown

    async def _visit(self) -> Over:
        self._output.on_end = self._look_at_end
        self._look_at_end()
        typing = asyncio.create_task(self._type())
        tasks = [
            asyncio.create_task(work)
            for work in (self._show(), self._read(), self._mind())
        ]
        try:
            await asyncio.wait([*tasks, self._cut], return_when=asyncio.FIRST_COMPLETED)
            over = next(each for each in [*tasks, self._cut] if each.done()).result()
            await self._stop(tasks)
            if over is Over.LEFT:
                self._no_more_input = True
                self._typed.set()
                await asyncio.wait([typing], timeout=LAST_INPUT_S)
            return over
        finally:
            await self._stop([*tasks, typing])

    async def _stop(self, tasks: list[asyncio.Task[Over]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look_at_end(self) -> None:
        end = self._output.end
        if end is not None and end.reason != "finished" and not self._cut.done():
            self._cut.set_result(Over.SLOW)

    # -- output -------------------------------------------------------------------

    async def _show(self) -> Over:
        try:
            async for chunk in self._output:
                self._line.send(chunk.data)
                # Before the wait, which may be cut short.
                self._shown += len(chunk.data)
                await self._line.room()
        except KeeperGoneError:
            return Over.LOST
        except ConnectionError:
            return Over.LEFT
        return Over.ENDED

    async def _mind(self) -> Over:
        """Keep proxies from cutting a silent line; notice a client that is gone."""
        moved = -1
        while True:
            await asyncio.sleep(self._ping_s)
            silent_s = time.monotonic() - self._line.heard
            if silent_s > self._ping_s * SILENT_PINGS and moved == self._line.moved:
                return Over.SILENT
            moved = self._line.moved
            try:
                await self._line.ping()
            except ConnectionError:
                return Over.LEFT

    # -- input --------------------------------------------------------------------

    async def _read(self) -> Over:
        try:
            while (data := await self._line.receive()) is not None:
                if len(self._input) + len(data) > INPUT_MAX_BYTES:
                    return Over.CLOGGED
                self._input += data
                self._typed.set()
        except ConnectionError:
            """It left without a word."""
        return Over.LEFT

    async def _type(self) -> Over:
        while self._input or not self._no_more_input:
            if not self._input:
                self._typed.clear()
                await self._typed.wait()
                continue
            piece = bytes(self._input[:INPUT_PIECE_BYTES])
            del self._input[: len(piece)]
            await self._deliver(piece)
        return Over.LEFT

    async def _deliver(self, piece: bytes) -> None:
        while True:
            try:
                await self._terminal.write(piece)
            except TooLargeError:
                await asyncio.sleep(INPUT_RETRY_S)
            except (ConflictError, NotFoundError, KeeperGoneError):
                # It has ended, which its output tells.
                return
            else:
                return

    # -- the end ------------------------------------------------------------------

    async def _take_leave(self, over: Over) -> None:
        match over:
            case Over.ENDED:
                end = await self._terminal.exit
                if self._told_exit:
                    await self._line.tell(exited_message(end))
                await self._line.close(*closing(end))
            case Over.SLOW:
                await self._line.close(SLOW, self._slow_reason())
            case Over.CLOGGED:
                await self._line.close(TROUBLE, "PTY session unavailable")
            case Over.LOST:
                await self._line.close(GOING_AWAY, "the agent is shutting down")
            case Over.SILENT:
                self._line.abort()
            case Over.LEFT:
                """There is nobody to tell."""

    def _slow_reason(self) -> str:
        # With the offset for every client (decisions 13): one without `since` may take
        # it up, too.
        return text_of(CloseReason(error="slow consumer", offset=self._shown))


async def refuse(line: Line, why: str) -> None:
    """Tell a client that it cannot be connected, in all forms that clients look at."""
    text = f"Failed to connect to PTY session: {why}"
    await line.tell(text_of(Control(status="error", error=text)))
    reason = text_of(CloseReason(error=text))
    while len(reason.encode()) > REASON_BYTES:
        # Cut inside the JSON, so that it stays JSON.
        text = text[: -max(1, (len(reason.encode()) - REASON_BYTES) // 6)]
        reason = text_of(CloseReason(error=text))
    await line.close(TROUBLE, reason)
