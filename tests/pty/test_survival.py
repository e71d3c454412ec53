"""Terminals whose api is killed under them."""

import asyncio
import os
import signal

import pytest

from tests.pty.conftest import CONNECTED, PROMPT, Desk
from tests.support.agent import Agent

COUNT = (
    "i=0; while [ $i -lt 1500 ]; do echo line $i; i=$((i+1)); sleep 0.001; done;"
    " echo fini''shed"
)


def kill_api(agent: Agent) -> None:
    os.kill(agent.api_pid(), signal.SIGKILL)


@pytest.mark.timeout(40)
async def test_nothing_is_missed_by_clients_that_go_on_from_their_offset(
    desk: Desk, agent: Agent
) -> None:
    output = bytearray()
    await desk.ask("POST", "", {"id": "a"})
    for number in (None, 300, 600, 900):
        async with desk.connect("a", since=len(output)) as screen:
            assert screen.controls == [CONNECTED | {"offset": len(output)}]
            if number is None:
                await screen.until(PROMPT)
                await screen.type(COUNT + "\n")
            await screen.until(b"line %d\r\n" % ((number or 0) + 200))
            await asyncio.to_thread(kill_api, agent)
            # What was under way may or may not arrive.
            while await screen.step():
                pass
            output += screen.output
        # Answered by the next one.
        await desk.ask("GET")
    async with desk.connect("a", since=len(output)) as screen:
        await screen.until(b"finished\r\n")
        output += screen.output

    wanted = b"".join(b"line %d\r\n" % number for number in range(1500))
    assert wanted + b"finished" in output


async def test_terminals_are_as_they_were_with_the_next_api(
    desk: Desk, agent: Agent
) -> None:
    for name in ("z", "a"):
        await desk.ask("POST", "", {"id": name, "envs": {"A": "b"}})
        await desk.ask("POST", f"/{name}/resize", {"cols": 111, "rows": 44})
    await desk.ask("POST", "", {"id": "lazy", "lazyStart": True, "cwd": "/tmp"})
    _, before = await desk.ask("GET")

    await asyncio.to_thread(kill_api, agent)
    _, after = await desk.ask("GET")

    assert after == before
    assert [each["id"] for each in after["sessions"]] == ["z", "a", "lazy"]
    assert (await desk.ask("POST", "", {"id": "z"}))[0] == 409
    assert (await desk.ask("POST", "", {"id": "lazy"}))[0] == 409
    async with desk.connect("lazy") as screen:
        await screen.run("echo $PWD do''ne", b"/tmp done")
    async with desk.connect("z") as screen:
        await screen.run("echo $A do''ne; exit 3", b"b done")
        assert (await screen.until_closed())[0] == 1011


async def test_what_was_shown_before_is_not_shown_again(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("echo fir''st", b"first\r\n" + PROMPT)
        await asyncio.to_thread(kill_api, agent)
        await screen.step()

    await desk.ask("GET")
    async with desk.connect("a") as screen:
        assert screen.controls == [CONNECTED]
        assert b"first" not in await screen.run("echo se''cond", b"second")


async def test_an_end_that_no_api_saw_can_be_had_from_an_offset(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        offset = len(screen.output)
        await screen.type("sleep 0.3; echo la''st; exit 6\n")
        await screen.until(b"exit 6\r\n")
        await asyncio.to_thread(kill_api, agent)
        await screen.step()

    await desk.until_gone("a")
    async with desk.connect("a", since=offset) as screen:
        assert (await screen.until_closed())[0] == 1011
        assert b"last" in screen.output
        assert screen.controls[-1]["exitCode"] == 6


async def test_a_lazy_terminal_that_could_not_start_does_not_come_back(
    desk: Desk, agent: Agent
) -> None:
    await desk.ask("POST", "", {"id": "a", "lazyStart": True, "cwd": "/nowhere"})
    async with desk.connect("a") as screen:
        assert screen.controls[0]["status"] == "error"

    await asyncio.to_thread(kill_api, agent)

    assert await desk.ids() == []
