"""Files on the wire: exact, bounded, and held up by nobody."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.files.content import Content, open_content
from agent.files.sending import ShortFileError, Wire
from agent.files.threads import Threads

pytestmark = pytest.mark.usefixtures("all_closed")

SIZE = 6 * 1024 * 1024


@contextlib.asynccontextmanager
async def wire_pair(
    stall_limit_s: float = 5.0, threads: int = 2
) -> AsyncIterator[tuple[Wire, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give the sending side of a connection, and the client's two sides."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.Future()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    pool = Threads("test", threads)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, client = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
    writer = await accepted

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    try:
        yield (
            Wire(writer.transport, write, pool, stall_limit_s=stall_limit_s),
            reader,
            client,
        )
    finally:
        for each in (writer, client):
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()
        server.close()
        await server.wait_closed()
        await pool.aclose()


@pytest.fixture
def data() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def content(tmp_path: Path, data: bytes) -> Content:
    (tmp_path / "big").write_bytes(data)
    return open_content(f"{tmp_path}/big", "big")


@pytest.mark.parametrize("method", ["send_file", "send_copies"])
async def test_bytes_written_before_come_first(
    content: Content, data: bytes, method: str
) -> None:
    async with wire_pair() as (wire, reader, _):
        received = asyncio.create_task(reader.readexactly(2_000_000 + SIZE - 10 + 4))

        await wire.write(b"h" * 2_000_000)
        await getattr(wire, method)(content, 7, SIZE - 10)
        await wire.write(b"tail")

        assert await received == b"h" * 2_000_000 + data[7:-3] + b"tail"
    content.close()


@pytest.mark.parametrize("method", ["send_file", "send_copies"])
async def test_a_file_that_ends_early_is_told(content: Content, method: str) -> None:
    async with wire_pair() as (wire, reader, _):
        received = asyncio.create_task(reader.readexactly(SIZE))

        with pytest.raises(ShortFileError):
            await getattr(wire, method)(content, 0, SIZE + 1)

        assert len(await received) == SIZE
    content.close()


async def test_slow_clients_hold_no_thread(content: Content, data: bytes) -> None:
    # With a single thread, eight clients that read nothing at first.
    async with contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(wire_pair()) for _ in range(8)]
        pool = pairs[0][0]._threads
        for wire, _, _ in pairs:
            wire._threads = pool
        sending_all = [
            asyncio.create_task(wire.send_file(content, 0, SIZE))
            for wire, _, _ in pairs
        ]
        async with wire_pair() as (wire, reader, _):
            wire._threads = pool
            received = asyncio.create_task(reader.readexactly(SIZE))

            await wire.send_file(content, 0, SIZE)

            assert await received == data
        assert not any(task.done() for task in sending_all)
        for _, reader, _ in pairs:
            assert await reader.readexactly(SIZE) == data
        await asyncio.gather(*sending_all)
    content.close()


@pytest.mark.parametrize("method", ["send_file", "send_copies"])
async def test_a_client_that_leaves_ends_the_sending(
    content: Content, method: str
) -> None:
    async with wire_pair() as (wire, reader, client):
        task = asyncio.create_task(getattr(wire, method)(content, 0, SIZE))
        await reader.readexactly(1000)

        client.transport.abort()

        with pytest.raises(ConnectionError):
            await task
    content.close()


@pytest.mark.parametrize("method", ["send_file", "send_copies"])
async def test_a_client_that_takes_nothing_is_given_up(
    content: Content, method: str
) -> None:
    async with wire_pair(stall_limit_s=0.2) as (wire, _, _):
        with pytest.raises(ConnectionResetError, match="takes nothing"):
            await getattr(wire, method)(content, 0, SIZE)
    content.close()


async def test_a_cancelled_sending_waits_for_its_thread(content: Content) -> None:
    async with wire_pair() as (wire, reader, _):
        task = asyncio.create_task(wire.send_file(content, 0, SIZE))
        await reader.readexactly(1000)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert not wire._threads._running
    content.close()


async def test_what_the_system_cannot_send_is_copied(
    content: Content, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse)
    async with wire_pair() as (wire, reader, _):
        received = asyncio.create_task(reader.readexactly(SIZE))

        await wire.send_file(content, 0, SIZE)

        assert await received == data
    content.close()


async def test_virtual_files_are_sent_to_their_end() -> None:
    content = open_content("/proc/self/status", "status")
    async with wire_pair() as (wire, reader, _):
        await wire.send_to_end(content, 0)
        wire._transport.close()

        assert (await reader.read()).startswith(b"Name:")
    content.close()


async def test_threads_end_when_the_pool_is_closed() -> None:
    pool = Threads("ending", 3)
    await asyncio.gather(*(pool.run(os.getpid) for _ in range(20)))

    await pool.aclose()

    for thread in threading.enumerate():
        if thread.name.startswith("ending"):
            thread.join(5)
            assert not thread.is_alive()


async def test_work_of_a_cancelled_caller_is_not_cut_short() -> None:
    pool = Threads("cancelled", 1)
    first, second = socket.socketpair()
    done = threading.Event()

    def work() -> None:
        second.recv(1)
        done.set()

    task = asyncio.create_task(pool.run(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    waiting = not task.done()
    first.send(b"x")
    with pytest.raises(asyncio.CancelledError):
        await task

    assert waiting
    assert done.is_set()
    await pool.aclose()
    first.close()
    second.close()
