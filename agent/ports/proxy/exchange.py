"""One request on its way to an application, and the answer on its way back.

The answer's bytes go straight to the client's transport, past aiohttp's own response: it
would add headers, and wait at every piece. When the client is behind, the application has
to wait; when the client leaves, the application's connection is cut; when the application
breaks off, the client's is, so that nobody takes a part for the whole.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from aiohttp import web
from aiohttp.http_parser import RawResponseMessage

from agent.errors import InvalidRequestError, RemoteError
from agent.ports.proxy.credentials import (
    Headers,
    query_without_token,
    without_credentials,
)
from agent.ports.proxy.heads import (
    FRAMING,
    Length,
    RequestFacts,
    answer_head,
    end_to_end,
    hops_of,
    keyed,
    length_of,
    request_head,
    status_line,
    upgrade_of,
)
from agent.ports.proxy.pool import Pool
from agent.ports.proxy.tunnel import Tunnel
from agent.ports.proxy.upstream import (
    NO_CONTENT,
    SWITCHING,
    Answer,
    StaleError,
    Upstream,
)
from agent.web.dispatch import close_cleanly, reset_if_we_die
from agent.web.guard import Guard
from agent.web.server import Connection, told_of_the_end

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
JOINED_MAX_BYTES = 16 * 1024
"""A chunk up to this size is copied to be sent in one piece with what frames it."""
CONTINUE = 100
EVENT_STREAM = b"text/event-stream"
MALFORMED_ANSWER = "the service's answer is malformed"


class Relayed(web.StreamResponse):
    """An answer whose bytes were sent already."""

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._stays_open = keep_alive

    @property
    def prepared(self) -> bool:
        """True: there is nothing to prepare."""
        return True

    @property
    def keep_alive(self) -> bool | None:
        """Whether the client's connection takes another request."""
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""


