"""One connection to an application: a request at a time goes out, an answer comes back.

The answer's head is looked at as bytes first, then parsed by aiohttp's parser, which is
written in C; a body's pieces go to whoever takes them in the very call in which they
arrive, so a long stream costs no task a wake-up. Until somebody takes them the parser's
buffer holds them, and once that is full the application has to wait.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader

from agent.errors import RemoteError
from agent.ports.proxy.heads import check_answer_head, keyed

HEAD_MAX_BYTES = 256 * 1024
"""Of an answer's head, as a whole; a line of it may have a quarter of that."""
HEADERS_MAX = 512
BUFFER_BYTES = 256 * 1024
"""Of an answer's body, held while nobody takes it."""

SWITCHING = 101
FIRST_FINAL = 200
NO_CONTENT = (204, 304)

BAD = "the service's answer is malformed"
CUT = "the service broke its answer off"


class StaleError(Exception):
    """The connection ended before a byte of the answer came."""


class Sink(Protocol):
    """Takes what an application sends behind its answer's head."""

    def take(self, data: bytes) -> None:
        """Take a piece."""

    def take_end(self) -> None:
        """There is no more."""


class Answer:
    """The head of an answer, and where its body comes from."""

    __slots__ = ("body", "headers", "is_last", "message")

    def __init__(self, message: RawResponseMessage, body: StreamReader) -> None:
        self.message = message
        self.headers = keyed(message.raw_headers)
        self.body = body
        self.is_last = bool(message.should_close)
        """Whether the connection ends with it."""


