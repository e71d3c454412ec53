"""Input, its end, and signals: contract 31 §7, and our additions."""

import asyncio

import pytest

from tests.sessions.conftest import Desk, Place
from tests.support.processes import alive

MIB = 1024 * 1024


async def test_a_newline_ends_every_input_once(each: Place) -> None:
    command = await each.start('read a; read b; read c; echo "$a-$b-$c"')

    for text in ("one", "", "three\n"):
        assert (await each.send(command, text)).status == 204

    assert await each.code(command) == 0
    log = (await each.logs(command)).json()
    assert log["stdout"] == "one\n\nthree\none--three\n"


async def test_input_for_a_command_that_waits_is_kept_for_it(each: Place) -> None:
    first = await each.start("read x; echo $x")
    second = await each.start("read x; echo second $x", suppressInputEcho=True)
    assert (await each.send(second, "before")).status == 204
    assert (await each.send(first, "go")).status == 204

    assert await each.code(second) == 0
    assert (await each.logs(second)).json()["stdout"] == "second before\n"


async def test_several_inputs_and_the_end_arrive_in_order(each: Place) -> None:
    command = await each.start("cat", suppressInputEcho=True)
    for number in range(20):
        await each.send(command, f"line {number}")

    assert (await each.post(command, "eof")).status == 204

    assert await each.code(command) == 0
    told = (await each.logs(command)).json()["stdout"]
    assert told == "".join(f"line {number}\n" for number in range(20))


async def test_the_end_comes_also_before_the_command_has_begun(each: Place) -> None:
    first = await each.start("read x")
    second = await each.start("cat", suppressInputEcho=True)
    await each.send(second, "all")
    assert (await each.post(second, "eof")).status == 204
    await each.send(first, "")

    assert await each.code(second) == 0
    assert (await each.logs(second)).json()["stdout"] == "all\n"


async def test_after_the_end_there_is_no_more_input(place: Place) -> None:
    command = await place.start("cat; sleep 60")
    await place.post(command, "eof")

    assert (await place.send(command, "late")).failure == (409, "CONFLICT")
    assert (await place.post(command, "eof")).failure == (409, "CONFLICT")


async def test_a_command_that_is_waited_for_takes_no_input(place: Place) -> None:
    blocker = await place.start("read x")
    async with asyncio.TaskGroup() as tasks:
        waited = tasks.create_task(place.run("echo waited"))
        while len(await place.all()) < 2:
            """The answer takes its time."""
        command = (await place.all())[1]["id"]

        told = await place.send(command, "x")
        assert told.failure == (400, "BAD_REQUEST")
        assert (await place.post(command, "eof")).failure == (400, "BAD_REQUEST")
        await place.send(blocker, "")
    assert waited.result()["stdout"] == "waited\n"


async def test_what_has_ended_takes_neither_input_nor_signals(place: Place) -> None:
    await place.run("echo waited for")
    started = await place.start("(exit 5)")
    await place.follow(started)
    waited = (await place.all())[0]["id"]

    for command, code in ((waited, 0), (started, 5)):
        for what, body in (
            ("input", {"data": "x"}),
            ("eof", None),
            ("signal", {"signal": "KILL"}),
        ):
            told = await place.post(command, what, body)
            assert told.failure == (410, "COMMAND_ALREADY_COMPLETED")
            assert f"exit code {code}" in told.json()["message"]
    assert await place.out("echo alive") == "alive\n"


async def test_input_that_nobody_reads_is_refused_after_a_mib(place: Place) -> None:
    command = await place.start("sleep 60", suppressInputEcho=True)
    await place.until_running(command)

    statuses = [
        (await place.send(command, "x" * (MIB // 4 - 1))).status for _ in range(6)
    ]

    # A pipe's worth of it is with the command already.
    assert statuses[:4] == [204] * 4
    assert statuses[5] == 413
    whole = await place.send(command, "x" * 10 * MIB)
    assert whole.failure == (413, "REQUEST_ENTITY_TOO_LARGE")


async def test_refused_input_is_not_echoed(place: Place) -> None:
    command = await place.start("sleep 60")
    refused = await place.send(command, "x" * 2 * MIB)

    assert refused.status == 413
    assert (await place.logs(command)).json()["output"] == ""


async def test_a_prompt_is_seen_before_its_answer(each: Place) -> None:
    command = await each.start("printf 'name? '; read n; echo hi $n")

    await each.until_printed(command, b"name? ")
    await each.send(command, "Bob")

    assert await each.code(command) == 0
    assert (await each.logs(command)).json()["stdout"] == "name? Bob\nhi Bob\n"


async def test_no_command_of_ours_gets_the_next_ones_input(each: Place) -> None:
    survivor = await each.start("(read x; echo child got $x) & :")
    assert (await each.told(survivor))["id"] == survivor
    command = await each.start("read x; echo got $x", suppressInputEcho=True)
    await each.send(command, "mine")

    assert await each.code(command) == 0
    assert (await each.logs(command)).json()["stdout"] == "got mine\n"


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "term", 15, "15"])
async def test_a_signal_reaches_what_the_command_runs(
    place: Place, signal: str | int
) -> None:
    command = await place.start("sh -c 'echo up; sleep 60; echo never'; echo $?")
    await place.until_printed(command, b"up\n")

    told = await place.post(command, "signal", {"signal": signal})

    assert (told.status, told.body) == (204, b"")
    assert await place.code(command) == 0
    assert (await place.logs(command)).json()["stdout"] == "up\n143\n"
    assert await place.out("echo on") == "on\n"


async def test_a_signal_spares_the_children_of_earlier_commands(each: Place) -> None:
    told = (await each.run("sleep 60 & echo $!"))["stdout"]
    survivor = int(told.split()[-1])
    command = await each.start("sh -c 'echo up; exec sleep 60'")
    await each.until_printed(command, b"up\n")

    await each.post(command, "signal", {"signal": "INT"})
    code = await each.code(command)

    assert code == 130
    assert alive(survivor)


async def test_a_signal_before_its_turn_is_a_conflict(place: Place) -> None:
    await place.start("sleep 60")
    queued = await place.start("echo later")

    told = await place.post(queued, "signal", {"signal": "TERM"})

    assert told.failure == (409, "CONFLICT")


async def test_the_entrypoints_name_is_for_reading_only(desk: Desk) -> None:
    path = "/entrypoint/command/entrypoint_command"
    for method, target, body in (
        ("POST", "/entrypoint/exec", {"command": "echo"}),
        ("POST", f"{path}/input", {"data": "x"}),
        ("POST", f"{path}/eof", None),
        ("POST", f"{path}/signal", {"signal": 15}),
        ("DELETE", "/entrypoint", None),
    ):
        told = await desk.ask(method, target, body)
        assert told.failure == (400, "BAD_REQUEST"), target