class Exchange:
    """One request and its answer.

    Args:
        request: The client's request.
        port: Where it goes.
        own_port: The agent's own.
        guard: Knows the agent's token.
    """

    def __init__(
        self, request: web.Request, port: int, own_port: int, guard: Guard
    ) -> None:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 - the server's own
        self._request = request
        self._connection = connection
        self._port = port
        self._is_own = port == own_port
        self._guard = guard
        self._headers = keyed(request.raw_headers)
        self._upgrade = upgrade_of(self._headers)
        self._expects = any(key == b"expect" for key, _, _ in self._headers)
        self._is_11 = request.version >= (1, 1)
        try:
            self._length = length_of(self._headers)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        self._has_body = self._length.is_chunked or self._length.exact not in {
            None,
            b"0",
        }

    async def run(self, pool: Pool, path: str) -> web.StreamResponse:
        """Send the request to the application's `path`, and its answer to the client.

        Raises:
            RemoteError: There is no application, or its answer cannot be passed on.
            InvalidRequestError: The request went in circles.
        """
        head = self._head(path)
        try:
            return await self._run(pool, head)
        except (RemoteError, StaleError, web.RequestPayloadError) as error:
            if self._connection.transport is None:
                # What was cut was cut because the client left.
                raise ConnectionResetError("the client left") from error
            if isinstance(error, StaleError):
                message = f"the service on port {self._port} closed the connection"
                raise RemoteError(message) from error
            raise

    async def _run(self, pool: Pool, head: bytes) -> web.StreamResponse:
        is_harmless = self._request.method in IDEMPOTENT and not self._has_body
        upstream = None
        if is_harmless and not self._upgrade:
            upstream = pool.take_idle(self._port)
        if upstream is not None:
            # An application may close an idle connection at any moment. What can do no
            # harm twice is then sent once more, on a connection of its own.
            try:
                return await self._run_on(upstream, pool, head)
            except StaleError:
                if self._connection.transport is None:
                    raise
        return await self._run_on(await pool.connect(self._port), pool, head)

    def _head(self, path: str) -> bytes:
        """Return the head as the application is to see it."""
        request, headers, hops = self._request, self._headers, 0
        _, mark, query = request.raw_path.partition("?")
        query = query.partition("#")[0]
        if self._is_own:
            hops = hops_of(headers) + 1
        else:
            is_token = self._guard.is_token
            headers = without_credentials(headers, is_token)
            shown = query_without_token(query, is_token)
            mark = mark if shown or shown == query else ""
            query = shown
        facts = RequestFacts(
            method=request.method,
            target=(path or "/") + mark + query,
            port=self._port,
            peer=_peer_of(request),
            upgrade=self._upgrade,
            hops=hops,
        )
        return request_head(facts, headers, self._length)

    async def _run_on(
        self, upstream: Upstream, pool: Pool, head: bytes
    ) -> web.StreamResponse:
        """Do it on one connection, which afterwards is kept, or gone."""
        try:
            with self._cut_when_client_leaves(upstream):
                return await self._talk(upstream, head)
        finally:
            pool.give_back(self._port, upstream)

    @contextlib.contextmanager
    def _cut_when_client_leaves(self, upstream: Upstream) -> Iterator[None]:
        self._connection.call_on_leave(upstream.abort)
        try:
            yield
        finally:
            self._connection.call_on_leave(None)

    async def _talk(self, upstream: Upstream, head: bytes) -> web.StreamResponse:
        answered = upstream.begin(has_body=self._request.method != "HEAD")
        upstream.on_informed = self._inform
        upstream.write(head)
        if not self._has_body:
            return await self._finish(upstream, await answered)
        sending = asyncio.create_task(self._send_body(upstream))
        try:
            return await self._finish(upstream, await answered)
        finally:
            if not sending.done():
                # It answered without waiting for all of the body: nothing can follow
                # on this connection.
                upstream.abort()
                sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending

    async def _send_body(self, upstream: Upstream) -> None:
        """Send the request's body; whoever waits for the answer is told of failures."""
        content = self._request.content
        try:
            while piece := await content.readany():
                _write_piece(upstream.write, piece, is_chunked=self._length.is_chunked)
                await upstream.drain()
            if self._length.is_chunked:
                upstream.write(b"0\r\n\r\n")
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            upstream.fail(error)
            upstream.abort()

    async def _finish(self, upstream: Upstream, answer: Answer) -> web.StreamResponse:
        """Pass on the answer, whose head is there."""
        if answer.message.code == SWITCHING:
            return await self._switch(upstream, answer)
        length = self._length_to_tell(answer)
        has_end = (
            length.is_chunked or length.exact is not None or self._is_bodiless(answer)
        )
        is_sure = not self._expects or self._request.content.is_eof()
        stays_open = bool(self._request.keep_alive) and has_end and is_sure
        first, headers = await self._answer_lines(answer)
        options = [] if stays_open else [b"Connection: close"]
        if stays_open and not self._is_11:
            options = [b"Connection: keep-alive"]
        relay = _Relay(self, answer_head(first, headers, length, options), length)
        try:
            with self._cut_when_draining(upstream, headers):
                await self._relay(upstream, relay)
        except RemoteError:
            if not has_end:
                # The connection's end would be taken for the body's, a reset is not.
                reset_if_we_die(self._request)
            raise
        return Relayed(answer.message.code, keep_alive=stays_open)

    async def _relay(self, upstream: Upstream, relay: "_Relay") -> None:
        self._connection.call_on_room(lambda has_room: upstream.hold(hold=not has_room))
        try:
            ended = upstream.pour(relay)
            relay.flush()
            if not ended.done():
                await ended
            else:
                ended.result()
        finally:
            self._connection.call_on_room(None)

    def _length_to_tell(self, answer: Answer) -> Length:
        """Return how the client is told where the answer's body ends.

        Raises:
            RemoteError: The application says it in more ways than one.
        """
        message = answer.message
        try:
            length = length_of(answer.headers)
        except ValueError as error:
            raise RemoteError(MALFORMED_ANSWER) from error
        if self._is_bodiless(answer):
            is_told = message.code != NO_CONTENT[0]
            return Length(is_chunked=False, exact=length.exact if is_told else None)
        if length.exact is not None:
            return length
        # Also what ends with the connection: a client on HTTP/1.1 can then tell the end
        # from a broken transfer.
        return Length(is_chunked=self._is_11, exact=None)

    def _is_bodiless(self, answer: Answer) -> bool:
        return self._request.method == "HEAD" or answer.message.code in NO_CONTENT

    async def _answer_lines(self, answer: Answer) -> tuple[bytes, Headers]:
        """Return the status line and headers as the client is to see them."""
        message = answer.message
        first = status_line(message.code, message.reason)
        headers = _passed_on(answer.headers)
        signal = self._request.app.on_response_prepare
        if not signal:
            return first, headers
        # The dev command has a say in the answers of previews.
        seen = web.StreamResponse(status=message.code)
        for _, name, value in headers:
            seen.headers.add(_text(name), _text(value))
        await signal.send(self._request, seen)
        return first, keyed(
            (_bytes(name), _bytes(value)) for name, value in seen.headers.items()
        )

    def _inform(self, message: RawResponseMessage) -> None:
        """Pass on an informational answer; HTTP/1.0 has none."""
        if message.code == CONTINUE:
            self._expects = False
        if self._is_11:
            first = status_line(message.code, message.reason)
            none = Length(is_chunked=False, exact=None)
            headers = _passed_on(keyed(message.raw_headers))
            self.write(answer_head(first, headers, none, ()), counts=False)

    async def _switch(self, upstream: Upstream, answer: Answer) -> web.StreamResponse:
        """Join the client and the application."""
        message = answer.message
        client = self._connection.transport
        if not self._upgrade:
            raise RemoteError(MALFORMED_ANSWER)
        if client is None:
            raise ConnectionResetError("the client left")
        named = [value for key, _, value in answer.headers if key == b"upgrade"]
        options = [b"Connection: Upgrade", *(b"Upgrade: " + each for each in named)]
        none = Length(is_chunked=False, exact=None)
        first = status_line(message.code, message.reason)
        self.write(answer_head(first, _passed_on(answer.headers), none, options))
        close_cleanly(self._request)
        tunnel = Tunnel(client, upstream)
        with told_of_the_end(self._request, tunnel.cut):
            self._connection.call_on_room(
                lambda has_room: upstream.hold(hold=not has_room)
            )
            self._connection.hand_over(tunnel)
            await tunnel.join()
            if upstream.was_cut:
                reset_if_we_die(self._request)
                client.abort()
            else:
                client.close()
        return Relayed(message.code, keep_alive=False)

    def write(self, data: bytes, *, counts: bool = True) -> None:
        """Send bytes to the client."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if counts:
            # By this the dispatcher knows that an answer has begun.
            self._request.writer.output_size += len(data)

    @contextlib.contextmanager
    def _cut_when_draining(
        self, upstream: Upstream, headers: Headers
    ) -> Iterator[None]:
        """End a stream of events, which has no end of its own, when the agent stops."""
        kind = next((value for key, _, value in headers if key == b"content-type"), b"")
        if not kind.lower().startswith(EVENT_STREAM):
            yield
            return
        with told_of_the_end(self._request, upstream.abort):
            yield


class _Relay:
    """Takes an answer's body to the client.

    Args:
        exchange: Whose answer it is.
        head: The answer's head, sent with the first piece.
        length: How the client is told where the body ends.
    """

    def __init__(self, exchange: Exchange, head: bytes, length: Length) -> None:
        self._exchange = exchange
        self._head = head
        self._is_chunked = length.is_chunked

    def take(self, data: bytes) -> None:
        """Send a piece."""
        head, self._head = self._head, b""
        if self._is_chunked and len(data) <= JOINED_MAX_BYTES:
            self._exchange.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))
        elif len(data) <= JOINED_MAX_BYTES:
            self._exchange.write(head + data)
        else:
            if head:
                self._exchange.write(head)
            _write_piece(self._exchange.write, data, is_chunked=self._is_chunked)

    def take_end(self) -> None:
        """Send what says that this was all."""
        head, self._head = self._head, b""
        if self._is_chunked:
            self._exchange.write(head + b"0\r\n\r\n")
        elif head:
            self._exchange.write(head)

    def flush(self) -> None:
        """Send the head, if no piece of the body came with it."""
        head, self._head = self._head, b""
        if head:
            self._exchange.write(head)


def _write_piece(
    write: Callable[[bytes], None], data: bytes, *, is_chunked: bool
) -> None:
    """Write a piece of a body, framed if need be; large ones are not copied for it."""
    if not is_chunked:
        write(data)
    elif len(data) <= JOINED_MAX_BYTES:
        write(b"%x\r\n%b\r\n" % (len(data), data))
    else:
        write(b"%x\r\n" % len(data))
        write(data)
        write(b"\r\n")


def _passed_on(headers: Headers) -> Headers:
    """Return the headers of an answer that the client is to see as they are."""
    return [each for each in end_to_end(headers) if each.key not in FRAMING]


def _peer_of(request: web.Request) -> str:
    peer = request.transport and request.transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else "unknown"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
