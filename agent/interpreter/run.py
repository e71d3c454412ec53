"""One run of code: what was asked, what the client is told, and how it ended.

What there is to tell waits in an outbox until the client takes it. A slow client thus makes
the worker wait, and nobody else; one that has left makes nobody wait.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from agent import wire
from agent.interpreter.merging import Text
from agent.interpreter.models import Failure, Message, Word

WAITING_MAX_BYTES = 256 * 1024
"""Told and not yet taken by the client, before the worker has to wait."""

MESSAGE_BYTES = 32 * 1024
"""Of one message with output (contract 30 §4); what is asked for by `rich` may be longer."""

TEXT_CHARACTERS = 30_000
"""Of one message, if they are as short in JSON as they mostly are."""

COMPLETED = "completed"
INTERRUPTED = "interrupted"


class Ending(msgspec.Struct, frozen=True):
    """How a conversation ends: the last messages, then the close frame."""

    code: int
    reason: str = ""
    messages: tuple[Message, ...] = ()


class Outbox:
    """What the client has still to be told."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._patient = True
        self._closed = False
        self.left = False
        """Whether nobody takes anything any more."""

    async def put(self, message: bytes) -> None:
        """Add a message, once there is room for it."""
        while self._patient and not self._room.is_set():
            await self._room.wait()
        if self.left or (not self._patient and not self._room.is_set()):
            return
        self.put_at_once(message)

    def put_at_once(self, message: bytes) -> None:
        """Add a message, without a word of waiting."""
        self._messages.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > WAITING_MAX_BYTES:
            self._room.clear()
        self._news.set()

    async def get(self) -> bytes | None:
        """Return the next message, or None when there will be no more."""
        while not self._messages:
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        if self._waiting_bytes <= WAITING_MAX_BYTES:
            self._room.set()
        return message

    def hurry(self) -> None:
        """From now on drop what there is no room for."""
        self._patient = False
        full = not self._room.is_set()
        # Whoever waits is let go, and finds that nobody waits any more.
        self._room.set()
        if full:
            self._room.clear()

    def leave(self) -> None:
        """Hear that nobody takes anything any more."""
        self.left = True
        self._patient = False
        self._messages.clear()
        self._room.set()

    def close(self) -> None:
        """Say that nothing more comes."""
        self._closed = True
        self._news.set()


class Run:
    """One run.

    Args:
        code: What to run.
        envs: Variables for it.
        rich: Whether the client knows more than plain messages.
        timeout_s: Counted from its start; 0 is none.
    """

    def __init__(
        self,
        code: str,
        envs: Mapping[str, str | None],
        *,
        rich: bool = False,
        timeout_s: float = 0.0,
    ) -> None:
        self.code = code
        self.envs = envs
        self.rich = rich
        self.timeout_s = timeout_s
        self.outbox = Outbox()
        self.interrupted = False
        self.ending: Ending | None = None

    async def tell(self, event: Text | Word) -> None:
        """Tell the client what came of the code."""
        if isinstance(event, Text):
            for message in messages_of(event.stream, event.text):
                await self.outbox.put(message)
        elif self.rich:
            value = Message(
                type=event.type,
                text=event.text,
                data=event.data,
                files=event.files,
            )
            await self.outbox.put(wire.encode(value))

    def end(self, ending: Ending) -> None:
        """Take note of how it ended; only the first word counts."""
        if self.ending is None:
            self.ending = ending
            for message in ending.messages:
                self.outbox.put_at_once(wire.encode(message))
            self.outbox.close()


def completed(failure: Failure | None, word: str) -> Ending:
    """Return the ending of a run that came to its end."""
    control = Message(type="control", text=word)
    if failure is None:
        return Ending(1000, messages=(control,))
    return Ending(1000, messages=(_error(failure), control))


def died(why: str) -> Ending:
    """Return the ending of a run whose worker ended."""
    failure = Failure("WorkerProcessError", f"worker process ended: {why}", "")
    return Ending(1011, f"worker process ended: {why}", (_error(failure),))


def _error(failure: Failure) -> Message:
    return Message(
        type="error",
        name=failure.name,
        value=failure.value,
        traceback=failure.traceback,
    )


def messages_of(stream: str, text: str) -> Iterator[bytes]:
    """Give output as messages, none of which is too long."""
    for start in range(0, len(text), TEXT_CHARACTERS):
        yield from _fitting(stream, text[start : start + TEXT_CHARACTERS])


def _fitting(stream: str, text: str) -> Iterator[bytes]:
    message = wire.encode(Message(type=stream, text=text))
    if len(message) <= MESSAGE_BYTES:
        yield message
        return
    half = len(text) // 2
    yield from _fitting(stream, text[:half])
    yield from _fitting(stream, text[half:])
