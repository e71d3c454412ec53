"""Serves the application on sockets that somebody else opened.

aiohttp's connection handler with what a daemon that faces strangers needs besides: a
limit on the time that headers may take, a limit on connections, our envelope for what
the HTTP parser refuses, and the reset-on-death option taken back before an answer ends.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol

from aiohttp import hdrs, web, web_protocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.streams import StreamReader

from agent import wire
from agent.settings import SESSION_HEADER_LIMIT_BYTES, Settings
from agent.web.counts import GAUGES
from agent.web.dispatch import READ_ONLY, Dispatcher, close_cleanly
from agent.web.errors import envelope, of_status, response_of

log = logging.getLogger("agent.server")

DISPATCHER = web.AppKey("dispatcher", Dispatcher)

PARSER_MESSAGES = {
    400: "malformed request",
    413: "request too large",
    431: "request headers too large",
}


class Taker(Protocol):
    """Has a connection's bytes from now on, instead of the HTTP parser."""

    def take(self, data: bytes) -> None:
        """Take what the client sent."""

    def take_end(self) -> None:
        """The client sends no more; it may still read."""


class Connection(web_protocol.RequestHandler):
    """One client connection."""

    __slots__ = (
        "_agent",
        "_answered",
        "_finished",
        "_header_timer",
        "_on_leave",
        "_on_room",
        "_receiving",
        "_taker",
    )

    def __init__(self, agent: "Server", manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._agent = agent
        self._answered: StreamReader | None = None
        self._receiving: StreamReader | None = None
        self._finished = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._on_leave: Callable[[], None] | None = None
        self._on_room: Callable[[bool], None] | None = None
        self._taker: Taker | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are too many."""
        super().connection_made(transport)
        if not self._agent.admit(self):
            assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types
            transport.write(_OVERLOADED)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_header_timer()
        if self._on_leave is not None:
            self._on_leave()
            self._on_leave = None
        self._agent.leave(self)
        if self._answered is not None and not self._answered.is_eof():
            # aiohttp reads what is left of a refused body, and would wait for more of
            # it, up to the limit, although the client is gone.
            self._answered.feed_eof()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a request's headers must be whole within the limit."""
        if self._taker is not None:
            self._taker.take(data)
            return
        before = self._request_count
        super().data_received(data)
        self._watch_body(self._request_count - before)
        if self._request_count != before or self._upgraded:
            self._stop_header_timer()
        elif self._header_timer is None and self._between_requests():
            self._header_timer = self._loop.call_later(
                self._agent.settings.header_timeout_s, self.force_close
            )

    def call_on_leave(self, callback: Callable[[], None] | None) -> None:
        """Call back when the client leaves, at once if it has; None takes that back."""
        self._on_leave = callback
        if callback is not None and self.transport is None:
            callback()

    def call_on_room(self, callback: Callable[[bool], None] | None) -> None:
        """Say, at each change, whether the client takes more now; None ends that."""
        self._on_room = callback
        if callback is not None and self.writing_paused:
            callback(False)

    def pause_writing(self) -> None:
        """Take note that the client is behind."""
        super().pause_writing()
        if self._on_room is not None:
            self._on_room(False)

    def resume_writing(self) -> None:
        """Take note that the client has caught up."""
        super().resume_writing()
        if self._on_room is not None:
            self._on_room(True)

    def hand_over(self, taker: Taker) -> None:
        """Give `taker` everything that the client sends from now on.

        The connection speaks HTTP no more; what was received already comes first.
        """
        self._taker = taker
        early, self._message_tail = self._message_tail, b""
        if early:
            taker.take(early)
        self._resume_reading_for_buffer()

    def eof_received(self) -> bool:  # type: ignore[override] # as asyncio has it
        """Close the connection, unless whoever has it goes on writing."""
        if self._taker is None:
            super().eof_received()
            return False
        self._taker.take_end()
        return True

    def _watch_body(self, new: int) -> None:
        """Tell the reader of a body when what follows is malformed.

        aiohttp tells only whoever reads the next request, so this one would wait for
        ever.
        """
        for message, body in self._latest(new):
            if isinstance(message, RawRequestMessage):
                self._receiving = body
            elif self._receiving is not None and not self._receiving.is_eof():
                error = web.RequestPayloadError("malformed request body")
                self._receiving.set_exception(error)

    def _latest(self, count: int) -> Iterable[tuple[object, StreamReader]]:
        """Return what was received last; mostly that is one request."""
        if count == 1:
            return (self._messages[-1],)
        return list(self._messages)[-count:] if count else ()

    def _between_requests(self) -> bool:
        # Not by what aiohttp works on just now: between taking a request and working on
        # it, its body would count as the headers of the next one.
        receiving = self._receiving is not None and not self._receiving.is_eof()
        return not receiving and self._request_count == self._finished

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def finish_response(
        self,
        request: web.BaseRequest,
        resp: web.StreamResponse,
        start_time: float | None,
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send the answer; from its first byte on a close may be clean again."""
        if request.method not in READ_ONLY:
            close_cleanly(request)
        self._finished += 1
        self._answered = request.content
        if self._answered.exception() is not None:
            # There is nothing left on this connection that could be understood.
            self._answered.feed_eof()
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the client's bytes
    ) -> web.StreamResponse:
        """Answer what the parser refused, or what escaped the dispatcher."""
        if isinstance(exc, ConnectionError):
            # The client left; there is nobody to answer, and nothing to report.
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer broke off")
        if status >= 500:
            log.error("unhandled error", exc_info=exc)
        failure = of_status(status, PARSER_MESSAGES.get(status, "request failed"))
        response = response_of(failure, path="", method="")
        response.force_close()
        return response


class Front(Protocol):
    """What answers every request: the dispatcher, or something before it."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`."""


class Handler:
    """Answers in place of aiohttp's application, which would look for a route first.

    Our own router finds it, so aiohttp's would only be asked to say so; that, and looking
    for middlewares, is a fifteenth of a small request's time.
    """

    def __init__(self, app: web.Application, front: Front) -> None:
        # What aiohttp's router would find for any path: one object for all requests.
        self._found = web.UrlMappingMatchInfo(
            {}, app.router.add_route("*", "/", front.handle)
        )
        self._found.add_app(app)
        self._front = front

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        assert isinstance(request, web.Request)  # noqa: S101 - the runner makes no others
        request._match_info = self._found  # noqa: SLF001 - as aiohttp's application does
        if hdrs.EXPECT in request.headers:
            answer = await self._front.expect(request)
            await request.writer.drain()
            if answer is not None:
                return answer
        return await self._front.handle(request)


HANDLER = web.AppKey("handler", Handler)


class Server:
    """Listens for one application.

    Args:
        app: The application, not started yet.
        settings: Time and connection limits.
    """

    def __init__(self, app: web.Application, settings: Settings) -> None:
        self.settings = settings
        # The pure-Python parser had every request-smuggling bug that was found.
        if HttpRequestParser.__module__ != "aiohttp._http_parser":
            raise RuntimeError("aiohttp's C extensions are missing; reinstall aiohttp")
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUTDOWN_LIMIT_S,
        )
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Start the application and answer on `sockets`."""
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - it is set up
        self._runner.server.request_handler = self._runner.app[HANDLER]
        loop = asyncio.get_running_loop()
        for sock in sockets:
            sock.setblocking(False)
            self._listeners.append(
                await loop.create_server(self._connection, sock=sock, backlog=1024)
            )

    def stop_listening(self) -> None:
        """Accept no further connection; those that are open go on."""
        for listener in self._listeners:
            listener.close()

    async def aclose(self) -> None:
        """Close everything: connections, then the application."""
        self.stop_listening()
        await self._runner.cleanup()

    def admit(self, connection: Connection) -> bool:
        """Count a connection in; False when there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self.settings.max_connections

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)

    def _connection(self) -> Connection:
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - the runner is set up
        return Connection(
            self,
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=self.settings.keepalive_s,
            lingering_time=self.settings.linger_s,
            max_line_size=SESSION_HEADER_LIMIT_BYTES,
            max_field_size=SESSION_HEADER_LIMIT_BYTES,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
        )


