"""Followers of a command's log: live, from an offset, by events, slow and gone."""

import asyncio
import json
import random
import socket
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse

from tests.sessions.conftest import (
    ERR,
    FIRST,
    NEWEST,
    OUT,
    VERSION_HEADER,
    Desk,
    Place,
    asking,
)
from tests.support.agent import StartAgent

NUMBERS = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done"
NUMBERED = b"".join(b"%d\n" % number for number in range(3000))


def headers(version: str = NEWEST) -> dict[str, str]:
    return {VERSION_HEADER: version}


async def read_until(socket: ClientWebSocketResponse, text: bytes) -> bytes:
    """Take messages until they have these bytes."""
    found = b""
    while text not in found:
        found += await socket.receive_bytes()
    return found


async def test_followers_go_at_their_own_pace_from_the_beginning(each: Place) -> None:
    command = await each.start(f"echo first; read x; {NUMBERS}")
    await each.until_printed(command, b"first\n")
    early = [asyncio.create_task(each.follow(command)) for _ in range(5)]
    await each.send(command, "go")

    whole = b"first\ngo\n" + NUMBERED
    for follower in early:
        assert (await follower).parts == (whole, b"")
    late = await each.follow(command)
    assert (late.parts, late.code, late.reason) == ((whole, b""), 1000, "")


async def test_a_follower_of_a_waiting_command_hears_it_all(place: Place) -> None:
    first = await place.start("read x")
    waiting = await place.start("echo its turn")
    following = asyncio.create_task(place.follow(waiting))

    assert "exitCode" not in await place.told(waiting)
    assert (await place.logs(waiting)).json()["output"] == ""
    await place.send(first, "")

    assert (await following).parts == (b"its turn\n", b"")


async def test_the_code_is_there_while_background_children_go_on_writing(
    each: Place,
) -> None:
    command = await each.start("(read x </dev/null; sleep 0.6; echo late) & echo now")
    url = each.desk.url(each.at(command, "/logs"), follow="true")
    async with each.desk.client.ws_connect(url, headers=headers()) as follower:
        await read_until(follower, b"now\n")
        while "exitCode" not in await each.told(command):
            """It comes once the output was quiet for a moment."""
        assert await each.out("echo next") == "next\n"

        assert (await follower.receive_bytes()) == OUT + b"late\n"
        assert (await follower.receive()).data == 1000
    assert (await each.logs(command)).json()["stdout"] == "now\nlate\n"


async def test_a_survivors_writing_never_kills_it(place: Place) -> None:
    told = await place.run("(while :; do echo x; sleep 0.02; done) & echo $!")
    command = told["cmdId"]

    seen = -1
    for _ in range(3):
        size = len((await place.logs(command, offset=0)).body)
        while size <= seen:
            size = len((await place.logs(command, offset=0)).body)
        seen = size
    assert await place.out("echo on") == "on\n"


async def test_a_client_that_says_things_is_not_listened_to(place: Place) -> None:
    command = await place.start("read x; echo got $x")
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    async with place.desk.client.ws_connect(url, headers=headers()) as follower:
        await follower.send_str("typed")
        await follower.send_bytes(b"typed\n")
        await follower.ping()
        await place.send(command, "sent")

        assert (
            await read_until(follower, b"got")
            == OUT + b"sent\n" + OUT + (b"got sent\n")
            or (await place.logs(command)).json()["stdout"] == "sent\ngot sent\n"
        )


async def test_a_follower_that_leaves_ends_nothing(place: Place) -> None:
    command = await place.start("echo on; read x; echo end")
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    for _ in range(3):
        async with place.desk.client.ws_connect(url, headers=headers()) as follower:
            await read_until(follower, b"on\n")
        async with place.desk.client.get(url, headers=headers(FIRST)) as answer:
            assert await answer.content.readany() == b"on\n"

    await place.send(command, "")

    assert await place.code(command) == 0
    assert (await place.logs(command)).json()["stdout"] == "on\n\nend\n"


