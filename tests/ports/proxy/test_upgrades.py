"""Upgrades: what the client and the application say to each other after 101."""

import asyncio

import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from tests.ports.proxy.conftest import Serve, Speak, reset
from tests.support.serving import TOKEN, Served, settled

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
)
ENOUGH_BYTES = 32 * 1024 * 1024


def upgrade(served: Served, port: int, protocol: str = "raw") -> bytes:
    """Return the head of a request to switch protocols."""
    url = URL(f"/proxy/{port}/")
    return served.head("GET", url, Connection="Upgrade", Upgrade=protocol)


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Say back what is said; `close N` closes with a code."""
    socket = web.WebSocketResponse(protocols=("vite-hmr", "chat"), max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data.startswith("close "):
            await socket.close(code=int(message.data[6:]), message=b"as asked")
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    request.app["codes"].append(socket.close_code)
    return socket


def echoing() -> web.Application:
    """Return an application that says back what is said."""
    app = web.Application()
    app["codes"] = []
    app.router.add_get("/ws", echo)
    return app


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.parametrize("compress", [0, 15])
async def test_a_websocket_is_between_its_two_ends(
    served: Served, serve: Serve, compress: int
) -> None:
    port = await serve(echoing())

    async with served.client.ws_connect(
        f"{served.url}/proxy/{port}/ws",
        protocols=("other", "chat"),
        compress=compress,
        max_msg_size=0,
    ) as socket:
        assert socket.protocol == "chat"
        assert socket.compress == compress
        await socket.send_str("hällo" * 1000)
        assert await socket.receive_str() == "hällo" * 1000
        await socket.send_bytes(bytes(3 * 1024 * 1024))
        assert await socket.receive_bytes() == bytes(3 * 1024 * 1024)


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.parametrize("code", [1000, 1011, 4000])
async def test_close_codes_arrive_in_both_directions(
    served: Served, serve: Serve, code: int
) -> None:
    app = echoing()
    port = await serve(app)
    url = f"{served.url}/proxy/{port}/ws"

    async with served.client.ws_connect(url) as socket:
        await socket.send_str(f"close {code}")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, code)
        assert message.extra == "as asked"
    async with served.client.ws_connect(url) as socket:
        await socket.close(code=code)
    await settled(lambda: len(app["codes"]) == 2)

    assert app["codes"][1] == code


async def test_an_application_that_is_killed_is_seen_as_1006(
    served: Served, speak: Speak
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"hello")
        await reader.readexactly(2)
        reset(writer)

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port, "websocket"))
        await reader.readuntil(b"hello")
        writer.write(b"go")
        # No close frame comes before the end, which is what 1006 stands for.
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_what_is_said_at_once_with_the_switch_arrives(
    served: Served, speak: Speak
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"first")
        writer.write(await reader.readexactly(5))

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        # Before it has the answer, as an eager client may.
        writer.write(upgrade(served, port, "websocket") + b"eager")
        head = await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(10) == b"firsteager"

    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: raw\r\n" in head


async def test_an_end_that_is_done_speaking_may_still_listen(
    served: Served, speak: Speak
) -> None:
    heard = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        heard.append(await reader.read())
        writer.write(b"the answer to all of it")
        writer.close()

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"all of it")
        writer.write_eof()
        assert await reader.read() == b"the answer to all of it"

    assert heard == [b"all of it"]
    await settled(lambda: served.dispatcher.in_flight == 0)


async def test_an_application_that_is_done_speaking_may_still_listen(
    served: Served, speak: Speak
) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"bye")
        writer.write_eof()
        heard.set_result(await reader.read())

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"bye"
        writer.write(b"one more thing")
        writer.write_eof()
        assert await heard == b"one more thing"

    await settled(lambda: served.dispatcher.in_flight == 0)


async def test_a_refused_upgrade_is_an_ordinary_answer(
    served: Served, speak: Speak
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = head.split(b" ")[1]
            writer.write(
                b"HTTP/1.1 426 Not So\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port, "websocket"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 426 Not So")
        assert await reader.readexactly(1) == b"/"
        # The connection speaks HTTP still.
        writer.write(served.head("GET", URL(f"/proxy/{port}/next")))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == b"/next"


@pytest.mark.parametrize("slow", ["client", "application"])
async def test_whoever_is_slow_holds_the_other_end_back(
    served: Served, speak: Speak, slow: str
) -> None:
    flow = Flow()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        if slow == "client":
            await flow.send(writer)
        else:
            await flow.receive(reader)

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port))
        await reader.readuntil(b"\r\n\r\n")
        work = flow.receive(reader) if slow == "client" else flow.send(writer)
        running = asyncio.create_task(work)
        await flow.stands()
        assert flow.sent_bytes < ENOUGH_BYTES
        flow.goes.set()
        await running
        assert await flow.received == ENOUGH_BYTES


class Flow:
    """Bytes on their way, whose receiver waits for `goes`."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.goes = asyncio.Event()
        self.received = asyncio.get_running_loop().create_future()

    async def send(self, writer: asyncio.StreamWriter) -> None:
        """Send all there is."""
        while self.sent_bytes < ENOUGH_BYTES:
            writer.write(bytes(65536))
            await writer.drain()
            self.sent_bytes += 65536

    async def receive(self, reader: asyncio.StreamReader) -> None:
        """Receive all there is, once it is time."""
        await self.goes.wait()
        count = 0
        while count < ENOUGH_BYTES:
            count += len(await reader.read(65536))
        self.received.set_result(count)

    async def stands(self) -> None:
        """Return once the sender has to wait."""
        last = -1
        while last != self.sent_bytes or not last:
            last = self.sent_bytes
            await asyncio.sleep(0.1)


async def test_a_client_that_leaves_ends_the_applications_side(
    served: Served, speak: Speak
) -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        await reader.read()
        ended.set()
        writer.close()

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port))
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    await ended.wait()
    await settled(lambda: served.dispatcher.in_flight == 0)


async def test_the_agents_end_ends_tunnels(served: Served, speak: Speak) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        await reader.read()

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(upgrade(served, port))
        await reader.readuntil(b"\r\n\r\n")
        await served.dispatcher.drain()
        assert await reader.read() == b""


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_a_token_in_the_address_lets_a_browser_in_and_goes_no_further(
    served: Served, speak: Speak
) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(SWITCH)

    port = await speak(talk)
    lines = [
        f"GET /proxy/{port}/ws?DAYTONA_SANDBOX_AUTH_KEY={TOKEN} HTTP/1.1",
        f"Host: 127.0.0.1:{served.port}",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "",
        "",
    ]
    async with served.connection() as (reader, writer):
        writer.write("\r\n".join(lines).encode())
        await reader.readuntil(b"\r\n\r\n")
        head = await heard

    assert head.startswith(b"GET /ws HTTP/1.1\r\n")
    assert TOKEN.encode() not in head
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
