"""How a websocket ends, seen on the wire."""

import asyncio

import pytest
from aiohttp import web

from agent.web.routes import Routes
from agent.web.websockets import WEBSOCKETS, beside
from tests.web.conftest import Serve

routes = Routes("websockets")

CLOSED_1000 = b"\x88\x02\x03\xe8"
MASK = bytes(4)
LATE_TEXT = b"\x81\x84" + MASK + b"late"
LEFT_1000 = b"\x88\x82" + MASK + b"\x03\xe8"


@routes.get("/ends", websocket="only")
async def ends(request: web.Request) -> web.StreamResponse:
    """Say a word, and close, while somebody else receives."""

    async def read() -> None:
        async for _ in socket:
            pass

    socket = await request.app[WEBSOCKETS].accept(request)
    async with beside(read()):
        await socket.send_str("last")
    await socket.close()
    return socket


async def test_the_connection_stays_until_the_client_has_closed_too(
    serve: Serve,
) -> None:
    served = await serve([routes])
    key = {"Sec_WebSocket_Version": 13, "Sec_WebSocket_Key": "A" * 22 + "=="}
    head = served.head(
        "GET", served.at("/ends"), Connection="Upgrade", Upgrade="websocket", **key
    )

    async with served.connection() as (reader, writer):
        writer.write(head)
        await reader.readuntil(CLOSED_1000)
        # What is said now would turn a connection that is gone into a reset.
        writer.write(LATE_TEXT)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read()
        writer.write(LEFT_1000)

        assert await reader.read() == b""
