"""Large bodies, received by worker threads."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.errors import TimeLimitError
from agent.files import routes
from agent.files.receiving import PIECE_BYTES, Inlet
from agent.files.threads import Threads

from .conftest import Agent

MIB = 1024 * 1024
LARGE = 5 * PIECE_BYTES + 17


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make two ends of a connection, of which the first is received from."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """Make one thread only, so that whoever holds it is found out."""
    made = Threads("test", 1)
    yield made
    await made.aclose()


def inlet(
    sock: socket.socket, threads: Threads, size: int, *first: bytes, stall: float = 5
) -> Inlet:
    return Inlet(sock.fileno(), first, size, threads, stall)


async def poured(source: Inlet) -> bytes:
    found = bytearray()

    def take(piece: bytes) -> bool:
        found.extend(piece)
        return True

    try:
        assert not await source.pour(take)
    finally:
        source.close()
    return bytes(found)


async def test_all_of_a_body_comes_in_order_and_nothing_after_it(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    ours, theirs = pair
    body = os.urandom(LARGE)
    sending = asyncio.to_thread(theirs.sendall, body + b"the next request")

    found, _ = await asyncio.gather(
        poured(inlet(ours, threads, LARGE, b"before", b"it ")), sending
    )

    assert found == b"beforeit " + body
    assert ours.recv(100) == b"the next request"


async def test_whoever_takes_it_may_stop_and_go_on(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    ours, theirs = pair
    theirs.sendall(b"second")
    source = inlet(ours, threads, 6, b"first")
    found: list[bytes] = []

    def take(piece: bytes) -> bool:
        found.append(piece)
        return False

    more = [await source.pour(take) for _ in range(3)]
    source.close()

    assert found == [b"first", b"second"]
    assert more == [True, True, False]


async def test_a_client_that_sends_nothing_holds_no_thread(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    ours, theirs = pair
    waiting = asyncio.create_task(poured(inlet(ours, threads, 4)))
    theirs.sendall(b"a")
    other, its_client = socket.socketpair()
    other.setblocking(False)
    with other, its_client:
        its_client.sendall(b"x" * 1000)

        assert await poured(inlet(other, threads, 1000)) == b"x" * 1000

    theirs.sendall(b"bcd")
    assert await waiting == b"abcd"


async def test_a_client_that_leaves_is_told(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    ours, theirs = pair
    theirs.sendall(b"half")
    theirs.close()

    with pytest.raises(ConnectionResetError):
        await poured(inlet(ours, threads, 8))


async def test_a_client_that_sends_nothing_more_is_given_up(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    with pytest.raises(TimeLimitError):
        await poured(inlet(pair[0], threads, 8, stall=0.05))


async def test_what_takes_it_may_fail(
    pair: tuple[socket.socket, socket.socket], threads: Threads
) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 10)
    source = inlet(ours, threads, 20)

    def take(piece: bytes) -> bool:
        raise OSError(len(piece), "full")

    with pytest.raises(OSError, match="full"):
        await source.pour(take)
    source.close()

    assert (source.taken_bytes, source.left_bytes) == (10, 10)


async def test_the_connection_ends_with_the_answer_to_a_large_upload(
    agent: Agent,
) -> None:
    size = routes.TAKEN_BYTES
    head = agent.head("POST", agent.at("/files/upload-v2", "f"), Content_Length=size)

    async with agent.connection() as (reader, writer):
        writer.write(head + bytes(size))
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert (agent.work_dir / "f").stat().st_size == size


@pytest.mark.parametrize("before", [0, 5 * MIB])
async def test_a_refused_upload_leaves_the_connection_to_the_next_request(
    agent: Agent, before: int
) -> None:
    size = routes.TAKEN_BYTES
    head = agent.head(
        "POST",
        agent.at("/files/upload-v2", "f"),
        Content_Length=size,
        Content_Type="multipart/form-data; boundary=XX",
    )
    begin = b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    broken = begin + bytes(before) + b"\r\n--XX\r\n(: x"

    async with agent.connection() as (reader, writer):
        writer.write(head + broken + bytes(size - len(broken)))
        await writer.drain()
        writer.write(agent.head("GET", agent.at("/files/info", ".")))
        answer = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}")
        next_answer = await reader.readuntil(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"malformed multipart form" in body
    assert b"ends too early" not in body
    assert next_answer.startswith(b"HTTP/1.1 200 ")
    assert list(agent.work_dir.iterdir()) == []
