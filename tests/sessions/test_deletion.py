"""Deletion, and the names that sessions may have."""

import asyncio
import time
from urllib.parse import quote

import pytest

from tests.sessions.conftest import FIRST, NEWEST, OUT, VERSION_HEADER, Desk, Place
from tests.support.agent import TAG
from tests.support.processes import alive, tagged

UNKNOWN = (404, "PROCESS_NOT_FOUND")


async def test_deletion_leaves_nothing_that_came_of_the_session(each: Place) -> None:
    desk = each.desk
    another = await desk.create()
    # Its shell is there to be seen only when it has done something.
    await another.run(":")
    before = tagged(TAG, desk.agent.tag)
    ready = desk.agent.work_dir / each.name
    told = await each.run(
        "sleep 99 & echo $!; nohup sleep 99 >/dev/null 2>&1 & echo $!;"
        " setsid sleep 99 & sh -c '(setsid sleep 99 &) ; :';"
        f" sh -c 'trap \"\" TERM; echo $$ >{ready}; sleep 99; sleep 99' &"
        f" while [ ! -s {ready} ]; do sleep 0.01; done; cat {ready}"
    )
    numbers = [int(word) for word in told["stdout"].split() if word.isdigit()]
    assert len([pid for pid in numbers if alive(pid)]) >= 3
    running = await each.start("sleep 99")
    began = time.monotonic()

    assert (await each.delete()).status == 204

    assert time.monotonic() - began < 4
    assert not [pid for pid in numbers if alive(pid)]
    assert not tagged(TAG, desk.agent.tag) - before
    for path in ("", "/command/" + running, f"/command/{running}/logs"):
        assert (await desk.ask("GET", each.path + path)).failure == UNKNOWN
    assert (await each.delete()).failure == UNKNOWN
    names = [told["sessionId"] for told in (await desk.ask("GET")).json()]
    assert each.name not in names


async def test_deletion_ends_as_soon_as_everybody_has(place: Place) -> None:
    await place.run("sleep 60 & sleep 60 &")
    began = time.monotonic()

    assert (await place.delete()).status == 204

    # The grace time is a second.
    assert time.monotonic() - began < 0.9


async def test_a_process_has_its_grace_to_end_well(place: Place) -> None:
    mark = place.desk.agent.work_dir / "ended-well"
    script = f"trap 'sleep 0.2; echo well > {mark}; exit' TERM; echo up; sleep 9 & wait"
    command = await place.start(f'sh -c "{script}"')
    await place.until_printed(command, b"up\n")

    assert (await place.delete()).status == 204

    assert mark.read_text() == "well\n"


async def test_one_who_waits_for_a_command_is_told_that_it_is_gone(
    each: Place,
) -> None:
    running = asyncio.create_task(each.exec("sleep 99"))
    while not await each.all():
        """The answer takes its time."""
    queued = asyncio.create_task(each.exec("echo never"))
    while len(await each.all()) < 2:
        """The answer takes its time."""

    assert (await each.delete()).status == 204

    assert (await running).failure == (410, "SESSION_ENDED")
    assert (await queued).failure == (410, "SESSION_ENDED")


async def test_followers_get_the_rest_and_a_clean_close(each: Place) -> None:
    command = await each.start("head -c 3000000 /dev/zero; echo done >&2; sleep 99")
    by_socket = asyncio.create_task(each.follow(command))
    url = each.desk.url(each.at(command, "/logs"), follow="true")
    async with each.desk.client.get(url, headers={VERSION_HEADER: FIRST}) as answer:
        slow = bytearray(await answer.content.readany())
        await each.until_printed(command, b"done")

        assert (await each.delete()).status == 204

        slow += await answer.content.read()
    followed = await by_socket
    assert (followed.code, followed.reason) == (1000, "")
    assert [len(part) for part in followed.parts] == [3_000_000, 5]
    assert len(slow) == 3_000_005


