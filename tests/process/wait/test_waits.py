"""Modes, limits and refusals of waits, and who leaves."""

import asyncio
import os
import signal
from typing import Any

import pytest

from agent.process.wait import waits
from tests.process.wait.conftest import Desk, command, file, log, quiet
from tests.support.agent import Agent
from tests.support.processes import tree
from tests.support.serving import settled


async def test_any_is_satisfied_by_the_first(desk: Desk) -> None:
    ended = await desk.run("true")
    goes_on = await desk.start("sleep 600")

    told = await desk.wait(command(goes_on), command(ended), file("never"))

    assert told["satisfied"]
    assert told["held"] == [1]
    assert [each["state"] for each in told["conditions"]] == [
        "pending",
        "held",
        "pending",
    ]


async def test_all_are_told_in_the_order_they_came_in(desk: Desk) -> None:
    command_id = await desk.start("echo begun; read line; echo $line >made; sleep 600")
    await desk.wait(log(command_id, "begun\n"))
    wanted = [file("made"), log(command_id, "begun"), quiet(command_id, 1)]

    async with desk.waiting(*wanted, until=lambda d: d.listens, mode="all") as wait:
        await settled(lambda: desk.follows == 0)
        await desk.feed(command_id)
        told = await wait

    assert told["satisfied"]
    assert sorted(told["held"]) == [0, 1, 2]
    assert told["held"][-1] == 0
    times = [told["conditions"][index]["afterSeconds"] for index in told["held"]]
    assert times == sorted(times)


async def test_any_goes_on_while_one_can_still_hold(desk: Desk) -> None:
    ended = await desk.run("echo 1")

    async with desk.waiting(
        log(ended, "2"), file("made"), until=lambda d: d.listens
    ) as wait:
        (desk.work_dir / "made").touch()
        told = await wait

    assert told["satisfied"]
    assert [each["state"] for each in told["conditions"]] == ["failed", "held"]


async def test_all_is_over_when_one_cannot_hold(desk: Desk) -> None:
    ended = await desk.run("echo 1")

    told = await desk.wait(log(ended, "2"), file("never"), mode="all")

    assert not told["satisfied"]
    assert not told["timedOut"]
    assert [each["state"] for each in told["conditions"]] == ["failed", "pending"]


async def test_the_limit_tells_what_held_until_then(desk: Desk) -> None:
    ended = await desk.run("true")

    told = await desk.wait(command(ended), file("never"), mode="all", limit_s=0.3)

    assert told["timedOut"]
    assert not told["satisfied"]
    assert told["held"] == [0]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"conditions": [], "timeout": 1},
        {"conditions": [file("a")]},
        {"conditions": [file("a")], "timeout": 0},
        {"conditions": [file("a")], "timeout": 3601},
        {"conditions": [file("a")] * 65, "timeout": 1},
        {"conditions": [file("a")], "timeout": 1, "mode": "some"},
        {"conditions": [{}], "timeout": 1},
        {"conditions": [{**file("a"), "port": {"port": 1}}], "timeout": 1},
        {"conditions": [file("a", "gone")], "timeout": 1},
        {"conditions": [file("")], "timeout": 1},
        {"conditions": [{"port": {"port": 0}}], "timeout": 1},
        {"conditions": [{"http": {"url": "ftp://localhost/"}}], "timeout": 1},
        {"conditions": [quiet("x", 0)], "timeout": 1},
        {"conditions": [log("x", "")], "timeout": 1},
        {"conditions": [log("x", "p" * 4097)], "timeout": 1},
        {"conditions": [log("x", "p", stream="stdin")], "timeout": 1},
        {"conditions": [log("x", "p", offset=-1)], "timeout": 1},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(desk: Desk, body: Any) -> None:
    status, told = await desk.ask(body)

    assert status == 400, told
    assert told["code"] in {"BAD_REQUEST", "INVALID_REQUEST_BODY"}


async def test_a_bad_condition_ends_what_was_prepared_before(desk: Desk) -> None:
    command_id = await desk.start("sleep 600")
    wanted = [log(command_id, "x", regex=True), file("a"), command("none")]

    status, _ = await desk.ask({"conditions": wanted, "timeout": 5})

    assert status == 404
    assert desk.follows == 0


async def test_as_many_conditions_as_allowed_are_waited_for(desk: Desk) -> None:
    ended = await desk.run("echo here")

    told = await desk.wait(*[log(ended, "here")] * 64, mode="all")

    assert told["satisfied"]
    assert sorted(told["held"]) == list(range(64))