SHUTDOWN_LIMIT_S = 0.3
"""What is still being answered when the application ends; the keeper waits for no more."""

READ_BUFFER_BYTES = 256 * 1024
"""Of a request's body held before the client is told to wait."""

_OVERLOADED_BODY = wire.encode(
    envelope(of_status(503, "too many connections"), path="", method="")
)
_OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8"
    b"\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: "
    + str(len(_OVERLOADED_BODY)).encode()
    + b"\r\n\r\n"
    + _OVERLOADED_BODY
)


@contextlib.contextmanager
def told_of_the_end(
    request: web.Request, callback: Callable[[], None]
) -> Iterator[None]:
    """Call back, while inside, when nobody is to be answered any more.

    That is when the client leaves, which aiohttp tells no handler that only writes now
    and then, and when the agent stops.
    """
    connection = request.protocol
    ends = request.app[DISPATCHER].on_drain
    ends.add(callback)
    if isinstance(connection, Connection):
        connection.call_on_leave(callback)
    try:
        yield
    finally:
        ends.discard(callback)
        if isinstance(connection, Connection):
            connection.call_on_leave(None)


def application(
    dispatcher: Dispatcher, settings: Settings, *, front: Front | None = None
) -> web.Application:
    """Return an application whose every request goes to `dispatcher`.

    Args:
        dispatcher: Who answers, and where handlers find it.
        settings: The agent's options.
        front: Who sees each request first, when it is not the dispatcher itself.
    """
    app = web.Application(client_max_size=settings.body_max_bytes)
    app[DISPATCHER] = dispatcher
    app[GAUGES] = {}
    app[HANDLER] = Handler(app, front or dispatcher)
    return app