class Upstream(asyncio.Protocol):
    """One connection to an application.

    Attributes:
        transport: The connection itself; None once it is lost.
        on_lost: Called when the connection is lost.
        on_room: Told, at each change, whether the application takes more.
        on_informed: Given the informational answers that come before an answer.
        was_cut: Whether the connection was lost by an error, or cut by us.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.on_lost: Callable[[Upstream], None] | None = None
        self.on_room: Callable[[bool], None] | None = None
        self.on_informed: Callable[[RawResponseMessage], None] | None = None
        self.was_cut = False
        self._loop = asyncio.get_running_loop()
        self._head = bytearray()
        self._parser: HttpResponseParser | None = None
        self._answer: Answer | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._raw = False
        self._has_heard = False
        self._room: asyncio.Future[None] | None = None
        self._is_full = False
        self._sink_is_full = False
        # The name under which aiohttp's reader looks for it.
        self._reading_paused = False

    # The life of the connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self.transport = None
        self.was_cut = exc is not None
        if self._raw:
            if self._sink is not None and exc is None:
                self._sink.take_end()
            self._end()
        elif self._answer is not None:
            self._end_by_close(clean=exc is None)
        else:
            self.fail(RemoteError(CUT) if self._has_heard else StaleError())
        self._has_room()
        if self.on_lost is not None:
            self.on_lost(self)

    def eof_received(self) -> bool:
        """Note the application's end; a tunnel stays open for the other direction."""
        if self._raw and self._sink is not None:
            self._sink.take_end()
            return True
        if self._answer is not None:
            self._end_by_close(clean=True)
        return False

    def abort(self) -> None:
        """Cut the connection."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def fail(self, error: Exception) -> None:
        """End what is going on by an error."""
        for future in (self._answered, self._ended):
            if future is not None and not future.done():
                future.set_exception(error)
                # Whoever waited may have been cancelled meanwhile.
                future.exception()

    # Sending.

    @property
    def is_usable(self) -> bool:
        """Whether another request can be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens when the connection is lost, which is told else."""
        if self.transport is not None:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the application takes more."""
        if self._is_full and self.transport is not None:
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    def pause_writing(self) -> None:
        """Take note that the application is behind."""
        self._is_full = True
        if self.on_room is not None:
            self.on_room(False)

    def resume_writing(self) -> None:
        """Take note that the application has caught up."""
        self._is_full = False
        self._has_room()
        if self.on_room is not None:
            self.on_room(True)

    def _has_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # Answers.

    def begin(self, *, has_body: bool) -> asyncio.Future[Answer]:
        """Get ready for the answer to a request; `has_body` is false for HEAD."""
        self._head.clear()
        self._has_heard = False
        self._answer = None
        self._sink = None
        self._answered = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._parser = HttpResponseParser(
            self,  # type: ignore[arg-type] # has all that the parser and its reader use
            self._loop,
            BUFFER_BYTES,
            max_line_size=HEAD_MAX_BYTES // 4,
            max_headers=HEADERS_MAX,
            max_field_size=HEAD_MAX_BYTES // 4,
            response_with_body=has_body,
            read_until_eof=True,
            auto_decompress=False,
        )
        if self.transport is None:
            self.fail(StaleError())
        return self._answered

    def pour(self, sink: Sink) -> "asyncio.Future[None]":
        """Give the body, or all bytes after 101, to `sink`; done at the end of it."""
        assert self._ended is not None  # noqa: S101 - there is an answer
        self._sink = sink
        if self._raw:
            early, self._head = bytes(self._head), bytearray()
            if early:
                sink.take(early)
            if self.transport is None:
                sink.take_end()
        else:
            self._pass_on()
        return self._ended

    @property
    def is_reusable(self) -> bool:
        """Whether the answer is over and the connection can take another request."""
        answer = self._answer
        return (
            answer is not None
            and not self._raw
            and self.is_usable
            and not answer.is_last
            and answer.body.is_eof()
        )

    def rest(self) -> None:
        """Forget the last exchange; whatever comes now is an error."""
        self._answer = None
        self._parser = None
        self._sink = None
        self._answered = self._ended = None
        self.on_informed = None
        self.hold(hold=False)

    def hold(self, *, hold: bool) -> None:
        """Stop reading from the application for the sink's sake, or go on."""
        self._sink_is_full = hold
        self._pause_as_needed()

    def pause_reading(self) -> None:
        """Stop reading, because nobody takes what is there (aiohttp's reader calls)."""
        self._reading_paused = True
        self._pause_as_needed()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002 - as aiohttp's reader calls it
        """Go on reading."""
        self._reading_paused = False
        self._pause_as_needed()

    def _pause_as_needed(self) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if self._reading_paused or self._sink_is_full:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Hand on what came."""
        if self._raw:
            if self._sink is not None:
                self._sink.take(data)
            else:
                self._head += data
        elif self._parser is None:
            # Nobody asked: what comes next would be taken for another's answer.
            self.abort()
        elif self._answer is None:
            self._has_heard = True
            self._head += data
            self._take_heads()
        else:
            self._take_body(data)

    def _take_heads(self) -> None:
        """Take whole heads; informational ones may come before the one that counts."""
        while self._answer is None and self._head:
            end = self._head.find(b"\r\n\r\n") + 4
            head = bytes(self._head[:end] if end > 3 else self._head)
            try:
                check_answer_head(head.removesuffix(b"\r"))
            except RemoteError as error:
                self._refuse(error)
                return
            if end <= 3:
                if len(head) > HEAD_MAX_BYTES:
                    self._refuse(RemoteError(BAD))
                return
            del self._head[:end]
            self._take_head(head)

    def _take_head(self, head: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - looked at before
        try:
            messages, _, _ = self._parser.feed_data(head)
        except (HttpProcessingError, PayloadEncodingError):
            self._refuse(RemoteError(BAD))
            return
        if len(messages) != 1:
            self._refuse(RemoteError(BAD))
            return
        message, body = messages[0]
        if message.code < FIRST_FINAL and message.code != SWITCHING:
            if self.on_informed is not None:
                self.on_informed(message)
            return
        self._answer = Answer(message, body)
        self._raw = message.code == SWITCHING
        if not self._raw and self._head:
            early, self._head = bytes(self._head), bytearray()
            self._take_body(early)
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._answer)

    def _take_body(self, data: bytes) -> None:
        assert self._answer is not None  # noqa: S101 - looked at before
        assert self._parser is not None  # noqa: S101 - is there with an answer
        body = self._answer.body
        is_extra = body.is_eof()
        try:
            if not is_extra:
                messages, _, _ = self._parser.feed_data(data)
                is_extra = bool(messages)
        except (HttpProcessingError, PayloadEncodingError):
            is_extra = body.is_eof()
            if not is_extra:
                self._refuse(RemoteError(CUT))
                return
        if is_extra:
            # Behind the end of an answer nothing was asked for.
            self._answer.is_last = True
        if self._sink is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the sink what the parser made of the body so far."""
        assert self._answer is not None  # noqa: S101 - looked at before
        assert self._sink is not None  # noqa: S101 - looked at before
        body = self._answer.body
        if body.exception() is not None:
            return
        data = body.read_nowait()
        if data:
            self._sink.take(data)
        if body.is_eof():
            self._sink.take_end()
            self._end()

    def _end_by_close(self, *, clean: bool) -> None:
        """End the answer with the connection, which for some is how they say it."""
        assert self._answer is not None  # noqa: S101 - looked at before
        assert self._parser is not None  # noqa: S101 - is there with an answer
        if self._ended is None or self._ended.done() or self._answer.body.is_eof():
            return
        if not clean:
            self.fail(RemoteError(CUT))
            return
        try:
            self._parser.feed_eof()
        except (HttpProcessingError, PayloadEncodingError):
            self.fail(RemoteError(CUT))
            return
        self._answer.is_last = True
        if self._sink is not None:
            self._pass_on()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _refuse(self, error: RemoteError) -> None:
        self.fail(error)
        self.abort()
