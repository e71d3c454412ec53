"""Tells the SDKs of the sandbox's changes, over Socket.IO.

The SDKs could ask instead, and do when this is missing; but the JavaScript one then tries
to connect for minutes, and a program that uses it does not end before. This is as much of
Engine.IO 4 and Socket.IO 5 as they use: websockets only, one namespace, events one way.

    server  0{"sid": …}       opened
    client  40{"token": …}    asks to be connected
    server  40{"sid": …}      is connected; or 44{"message": …}, is not
    server  42["name", {…}]   an event
    server  2, client  3      ping and pong
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable

import msgspec
from aiohttp import WSMsgType, web

from agent import wire
from agent.errors import TooManyError

MAX_FOLLOWERS = 64
"""Sockets open at once; a script that forgets to close its clients must not pile them up."""
MAX_WAITING = 64
"""Events that wait for one follower; one that is further behind is dropped."""
CONNECT_LIMIT_S = 10.0
"""Time a client has to show its token."""
PING_INTERVAL_S = 25.0
PONG_LIMIT_S = 20.0
MESSAGE_MAX_BYTES = 1_000_000

PING = "2"
CLOSE = "1"
LEAVING = (CLOSE, "41")
"""What a client says that goes: the connection is closed, the namespace left."""
CONNECT = "40"
REFUSED = "44"
EVENT = "42"


class Token(wire.Model, frozen=True, kw_only=True):
    """What a client shows when it asks to be connected."""

    token: str = ""


class Events:
    """All who follow the sandbox's changes."""

    def __init__(self) -> None:
        self._open = 0
        self._followers: set[asyncio.Queue[str]] = set()

    def publish(self, name: str, data: wire.Model) -> None:
        """Send an event to every follower; one that is too far behind is dropped."""
        event = EVENT + wire.encode([name, data]).decode()
        for waiting in tuple(self._followers):
            if not waiting.full():
                waiting.put_nowait(event)
                continue
            self._followers.discard(waiting)
            while not waiting.empty():
                waiting.get_nowait()
            waiting.put_nowait(CLOSE)

    def check_room(self) -> None:
        """Refuse a follower for whom there is no place.

        Raises:
            TooManyError: As many sockets as may be are open.
        """
        if self._open >= MAX_FOLLOWERS:
            raise TooManyError(f"{MAX_FOLLOWERS} event sockets are open")

    async def serve(
        self, socket: web.WebSocketResponse, accepts: Callable[[str], bool]
    ) -> None:
        """Talk to one client until either side goes.

        Args:
            socket: The client's websocket, just opened.
            accepts: Tells whether a token is the right one.
        """
        self._open += 1
        try:
            # A client that is gone concerns nobody else.
            with contextlib.suppress(ConnectionError):
                await socket.send_str(_opening())
                if await _has_connected(socket, accepts):
                    await self._follow(socket)
        finally:
            self._open -= 1
            await socket.close()

    async def _follow(self, socket: web.WebSocketResponse) -> None:
        waiting: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING)
        self._followers.add(waiting)
        try:
            reading = asyncio.create_task(_read_until_leaving(socket))
            writing = asyncio.create_task(_write(socket, waiting))
            try:
                await asyncio.wait(
                    (reading, writing), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                reading.cancel()
                writing.cancel()
                await asyncio.gather(reading, writing, return_exceptions=True)
        finally:
            self._followers.discard(waiting)


def _opening() -> str:
    """Return the packet that opens a connection; its times are in milliseconds."""
    facts = {
        "sid": secrets.token_urlsafe(15),
        "upgrades": [],
        "pingInterval": int(PING_INTERVAL_S * 1000),
        "pingTimeout": int(PONG_LIMIT_S * 1000),
        "maxPayload": MESSAGE_MAX_BYTES,
    }
    return "0" + wire.encode(facts).decode()


async def _has_connected(
    socket: web.WebSocketResponse, accepts: Callable[[str], bool]
) -> bool:
    """Take the client's token; False when it shows none in time, or a wrong one."""
    try:
        message = await socket.receive(timeout=CONNECT_LIMIT_S)
    except TimeoutError:
        return False
    if message.type is not WSMsgType.TEXT or not message.data.startswith(CONNECT):
        return False
    try:
        shown = msgspec.json.decode(message.data[len(CONNECT) :] or "{}", type=Token)
    except msgspec.DecodeError:
        shown = Token()
    if not accepts(shown.token):
        refusal = {"message": "a valid token is required"}
        await socket.send_str(REFUSED + wire.encode(refusal).decode())
        return False
    connected = {"sid": secrets.token_urlsafe(15)}
    await socket.send_str(CONNECT + wire.encode(connected).decode())
    return True


async def _read_until_leaving(socket: web.WebSocketResponse) -> None:
    """Read what the client says, which is of no interest until it says that it goes."""
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data in LEAVING:
            return


async def _write(socket: web.WebSocketResponse, waiting: asyncio.Queue[str]) -> None:
    """Send what waits, and a ping whenever nothing did for its interval."""
    packet = ""
    while packet != CLOSE:
        try:
            async with asyncio.timeout(PING_INTERVAL_S):
                packet = await waiting.get()
        except TimeoutError:
            packet = PING
        await socket.send_str(packet)