async def test_a_caller_that_leaves_ends_no_command(place: Place) -> None:
    marker = place.desk.agent.work_dir / "left"
    body = json.dumps({"command": f"sleep 0.3; echo done > '{marker}'; echo said"})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await place.desk.client.post(
                place.desk.url(f"{place.path}/exec"), data=body, headers=headers()
            )

    assert await place.out(f"cat '{marker}'") == "done\n"
    first = (await place.all())[0]
    assert first["exitCode"] == 0
    assert (await place.logs(first["id"])).json()["stdout"] == "said\n"


# -- offsets ----------------------------------------------------------------------


async def test_pieces_from_offsets_have_no_gap_and_no_duplicate(each: Place) -> None:
    command = await each.start(NUMBERS)
    found, offset = b"", 0

    while True:
        finished = "exitCode" in await each.told(command)
        piece = await each.logs(command, offset=offset)
        assert int(piece.headers["X-Toolbox-Offset"]) == offset
        offset = int(piece.headers["X-Toolbox-Next-Offset"])
        found += piece.body
        assert len(found) == offset
        if finished:
            break

    assert found == NUMBERED


async def test_a_follower_that_comes_back_where_it_was_misses_and_repeats_nothing(
    place: Place,
) -> None:
    command = await place.start(f"{NUMBERS}; echo error >&2; {NUMBERS}")
    chance = random.Random(4)
    found = b""

    while len(found) < 2 * len(NUMBERED) + 6:
        url = place.desk.url(
            place.at(command, "/logs"), follow="true", offset=len(found)
        )
        wanted = len(found) + chance.randrange(1, 8000)
        async with place.desk.client.get(url, headers=headers()) as answer:
            assert answer.headers["X-Toolbox-Offset"] == str(len(found))
            async for piece in answer.content.iter_any():
                found += piece
                if len(found) >= wanted:
                    break

    assert found.replace(b"error\n", b"") == NUMBERED * 2


async def test_an_offset_at_the_end_waits_for_what_comes(place: Place) -> None:
    command = await place.start("printf 12345; read x; printf 678")
    await place.until_printed(command, b"12345")

    empty = await place.logs(command, offset=5)
    following = asyncio.create_task(place.logs(command, offset=5, follow="true"))
    await place.send(command, "")

    assert (empty.body, empty.headers["X-Toolbox-Next-Offset"]) == (b"", "5")
    assert (await following).body == b"\n678"


async def test_websockets_begin_at_offsets_too(place: Place) -> None:
    command = await place.start("printf 12345; sleep 0.03; printf err >&2")
    await place.follow(command)

    assert (await place.follow(command, offset=3)).parts == (b"45", b"err")
    assert (await place.follow(command, offset=8)).parts == (b"", b"")
    only = await place.follow(command, offset=1, stream="stderr")
    assert only.parts == (b"", b"err")


async def test_one_output_from_an_offset_counts_in_the_whole_log(place: Place) -> None:
    command = await place.start("printf abc; sleep 0.03; printf XYZ >&2; printf d")
    await place.follow(command)

    told = await place.logs(command, offset=2, stream="stderr")
    assert (told.body, told.headers["X-Toolbox-Next-Offset"]) == (b"XYZ", "7")
    assert (await place.logs(command, offset=2, stream="stdout")).body == b"cd"


# -- events -----------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str
    name: str
    facts: dict[str, Any]


async def events(
    place: Place, command: str, last: str = "", **query: str
) -> AsyncIterator[Event]:
    """Yield the events of a log."""
    url = place.desk.url(place.at(command, "/logs"), follow="true", **query)
    sent = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    async with place.desk.client.get(url, headers=sent) as answer:
        assert answer.content_type == "text/event-stream"
        fields: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}


async def test_events_tell_output_time_and_offset_and_then_the_end(
    place: Place,
) -> None:
    began = time.time()
    command = await place.start(r"printf é; sleep 0.03; printf '\377' >&2")

    first, second, last = [event async for event in events(place, command)]

    assert (first.id, first.name) == ("2", "output")
    assert first.facts.pop("time").endswith("Z")
    assert first.facts == {"stream": "stdout", "offset": 0, "text": "é"}
    assert (second.id, second.facts["stream"]) == ("3", "stderr")
    assert b64decode(second.facts["base64"]) == b"\xff"
    assert (last.id, last.name) == ("3", "end")
    assert last.facts == {"offset": 3, "dropped": 0}
    assert time.time() >= began


