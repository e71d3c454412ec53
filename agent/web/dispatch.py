"""The life of one request: find the route, check the caller, call, answer, log.

Everything passes here, so that no route can forget a rule: prefixes are stripped once,
the guard runs before any work, and every failure leaves as the envelope.
"""

import asyncio
import itertools
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping

from aiohttp import hdrs, web
from multidict import istr

from agent.errors import UnavailableError, UnsupportedMediaError
from agent.settings import Settings
from agent.web.counts import Counts
from agent.web.errors import Failure, failure_of, of_status, response_of
from agent.web.guard import Guard
from agent.web.query import parse_query, unquote
from agent.web.rooms import Rooms
from agent.web.router import Match, Router
from agent.web.routes import Route, Routes

log = logging.getLogger("agent.request")

OnRequest = Callable[[str, Mapping[str, str], str, int, float], None]
"""Takes method, headers, the route's template or nothing, status and seconds."""

READ_ONLY = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
REQUEST_ID = istr("X-Request-Id")
BAD_REQUEST = 400
CLIENT_CLOSED_REQUEST = 499
"""What the log says of a client that left; the status never reaches a wire."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
CLOSE_CLEANLY = struct.pack("ii", 0, 0)


class Dispatcher:
    """Answers every request of one agent.

    Args:
        tables: The route tables of all subsystems.
        settings: The agent's options.
        guard: Who may call; by default the one that `settings` describes.
        generation: Which api process of this agent this is; begins the request ids.
        rooms: The subsystems whose tables come when they are first asked for.
        counting: Whether requests are counted.
    """

    def __init__(
        self,
        tables: Iterable[Routes],
        settings: Settings,
        *,
        guard: Guard | None = None,
        generation: int = 1,
        rooms: Rooms | None = None,
        counting: bool = True,
    ) -> None:
        self.tables = tuple(tables)
        self.rooms = rooms
        self.router = Router(
            (route for table in self.tables for route in table),
            rooms.first_segments if rooms else (),
            rooms.open_ended if rooms else (),
        )
        self.guard = guard or Guard(settings)
        self.draining = False
        """True from SIGTERM on: only public routes are still answered."""
        self.counts = Counts() if counting else None
        self.on_request: OnRequest | None = None
        """Called with each request that was answered."""
        self.in_flight = 0
        """Requests being answered, open websockets included."""
        self.on_drain: set[Callable[[], None]] = set()
        """Called once when draining begins: answers without an end of their own end."""
        self._all_answered: asyncio.Event | None = None
        self._ids = itertools.count(1)
        self._generation = generation

    async def handle(
        self, request: web.Request, raw_path: str | None = None
    ) -> web.StreamResponse:
        """Answer one request.

        Args:
            request: The request.
            raw_path: The path to route by, when it is not the request's own.

        Raises:
            ConnectionResetError: The client left, or an answer broke off half-way.
        """
        started = time.monotonic()
        request_id = f"{self._generation:x}-{next(self._ids):x}"
        path = self.router.canonical(raw_path or request.rel_url.raw_path)
        query = parse_query(request.rel_url.raw_query_string)
        route: Route | None = None
        failure: Failure | None = None
        self.in_flight += 1
        try:
            if not self.router.is_known(path):
                await self._open_room(request, path)
            route, names = self._admit(request, path, query)
            if request.method not in READ_ONLY:
                reset_if_we_die(request)
            response = await route.call(request, names, query)
        except Exception as error:
            if has_left(request, error):
                # What it started goes on; there is nobody to tell.
                self._note(request, route, started, request_id, CLIENT_CLOSED_REQUEST)
                raise ConnectionResetError("the client left") from error
            failure = failure_of(error)
            if not failure.expected:
                log.exception("request %s failed", request_id)
            response = self._failed(request, failure, path)
        finally:
            self._one_less()
        if not response.prepared:
            response.headers[REQUEST_ID] = request_id
        status = failure.status if failure else response.status
        self._note(request, route, started, request_id, status, response)
        return response

    async def drain(self) -> None:
        """Take no new work from now on, and return once everything is answered."""
        self.draining = True
        for callback in tuple(self.on_drain):
            callback()
        if self.in_flight:
            self._all_answered = asyncio.Event()
            await self._all_answered.wait()

    def _one_less(self) -> None:
        self.in_flight -= 1
        if self._all_answered is not None and self.in_flight == 0:
            self._all_answered.set()

    async def expect(
        self, request: web.Request, raw_path: str | None = None
    ) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`: refuse before the body is sent, or ask for it."""
        path = self.router.canonical(raw_path or request.rel_url.raw_path)
        if request.headers.get("Expect", "").lower() != "100-continue":
            failure = of_status(417, "unknown expectation")
            return self._failed(request, failure, path)
        try:
            await self._open_room(request, path)
            query = parse_query(request.rel_url.raw_query_string)
            match = self._admit(request, path, query)
        except Exception as error:  # noqa: BLE001 - told as in `handle`
            return self._failed(request, failure_of(error), path)
        if match.route.open_ended:
            # Whether the body is wanted, the server behind the route knows.
            return None
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The line above is no part of the response that follows.
        request.writer.output_size = 0
        return None

    async def all_tables(self) -> list[Routes]:
        """Return every route table, those of rooms that nobody asked for included."""
        if self.rooms is None:
            return list(self.tables)
        return [*self.tables, *await asyncio.to_thread(self.rooms.tables)]

    async def _open_room(self, request: web.Request, path: str) -> None:
        """Make sure that the room which serves `path` is open."""
        room = self.rooms.closed_room(path) if self.rooms is not None else None
        if room is not None and self.rooms is not None:
            await self.rooms.open(room, request.app, self.router)

    def _admit(
        self, request: web.Request, path: str, query: dict[str, list[str]]
    ) -> Match:
        """Find the route and check the caller, in an order that tells strangers nothing."""
        try:
            match = self.router.match(request.method, path)
        except Exception:
            self.guard.check(request, None, query)
            raise
        self.guard.check(request, match.route, query)
        if self.draining and not match.route.public:
            raise UnavailableError("the agent is shutting down")
        if match.route.open_ended:
            return match
        encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
        if encoding != "identity":
            # Two hundred kilobytes can inflate to two hundred megabytes.
            raise UnsupportedMediaError(
                f"content encoding {encoding!r} is not accepted"
            )
        return match

    def _failed(
        self, request: web.Request, failure: Failure, path: str
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            # Part of an answer is out: cut the connection, so that the client sees
            # a broken transfer and not a short file.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the answer broke off")
        return self.tell(failure, unquote(path), request.method)

    def tell(self, failure: Failure, path: str, method: str) -> web.Response:
        """Return the answer that tells of `failure`: here, the toolbox's envelope."""
        return response_of(failure, path=path, method=method)

    def _note(
        self,
        request: web.Request,
        route: Route | None,
        started: float,
        request_id: str,
        status: int,
        response: web.StreamResponse | None = None,
    ) -> None:
        """Count the request, and write its line.

        That has the route's template, never path, query, body or command.
        """
        seconds = time.monotonic() - started
        if self.counts is not None:
            self.counts.add(request, route, status, seconds, response)
        if self.on_request is not None:
            template = route.path if route is not None else ""
            self.on_request(request.method, request.headers, template, status, seconds)
        # Probes and polls would drown what matters.
        is_routine = request.method in READ_ONLY and status < BAD_REQUEST
        level = logging.DEBUG if is_routine else logging.INFO
        if not log.isEnabledFor(level):
            return
        facts: dict[str, object] = {
            "request": request_id,
            "method": request.method,
            "route": route.path if route else None,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "in": request.content_length,
            "out": response.content_length if response is not None else None,
        }
        # Once the answer is out: the client waits for that, not for a line about it.
        asyncio.get_running_loop().call_soon(_write_line, level, facts)


def has_left(request: web.Request, error: Exception) -> bool:
    """Tell whether an error says that the client left.

    One who writes and waits for room is told by the plain `ConnectionError` when the
    connection is lost; others of that kind may be of a connection of our own.
    """
    if isinstance(error, ConnectionResetError):
        return True
    lost = request.transport is None or request.transport.is_closing()
    return lost and isinstance(error, ConnectionError)


def _write_line(level: int, facts: dict[str, object]) -> None:
    log.log(level, "request", extra={"facts": facts})


def reset_if_we_die(request: web.Request) -> None:
    """Make the kernel reset this connection, not close it, should the process die.

    The official sync SDK sends any request again, POST too, when its connection is
    closed before the first byte of the answer; after a reset it does not. The server
    takes this back before the answer is finished (`server.py`).
    """
    _set_linger(request.transport, RESET_ON_CLOSE)


def close_cleanly(request: web.BaseRequest) -> None:
    """Take back `reset_if_we_die`."""
    _set_linger(request.transport, CLOSE_CLEANLY)


def _set_linger(transport: object, value: bytes) -> None:
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = get_extra_info("socket") if get_extra_info else None
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)