async def test_followers_of_background_children_end_with_the_session(
    place: Place,
) -> None:
    command = await place.start("sleep 99 & echo on")
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    async with place.desk.client.ws_connect(
        url, headers={VERSION_HEADER: NEWEST}
    ) as socket:
        assert await socket.receive_bytes() == OUT + b"on\n"
        await place.delete()

        assert (await socket.receive()).data == 1000


async def test_a_name_can_be_used_again_and_leaves_no_trace(desk: Desk) -> None:
    state = desk.agent.state_dir / "spool"
    await desk.create()
    before = sorted(state.iterdir())
    for _ in range(50):
        place = await desk.create("again")
        assert (await place.run("head -c 20000 /dev/zero"))["exitCode"] == 0
        assert (await place.delete()).status == 204

    assert sorted(state.iterdir()) == before


async def test_many_at_once_are_made_listed_and_deleted(desk: Desk) -> None:
    async def live(number: int) -> None:
        for turn in range(4):
            place = await desk.create(f"many-{number}-{turn}")
            listed = await desk.ask("GET")
            assert listed.status == 200
            assert place.name in [told["sessionId"] for told in listed.json()]
            assert (await place.delete()).status == 204

    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task(live(number))

    assert (await desk.ask("GET")).json() == []


# -- names ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/b",
        "../../etc",
        "%2e%2e",
        "a%2Fb",
        " ",
        "\n",
        "é漢🙂",
        "x" * 5000,
        "'; rm -rf /; '",
        "\x00",
        "\x7f",
        "command",
        "exec",
        "a?b#c",
    ],
)
async def test_any_name_is_a_name_and_never_a_path(desk: Desk, name: str) -> None:
    state = desk.agent.state_dir
    # Events are stored a moment after the first of them.
    before = {path.name for path in state.iterdir()} | {"events"}
    outside = {path.name for path in state.parent.iterdir()}
    place = await desk.create(name)

    assert (await place.out("pwd")) == f"{desk.agent.work_dir}\n"
    assert [told["sessionId"] for told in (await desk.ask("GET")).json()] == [name]
    assert (await desk.ask("GET", place.path)).json()["sessionId"] == name
    again = await desk.ask("POST", "", {"sessionId": name})
    assert again.failure == (409, "CONFLICT")
    assert (await place.delete()).status == 204

    assert {path.name for path in state.iterdir()} <= before
    assert {path.name for path in state.parent.iterdir()} == outside


async def test_names_that_look_alike_are_different_sessions(desk: Desk) -> None:
    names = ["a", "A", "a ", "a\u0301", "á", "%61", "a/", "./a"]
    for number, name in enumerate(names):
        place = await desk.create(name)
        await place.run(f"N={number}")

    for number, name in enumerate(names):
        assert await Place(desk, name).out("echo $N") == f"{number}\n"
    listed = [told["sessionId"] for told in (await desk.ask("GET")).json()]
    assert listed == names


async def test_the_way_to_a_session_can_be_encoded_throughout(desk: Desk) -> None:
    place = await desk.create("plain")
    encoded = "".join(f"%{ord(letter):02x}" for letter in place.name)

    told = await desk.ask("GET", f"/{encoded}")

    assert told.json()["sessionId"] == quote("plain")


async def test_an_empty_name_in_the_way_is_no_session(desk: Desk) -> None:
    assert (await desk.ask("GET", "//command/x")).status == 404
    assert (await desk.ask("DELETE", "//")).status in {404, 405}


async def test_the_command_is_told_as_it_was_sent(place: Place) -> None:
    text = "echo 'é漢🙂' \\\n # comment\t\x01; echo \"$HOME\"\n\n"
    await place.run(text)
    long = "echo " + "x" * 100_000
    await place.run(long)

    assert [told["command"] for told in await place.all()] == [text, long]
    commands = await place.all()
    assert (await place.told(commands[1]["id"]))["command"] == long
