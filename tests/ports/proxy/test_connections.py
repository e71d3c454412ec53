"""Which connections to applications are used, kept, and tried again."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.errors import RemoteError
from agent.ports.proxy.pool import Pool
from agent.ports.proxy.routes import POOL
from tests.ports.proxy.conftest import Speak
from tests.support.serving import Served, settled

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers, and counts what it is asked.

    Args:
        dies_after: Of each connection, the number of answers before it is closed with
            the next request read and not answered.
    """

    def __init__(self, dies_after: int = -1) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.connections = 0
        self._dies_after = dies_after

    async def talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection."""
        self.connections += 1
        number, answers = self.connections, 0
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heard.append((number, head.split(b" ")[0]))
            if answers == self._dies_after:
                writer.close()
                return
            writer.write(OK)
            answers += 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_a_connection_is_used_again(
    served: Served, speak: Speak, method: str
) -> None:
    server = Server()
    port = await speak(server.talk)

    for _ in range(3):
        async with served.client.request(method, f"{served.url}/proxy/{port}/") as got:
            assert got.status == 200

    assert [number for number, _ in server.heard] == [1, 1, 1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_what_can_do_no_harm_twice_is_sent_again_when_a_kept_connection_dies(
    served: Served, speak: Speak, method: str
) -> None:
    server = Server(dies_after=1)
    port = await speak(server.talk)

    for _ in range(2):
        async with served.client.request(method, f"{served.url}/proxy/{port}/") as got:
            assert got.status == 200

    assert [number for number, _ in server.heard] == [1, 1, 2]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_do_harm_twice_is_sent_once(
    served: Served, speak: Speak, method: str
) -> None:
    server = Server(dies_after=1)
    port = await speak(server.talk)

    for _ in range(2):
        async with served.client.request(method, f"{served.url}/proxy/{port}/") as got:
            assert got.status == 200

    assert [number for number, _ in server.heard] == [1, 2]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_fresh_connection_that_dies_is_not_tried_again(
    served: Served, speak: Speak, method: str
) -> None:
    server = Server(dies_after=0)
    port = await speak(server.talk)

    async with served.client.request(method, f"{served.url}/proxy/{port}/") as got:
        assert got.status == 502

    assert len(server.heard) == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again(
    served: Served, speak: Speak
) -> None:
    heard = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 2")
        await writer.drain()
        writer.close()

    port = await speak(talk)
    statuses = []
    for _ in range(2):
        async with served.client.get(f"{served.url}/proxy/{port}/") as got:
            statuses.append(got.status)

    assert statuses == [200, 502]
    assert len(heard) == 2


async def test_an_idle_connection_is_closed_after_its_time(speak: Speak) -> None:
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    port = await speak(talk)
    async with pooling(idle_limit_s=0.01) as pool:
        upstream = await pool.connect(port)
        answered = upstream.begin(has_body=True)
        upstream.data_received(OK)
        await answered
        pool.give_back(port, upstream)
        await ended.wait()
        await settled(lambda: pool.open_count == 0)

        assert pool.take_idle(port) is None
        assert pool.idle_count == 0


async def test_a_kept_connection_that_speaks_unasked_is_not_used(
    served: Served, speak: Speak
) -> None:
    unasked = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await unasked.wait()
        writer.write(OK)

    port = await speak(talk)
    async with served.client.get(f"{served.url}/proxy/{port}/") as got:
        assert got.status == 200
    pool = served.app[POOL]
    assert pool.open_count == 1
    unasked.set()

    await settled(lambda: pool.open_count == 0)
    assert pool.take_idle(port) is None


async def test_a_service_that_starts_up_is_waited_for_when_asked_to() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, listener.listen)

        async with pooling(grace_s=5) as pool:
            upstream = await pool.connect(port)
            assert upstream.is_usable


async def test_without_grace_nobody_is_waited_for() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with pooling() as pool:
            with pytest.raises(RemoteError, match="no service is listening on port"):
                await pool.connect(bound.getsockname()[1])


async def test_the_end_cuts_every_connection(speak: Speak) -> None:
    server = Server()
    port = await speak(server.talk)
    pool = Pool(0)
    upstreams = [await pool.connect(port) for _ in range(3)]

    await pool.aclose()

    assert not any(each.is_usable for each in upstreams)


@asynccontextmanager
async def pooling(
    *, grace_s: float = 0, idle_limit_s: float = 30
) -> AsyncIterator[Pool]:
    """Give a pool, closed at the end."""
    pool = Pool(grace_s, idle_limit_s)
    try:
        yield pool
    finally:
        await pool.aclose()
