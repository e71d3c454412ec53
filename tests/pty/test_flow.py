"""Terminals that flood, clients that are slow or gone, and input that is not read."""

import asyncio
import itertools
import random
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from agent.keeper.client import Keeper
from tests.bench.measure import MIB, peak_growth
from tests.keeper.harness import running
from tests.pty.conftest import PROMPT, Desk, Screen, settle_in, terminals
from tests.support.agent import Agent
from tests.support.serving import settled

FLOOD = "stty -opost; yes 0123456789abcdef"
PING_S = 0.2


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    """Return the line to a keeper whose api is the test."""
    async with running(tmp_path, {"SHELL": "/bin/sh"}) as house:
        settle_in(tmp_path)
        yield await house.open()


async def until_there(agent: Agent, name: str) -> None:
    """Wait until a file is in the work dir."""
    waiting = f"until [ -e {name} ]; do sleep 0.02; done"
    await asyncio.to_thread(agent.execute, waiting)


# -- slow clients -------------------------------------------------------------------


@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    "size_mib",
    [
        64,
        pytest.param(2048, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_a_client_that_does_not_read_is_sent_away_and_costs_no_memory(
    desk: Desk, agent: Agent, size_mib: int
) -> None:
    whole = size_mib * MIB
    async with desk.create("a") as live:
        await live.until(PROMPT)
        # Its connection is full after some MiB; the rest may not be kept anywhere.
        async with desk.open("a/connect?since=0") as stuck:
            pids = [agent.pid, agent.api_pid()]
            await live.type(
                f"stty -opost -echo; yes 12345678 | head -c {whole}; exit\n"
            )
            with peak_growth(pids) as growth:
                taken = -len(live.output)
                while await live.step():
                    taken += len(live.output)
                    live.output.clear()
            # With the echo of the line before, and what shells say at their end after.
            assert whole <= taken < whole + 1000
            assert live.close == (1000, '{"exitCode":0}')

            code, reason = await stuck.until_closed()

    assert growth[0] < 32 * MIB
    assert code == 1008
    found = re.fullmatch(r'\{"error":"slow consumer","offset":(\d+)\}', reason)
    assert found is not None, reason
    # All that was sent to it has arrived, so it can go on from there.
    assert int(found[1]) == len(stuck.output) < whole


async def test_with_nobody_attached_the_program_is_not_held_up(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("stty -opost; yes | head -c 50000000; touch done\n")

    await until_there(agent, "done")


@pytest.mark.timeout(30)
async def test_slow_clients_that_gave_no_offset_hear_it_too(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("stty -opost; yes | head -c 50000000; touch done\n")
        await until_there(agent, "done")

        code, reason = await screen.until_closed()
        assert code == 1008
        assert re.fullmatch(r'\{"error":"slow consumer","offset":\d+\}', reason)
    async with desk.connect("a") as screen:
        await screen.run("echo still he''re", b"still here")


# -- pings ---------------------------------------------------------------------------


async def test_pongs_come_while_output_floods(desk: Desk) -> None:
    took: list[float] = []
    url = f"{desk.url}/create-connect?id=a"
    async with desk.session.ws_connect(url, autoping=False, compress=0) as client:
        await client.send_bytes(FLOOD.encode() + b"\n")
        for _ in range(8):
            await _flooded(client)
            sent = time.monotonic()
            await client.ping(b"now")
            while (message := await client.receive()).type is not WSMsgType.PONG:
                assert message.type in {WSMsgType.BINARY, WSMsgType.TEXT}
            assert message.data == b"now"
            took.append(time.monotonic() - sent)
    await desk.ask("DELETE", "/a")

    assert max(took) < 1


async def _flooded(client: ClientWebSocketResponse) -> None:
    taken = 0
    while taken < MIB:
        taken += len((await client.receive()).data)


async def test_an_interrupt_arrives_though_the_client_takes_no_output(
    desk: Desk, agent: Agent
) -> None:
    url = f"{desk.url}/create-connect?id=a"
    async with desk.session.ws_connect(url, autoping=False) as client:
        line = """sh -c 'trap "touch done; exit" INT; touch up; yes'\n"""
        await client.send_str(line)
        await until_there(agent, "up")
        for _ in range(20):
            await client.ping()
        await client.send_bytes(b"\x03")

        await until_there(agent, "done")


async def test_a_silent_client_is_pinged(keeper: Keeper, tmp_path: Path) -> None:
    async with (
        terminals(keeper, tmp_path, ping_s=PING_S) as desk,
        desk.session.ws_connect(
            f"{desk.url}/create-connect?id=a", autoping=False
        ) as client,
    ):
        pings = 0
        # Longer than a client that does not answer would be borne with.
        while pings < 6:
            message = await client.receive()
            if message.type is WSMsgType.PING:
                pings += 1
                await client.pong(message.data)
        assert not client.closed


async def test_a_client_that_is_gone_without_a_word_is_detached(
    keeper: Keeper, tmp_path: Path
) -> None:
    async with terminals(keeper, tmp_path, ping_s=PING_S) as desk:
        url = f"{desk.url}/create-connect?id=a"
        started = time.monotonic()
        async with desk.session.ws_connect(url, autoping=False) as client:
            kinds = []
            while (message := await client.receive()).type is not WSMsgType.CLOSED:
                kinds.append(message.type)
            lasted_s = time.monotonic() - started

            assert kinds.count(WSMsgType.PING) <= 2
            assert client.close_code == 1006
            assert lasted_s >= 2 * PING_S
        assert (await keeper.stats())["subscriptions"] == 0
        # The terminal is none the worse for it.
        async with desk.connect("a") as screen:
            await screen.run("echo he''re", b"here")


async def test_a_client_that_takes_output_is_not_gone_though_it_answers_no_ping(
    keeper: Keeper, tmp_path: Path
) -> None:
    async with terminals(keeper, tmp_path, ping_s=PING_S) as desk:
        url = f"{desk.url}/create-connect?id=a"
        async with desk.session.ws_connect(url, autoping=False) as client:
            await client.send_bytes(b"while :; do echo tick; sleep 0.01; done\n")
            pings = 0
            while pings < 6:
                message = await client.receive()
                assert message.type is not WSMsgType.CLOSED
                pings += message.type is WSMsgType.PING
        await desk.ask("DELETE", "/a")


# -- crowds --------------------------------------------------------------------------


def first_frame_delay_s(desk: Desk, session_id: str) -> float:
    """Return how long after the end of the 101 the first message was there."""
    address = urlsplit(desk.url)
    token = desk.session.headers["Authorization"]
    with socket.create_connection((address.hostname, address.port), 9) as client:
        client.sendall(
            f"GET {address.path}/create-connect?id={session_id} HTTP/1.1\r\n"
            f"Host: {address.netloc}\r\nAuthorization: {token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        head, _, rest = received.partition(b"\r\n\r\n")
        answered = time.monotonic()
        assert head.startswith(b"HTTP/1.1 101")
        while b'"connected"}' not in rest:
            rest += client.recv(65536)
        assert rest[:1] == b"\x81"
        return time.monotonic() - answered


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_twenty_floods_leave_room_for_one_that_echoes(desk: Desk) -> None:
    floods = [f"flood{number}" for number in range(20)]
    for name in floods:
        await desk.ask("POST", "", {"id": name})
        async with desk.connect(name) as screen:
            await screen.until(PROMPT)
            await screen.type(FLOOD + "\n")
    watching = [asyncio.create_task(_watch(desk, name)) for name in floods[:3]]
    took: list[float] = []
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("stty -echo; cat", b"cat\r\n")
        for number in range(50):
            sent = time.monotonic()
            await screen.type(f"line {number}\n")
            await screen.until(f"line {number}\r\n".encode())
            took.append(time.monotonic() - sent)
    delays = [
        await asyncio.to_thread(first_frame_delay_s, desk, f"new{number}")
        for number in range(10)
    ]
    for task in watching:
        task.cancel()
    taken = await asyncio.gather(*watching, return_exceptions=True)
    for name in floods:
        await desk.ask("DELETE", f"/{name}")

    assert sorted(took)[len(took) // 2] < 0.5
    assert max(took) < 2
    assert max(delays) < 0.1
    assert all(isinstance(each, asyncio.CancelledError) for each in taken)


async def _watch(desk: Desk, session_id: str) -> None:
    """Take a flood, and see that it is whole, until cancelled."""
    async with desk.connect(session_id) as screen:
        line = b"0123456789abcdef\n"
        await screen.until(line)
        del screen.output[: screen.output.rindex(line)]
        while await screen.step():
            whole = len(screen.output) // len(line)
            assert screen.output.startswith(line * whole)
            del screen.output[: whole * len(line)]
        raise AssertionError(screen.close)


@pytest.mark.timeout(30)
async def test_clients_that_come_and_go_amid_a_flood_harm_nobody(
    desk: Desk, agent: Agent
) -> None:
    api_pid = agent.api_pid()
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type(FLOOD + "\n")

    async def come_and_go(number: int) -> None:
        chance = random.Random(number)
        for _ in range(5):
            async with desk.connect("a") as screen:
                await screen.until_size(chance.randrange(200_000))
                if chance.random() < 0.3:
                    break

    await asyncio.gather(*map(come_and_go, range(20)))
    async with desk.connect("a") as screen:
        await screen.type(b"\x03")
        await screen.until(PROMPT)

    assert agent.api_pid() == api_pid
    assert "Traceback" not in agent.log()


@pytest.mark.timeout(30)
async def test_a_hundred_broken_connections_leave_nothing(
    keeper: Keeper, tmp_path: Path
) -> None:
    async with terminals(keeper, tmp_path) as desk:
        async with desk.create("a") as screen:
            await screen.until(PROMPT)
            await screen.type(FLOOD + "\n")
        tasks = len(asyncio.all_tasks())
        chance = random.Random(5)
        for _ in range(100):
            client = await desk.session.ws_connect(f"{desk.url}/a/connect?since=0")
            screen = Screen(client)
            await screen.until_size(chance.randrange(1, 30_000))
            transport = client.get_extra_info("socket")
            transport.shutdown(socket.SHUT_RDWR)
            await client.close()
        await settled(lambda: len(asyncio.all_tasks()) <= tasks)

        async with asyncio.timeout(5):
            while (await keeper.stats())["subscriptions"]:  # noqa: ASYNC110 - asks the keeper
                await asyncio.sleep(0.01)
        await desk.ask("DELETE", "/a")


# -- input ---------------------------------------------------------------------------


async def test_a_long_paste_arrives_whole(desk: Desk, agent: Agent) -> None:
    paste = bytes(itertools.islice(itertools.cycle(range(32, 127)), 3_000_000))
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run(
            "stty raw -echo; echo re''ady; sleep 0.3;"
            f" head -c {len(paste)} >f; echo do''ne",
            b"ready",
        )
        for start in range(0, len(paste), 1_000_000):
            await screen.type(paste[start : start + 1_000_000])
        await screen.until(b"done")

    assert (agent.work_dir / "f").read_bytes() == paste


async def test_input_that_is_never_read_ends_the_client_not_the_terminal(
    desk: Desk,
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("stty raw -echo; echo re''ady; sleep 99", b"ready")
        for _ in range(6):
            await screen.type(b"x" * MIB)

        assert await screen.until_closed() == (1011, "PTY session unavailable")
    assert await desk.ids() == ["a"]


async def test_too_long_a_message_is_refused(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.type(b"x" * (4 * MIB + 1))

        assert (await screen.until_closed())[0] == 1009


async def test_what_was_typed_before_leaving_still_arrives(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("touch done\n")

    await until_there(agent, "done")


@pytest.mark.timeout(30)
async def test_a_storm_of_sizes_ends_with_the_last(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("trap 'stty size' WINCH; echo re''ady", b"ready")
        sizes = [(20 + number % 50, 60 + number % 90) for number in range(300)]
        await asyncio.gather(
            *(
                desk.ask("POST", "/a/resize", {"rows": rows, "cols": cols})
                for rows, cols in sizes
            )
        )
        await desk.ask("POST", "/a/resize", {"rows": 33, "cols": 133})
        _, told = await desk.ask("GET", "/a")

        assert (told["rows"], told["cols"]) == (33, 133)
        assert b"33 133" in await screen.run("stty size; echo do''ne", b"done")
