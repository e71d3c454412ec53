"""Websockets by the rules that every official client lives with (contract 30 §4).

No compression (it costs a factor of twenty), no enforced pongs (a client may block in its
own callback), one of the offered subprotocols chosen, frames of at most 32 KiB, and a
close reason that fits its frame. All open sockets are known, so that a shutdown can close
them with 1001.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from aiohttp import web
from aiohttp.http import WSCloseCode

from agent.errors import InvalidRequestError
from agent.web.guard import is_upgrade

FRAME_BYTES = 32 * 1024
"""Largest payload of one message we send (contract 30 §4)."""
REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame holds 125 bytes, two of them the code."""
MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message taken from a client: interpreter code arrives in one."""
CLOSE_LIMIT_S = 1.0
"""Time a client has to answer a close."""

VERSION_TOKEN = "X-Daytona-SDK-Version~"  # noqa: S105 - a subprotocol's name
EXIT_CONTROL = "X-Daytona-Pty-Exit-Control"
SECRET_TOKEN = "X-Daytona-Pty-Envs~"  # noqa: S105 - a subprotocol's name


def choose_subprotocol(offered: Sequence[str]) -> str | None:
    """Return the one offered subprotocol to select, or None when none is ours."""
    for token in offered:
        if token.startswith(VERSION_TOKEN):
            return token
    if EXIT_CONTROL in offered:
        return EXIT_CONTROL
    ours = [token for token in offered if token.startswith("X-Daytona-")]
    # The environment token carries secrets, so it is echoed only if nothing else can be.
    return min(ours, key=lambda token: token.startswith(SECRET_TOKEN), default=None)


def reason_bytes(reason: str) -> bytes:
    """Return a close reason cut to what its frame holds, at a character's end."""
    return reason.encode()[:REASON_BYTES].decode("utf-8", "ignore").encode()


def offered_subprotocols(request: web.Request) -> list[str]:
    """Return what the client offers to speak."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return [each.strip() for each in offered.split(",")]


def check_upgrade(request: web.Request) -> None:
    """See that the request can be upgraded, before anything is done for it.

    Raises:
        InvalidRequestError: It does not ask for an upgrade, or not properly.
    """
    if not is_upgrade(request):
        raise InvalidRequestError("a websocket upgrade is required")
    # With a choice, since without one it writes what was offered into the log.
    trial = web.WebSocketResponse(protocols=_protocols(request))
    if not trial.can_prepare(request).ok:
        raise InvalidRequestError("the websocket upgrade is malformed")


def _protocols(request: web.Request) -> tuple[str, ...]:
    chosen = choose_subprotocol(offered_subprotocols(request))
    return (chosen,) if chosen else ()


@contextlib.asynccontextmanager
async def beside(*works: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Have works go on while inside: what reads a socket while another writes, say.

    They are over afterwards, so that the socket can be closed in order. While somebody
    receives, aiohttp does not wait for the client's own close but drops the connection;
    what the client sent meanwhile then resets it, and our last words may be lost.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Websockets:
    """All open websockets of the agent."""

    def __init__(self) -> None:
        self._open: set[web.WebSocketResponse] = set()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    async def accept(self, request: web.Request) -> web.WebSocketResponse:
        """Upgrade the request.

        Raises:
            InvalidRequestError: It does not ask for an upgrade.
        """
        socket = web.WebSocketResponse(
            protocols=_protocols(request),
            compress=False,
            max_msg_size=MESSAGE_BYTES,
            timeout=CLOSE_LIMIT_S,
        )
        return await self._prepare(request, socket)

    async def accept_raw(
        self, request: web.Request, message_bytes: int
    ) -> web.WebSocketResponse:
        """Upgrade the request, and leave pings and the pace of sending to the caller.

        Raises:
            InvalidRequestError: It does not ask for an upgrade.
        """
        socket = web.WebSocketResponse(
            protocols=_protocols(request),
            compress=False,
            max_msg_size=message_bytes,
            timeout=CLOSE_LIMIT_S,
            autoping=False,
            writer_limit=sys.maxsize,
        )
        return await self._prepare(request, socket)

    async def _prepare(
        self, request: web.Request, socket: web.WebSocketResponse
    ) -> web.WebSocketResponse:
        check_upgrade(request)
        await socket.prepare(request)
        self._open.add(socket)
        return socket

    def forget(self, socket: web.WebSocketResponse) -> None:
        """Drop a socket that its handler is done with."""
        self._open.discard(socket)

    async def close_all(self) -> None:
        """Close every open socket with 1001, all at once."""
        sockets = tuple(self._open)
        await asyncio.gather(
            *(
                socket.close(
                    code=WSCloseCode.GOING_AWAY, message=b"the agent is shutting down"
                )
                for socket in sockets
            )
        )


WEBSOCKETS = web.AppKey("websockets", Websockets)