async def test_waits_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "WAITS_MAX", 1)
    body = {"conditions": [file("never")], "timeout": 5}

    async with desk.waiting(file("never"), until=lambda d: d.listens):
        assert (await desk.ask(body))[0] == 429

    await settled(lambda: desk.waits == 0)
    assert (await desk.wait(file("."), limit_s=1))["satisfied"]


async def test_a_client_that_leaves_ends_its_wait_and_nothing_else(
    desk: Desk,
) -> None:
    command_id = await desk.start("read line")
    wanted = [
        log(command_id, "x"),
        log(command_id, "x", regex=True),
        command(command_id),
        file("never"),
        {"port": {"port": 1}},
    ]

    async with desk.waiting(*wanted, until=lambda d: d.listens and d.follows == 2):
        """Left at once."""
    await settled(lambda: desk.waits == 0)

    assert desk.follows == 0
    assert not desk.listens
    assert (await desk.keeper.info(command_id)).state == "running"


def test_an_agent_that_stops_answers_who_waits(agent: Agent) -> None:
    with agent.connection() as connection:
        body = b'{"conditions": [{"file": {"path": "never"}}], "timeout": 600}'
        head = (
            f"POST /process/wait HTTP/1.1\r\nHost: localhost:{agent.port}\r\n"
            f"Authorization: {agent.auth['Authorization']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        # A program that watches is the sign that the wait is under way.
        while len(tree(agent.pid)) < 2:
            """The agent takes its time."""

        assert agent.stop() == 0

        assert connection.recv(64).startswith(b"HTTP/1.1 503 ")


def test_a_whole_agent_waits_for_what_it_runs(agent: Agent) -> None:
    assert agent.request("POST", "/process/session", {"sessionId": "s"}).status == 201
    line = {"command": "echo begun; read line; exit_code=5; return 5", "runAsync": True}
    path = "/process/session/s"
    command_id = agent.request("POST", f"{path}/exec", line).json()["cmdId"]
    named = {"sessionId": "s", "commandId": command_id}

    def wait(*conditions: object) -> Any:
        body = {"conditions": conditions, "mode": "all", "timeout": 8}
        return agent.request("POST", "/process/wait", body).json()

    said = wait({"log": {**named, "pattern": "^begun$", "regex": True}})
    assert said["conditions"][0]["log"]["nextOffset"] == 5
    agent.request("POST", f"{path}/command/{command_id}/input", {"data": "go"})
    ended = wait({"command": named}, {"port": {"port": agent.port}})
    assert ended["conditions"][0]["command"]["exitCode"] == 5


def test_the_entrypoint_can_be_waited_for(start_agent: Any) -> None:
    agent = start_agent(entrypoint=["sh", "-c", "echo up; exit 6"])
    named = {"sessionId": "entrypoint", "commandId": "entrypoint_command"}
    conditions = [{"command": named}, {"log": {**named, "pattern": "up"}}]

    told = agent.request(
        "POST",
        "/process/wait",
        {"conditions": conditions, "mode": "all", "timeout": 8},
    ).json()

    assert told["satisfied"], told
    assert told["conditions"][0]["command"]["exitCode"] == 6


async def test_what_a_killed_api_left_trying_is_ended(agent: Agent) -> None:
    def start() -> None:
        agent.request("POST", "/process/session", {"sessionId": "s"})
        line = {"command": "sleep 600", "runAsync": True}
        command_id = agent.request("POST", "/process/session/s/exec", line).json()
        named = {"sessionId": "s", "commandId": command_id["cmdId"]}
        conditions = [{"log": {**named, "pattern": "x", "regex": True}}]
        agent.request(
            "POST", "/process/wait", {"conditions": conditions, "timeout": 600}
        )

    def kinds() -> list[str]:
        listed = agent.request("GET", "/process?all=true").json()
        return [each["kind"] for each in listed]

    waiting = asyncio.ensure_future(asyncio.to_thread(start))
    while "wait" not in await asyncio.to_thread(kinds):
        """The wait takes its time to begin."""

    os.kill(agent.api_pid(), signal.SIGKILL)
    with pytest.raises(OSError, match="reset"):
        await waiting

    while "wait" in await asyncio.to_thread(kinds):
        """So does the end of what it left."""