async def test_the_last_events_id_is_where_the_next_answer_begins(
    place: Place,
) -> None:
    command = await place.start(f"{NUMBERS}; read x; {NUMBERS}")
    found, last = "", ""
    async for event in events(place, command):
        found, last = found + event.facts["text"], event.id
        if len(found) >= len(NUMBERED):
            break
    await place.send(command, "")

    async for event in events(place, command, last):
        found += event.facts.get("text", "")

    assert found.encode() == NUMBERED + b"\n" + NUMBERED


async def test_events_of_one_output_only(place: Place) -> None:
    command = await place.start("printf out; sleep 0.03; printf err >&2")

    told = [event async for event in events(place, command, stream="stderr")]

    assert [event.facts.get("text") for event in told] == ["err", None]


# -- what was not kept ------------------------------------------------------------


async def test_what_the_log_has_no_room_for_is_counted_and_said(
    start_agent: StartAgent,
) -> None:
    agent = start_agent("--command-log-max-bytes", "50000")
    said = "\n[30000 bytes of output were dropped: the log is full]\n"
    async with asking(agent) as desk:
        place = await desk.create()
        told = await place.run("head -c 80000 /dev/zero | tr '\\0' x; exit_() { :; }")
        command = told["cmdId"]

        assert told["exitCode"] == 0
        assert told["stdout"] == "x" * 50000 + said
        assert (await place.logs(command)).json()["output"] == told["stdout"]
        assert (await place.follow(command)).parts[0].decode() == told["stdout"]
        first = await place.logs(command, version=FIRST, follow="true")
        assert first.body.decode() == told["stdout"]
        exact = await place.logs(command, offset=49_998)
        assert (exact.body, exact.headers["X-Toolbox-Dropped-Bytes"]) == (
            b"xx",
            "30000",
        )
        last = [event async for event in events(place, command)][-1]
        assert last.facts == {"offset": 50_000, "dropped": 30_000}
        verdict = (await place.told(command, verbose="true"))["verdict"]
        assert (verdict["bytesWritten"], verdict["bytesDropped"]) == (80_000, 30_000)


# -- slow and gone ----------------------------------------------------------------


