"""Streams far larger than what may be held of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ports.proxy.conftest import Speak
from tests.support.agent import StartAgent

MIB = 1024 * 1024
PIECE = bytes(256 * 1024)
GROWTH_MAX_BYTES = 24 * MIB
GIB = 1024 * MIB

SIZES = [
    pytest.param(256 * MIB, marks=pytest.mark.alone),
    pytest.param(10 * GIB, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
]


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("form", ["length", "chunks"])
async def test_memory_stays_flat_however_long_a_stream_is(
    start_agent: StartAgent, speak: Speak, size: int, direction: str, form: str
) -> None:
    agent = await asyncio.to_thread(start_agent, measured=False)
    received = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if direction == "down":
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing(form, size))
            await send(writer, size, form)
        else:
            received.set_result(await receive(reader, size, form))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = await speak(talk)
    method = "GET" if direction == "down" else "POST"
    head = (
        f"{method} /proxy/{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{agent.port}\r\n"
        f"Authorization: Bearer {agent.token}\r\n"
    ).encode()
    # Opens the room, which is not what is to be measured.
    await asyncio.to_thread(agent.request, "GET", "/proxy/1/")
    reader, writer = await asyncio.open_connection(agent.host, agent.port, limit=MIB)
    async with growing(agent.api_pid()) as growth:
        if direction == "down":
            writer.write(head + b"\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await receive(reader, size, form) == size
        else:
            writer.write(head + framing(form, size))
            await send(writer, size, form)
            assert await received == size
    writer.close()
    await writer.wait_closed()

    assert growth[0] < GROWTH_MAX_BYTES


@asynccontextmanager
async def growing(pid: int) -> AsyncIterator[list[int]]:
    """Watch a process while inside; leaves in the list by how much it grew."""
    before = resident_bytes(pid)
    growth = [0]

    async def watch() -> None:
        while True:
            growth[0] = max(growth[0], resident_bytes(pid) - before)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield growth
    finally:
        watching.cancel()


def framing(form: str, size: int) -> bytes:
    """Return the line that says where a body ends, and the head's end."""
    if form == "chunks":
        return b"Transfer-Encoding: chunked\r\n\r\n"
    return b"Content-Length: %d\r\n\r\n" % size


async def send(writer: asyncio.StreamWriter, size: int, form: str) -> None:
    """Send a body."""
    for _ in range(size // len(PIECE)):
        if form == "chunks":
            writer.write(b"%x\r\n" % len(PIECE))
        writer.write(PIECE)
        if form == "chunks":
            writer.write(b"\r\n")
        await writer.drain()
    if form == "chunks":
        writer.write(b"0\r\n\r\n")


async def receive(reader: asyncio.StreamReader, size: int, form: str) -> int:
    """Receive a body; return how long it was."""
    count = 0
    while count < size:
        if form == "length":
            count += len(await reader.read(MIB))
            continue
        length = int(await reader.readline(), 16)
        left = length
        while left:
            left -= len(await reader.read(left))
        await reader.readline()
        count += length
    return count