def stopped_reader(desk: Desk, path: str) -> socket.socket:
    """Return the connection of a follower that reads nothing."""
    connection = socket.create_connection(("127.0.0.1", desk.agent.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(
        (
            f"GET /process/session{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {desk.agent.token}\r\n{VERSION_HEADER}: {FIRST}\r\n\r\n"
        ).encode()
    )
    return connection


async def test_a_stopped_reader_holds_up_neither_command_nor_others(
    place: Place,
) -> None:
    size = 30_000_000
    command = await place.start(f"read x; head -c {size} /dev/zero; echo end >&2")
    path = place.at(command, "/logs?follow=true")
    stopped = [stopped_reader(place.desk, path) for _ in range(3)]
    try:
        live = asyncio.create_task(place.follow(command))
        await place.send(command, "")

        parts = (await live).parts
        assert (len(parts[0]), parts[1]) == (size + 1, b"end\n")
        assert (await place.told(command))["exitCode"] == 0
        assert await place.out("echo on") == "on\n"
    finally:
        for each in stopped:
            each.close()


async def test_a_reader_that_stopped_and_goes_on_gets_everything(
    place: Place,
) -> None:
    size = 3_000_000
    command = await place.start(f"head -c {size} /dev/zero")
    url = place.desk.url(place.at(command, "/logs"), follow="true")
    async with place.desk.client.get(url, headers=headers(FIRST)) as answer:
        received = len(await answer.content.readany())
        # It has ended before this client goes on.
        assert await place.code(command) == 0
        received += len(await answer.read())

    assert received == size


async def test_followers_that_break_off_anywhere_leave_the_agent_well(
    place: Place,
) -> None:
    command = await place.start("head -c 2000000 /dev/zero")
    path = place.at(command, "/logs?follow=true")
    chance = random.Random(5)

    def break_off() -> None:
        with stopped_reader(place.desk, path) as connection:
            connection.recv(chance.randrange(1, 20_000))

    await asyncio.gather(*(asyncio.to_thread(break_off) for _ in range(30)))

    assert len((await place.logs(command, offset=0)).body) == 2_000_000
    log = place.desk.agent.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


# -- verdicts ---------------------------------------------------------------------


async def test_a_verdict_tells_the_course_and_the_end(each: Place) -> None:
    told = await each.run("printf 12345; printf 67 >&2; sleep 0.1; (exit 3)")
    command = told["cmdId"]

    answer = await each.told(command, verbose="true")
    verdict = answer["verdict"]

    assert answer["exitCode"] == 3
    assert (verdict["state"], verdict["reason"]) == ("closed", "exited")
    assert verdict["signal"] is None
    assert verdict["durationSeconds"] >= 0.1
    assert verdict["startedAt"] < verdict["endedAt"]
    assert (verdict["bytesWritten"], verdict["bytesDropped"]) == (7, 0)
    assert verdict["resources"]["userSeconds"] >= 0
    assert "verdict" not in await each.told(command)


async def test_a_verdict_knows_what_it_used(place: Place) -> None:
    told = await place.run(
        "python3 -c 'import time\nwhile time.process_time() < .3: 0'"
    )

    used = (await place.told(told["cmdId"], verbose="true"))["verdict"]["resources"]

    assert 0.25 <= used["userSeconds"] + used["systemSeconds"] < 5


async def test_a_verdict_has_no_end_before_the_end(place: Place) -> None:
    running = await place.start("read x")
    queued = await place.start("echo")
    await place.until_running(running)

    for command, state in ((running, "running"), (queued, "queued")):
        answer = await place.told(command, verbose="true")
        verdict = answer["verdict"]
        assert "exitCode" not in answer
        assert verdict["state"] == state
        for name in ("endedAt", "durationSeconds", "signal", "reason", "resources"):
            assert verdict[name] is None


@pytest.mark.parametrize(
    ("text", "code", "signal", "reason"),
    [
        ("sh -c 'kill -9 $$'", 137, 9, "exited"),
        ("kill -9 $$", 137, 9, "signalled"),
        ("exit 5", 5, None, "exited"),
    ],
)
async def test_a_verdict_tells_signals(
    place: Place, text: str, code: int, signal: int | None, reason: str
) -> None:
    command = await place.start(text)
    await place.follow(command)

    answer = await place.told(command, verbose="true")

    assert answer["exitCode"] == code
    assert answer["verdict"]["signal"] == signal
    assert answer["verdict"]["reason"] in {reason, "signalled"}


async def test_a_verdict_says_that_the_time_was_up(place: Place) -> None:
    refused = await place.exec("echo so; sleep 60; echo far", timeout=1)
    command = (await place.all())[0]["id"]

    answer = await place.told(command, verbose="true")

    assert refused.failure == (408, "PROCESS_EXECUTION_TIMEOUT")
    assert command in refused.json()["message"]
    assert answer["verdict"]["reason"] == "timeout"
    assert answer["exitCode"] == 124
    assert (await place.logs(command)).json()["stdout"].startswith("so\n")
    assert await place.out("echo on") == "on\n"


async def test_a_verdict_of_a_queued_command_of_a_dead_shell(place: Place) -> None:
    running = await place.start("read x; exit 1")
    queued = await place.start("echo never")
    await place.send(running, "")
    await place.follow(queued)

    answer = await place.told(queued, verbose="true")

    assert (answer["exitCode"], answer["verdict"]["reason"]) == (-1, "not-started")


async def test_a_lone_error_is_marked_as_such(place: Place) -> None:
    command = await place.start("echo bad >&2")

    assert (await place.follow(command)).messages == [ERR + b"bad\n"]
