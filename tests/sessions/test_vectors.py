"""The fifteen vectors of contract 31 §15, over real connections, in every shell."""

import asyncio
import time

from tests.sessions.conftest import ERR, FIRST, LABELLED, OUT, Desk, Place
from tests.support.processes import alive, wait_gone


async def test_1_what_a_command_sets_the_next_one_has(each: Place) -> None:
    await each.run("cd /tmp; export A=1; f(){ echo F$A; }")

    assert await each.out("pwd; f") == "/tmp\nF1\n"


async def test_2_current_clients_get_the_outputs_apart(each: Place) -> None:
    told = await each.run("printf out; printf err >&2")

    assert told.pop("cmdId")
    assert sorted(told.pop("output")) == sorted("outerr")
    assert told == {"stdout": "out", "stderr": "err", "exitCode": 0}


async def test_3_the_first_client_gets_one_text(each: Place) -> None:
    told = await each.run("printf out; printf err >&2", version=FIRST)

    assert told.pop("cmdId")
    assert told.pop("output") in {"outerr", "errout"}
    assert told == {"stdout": None, "stderr": None, "exitCode": 0}


async def test_4_clients_between_get_one_text_with_markers(each: Place) -> None:
    told = await each.run("printf out; sleep 0.05; printf err >&2", version=LABELLED)

    assert told["output"].encode() == OUT + b"out" + ERR + b"err"
    assert (told["stdout"], told["stderr"], told["exitCode"]) == (None, None, 0)


async def test_5_a_command_waits_for_one_that_is_not_waited_for(each: Place) -> None:
    began = time.monotonic()
    first = await each.start("sleep 1; echo done")

    assert await each.out("echo next") == "next\n"
    assert time.monotonic() - began >= 1
    assert (await each.told(first))["exitCode"] == 0


async def test_6_input_that_comes_at_once_is_read_and_echoed(each: Place) -> None:
    loud = await each.start("read n; echo hi $n")
    assert (await each.send(loud, "Bob")).status == 204
    assert await each.code(loud) == 0
    quiet = await each.start("read n; echo hi $n", suppressInputEcho=True)
    assert (await each.send(quiet, "Bob")).status == 204
    assert await each.code(quiet) == 0

    assert (await each.logs(loud)).json()["stdout"] == "Bob\nhi Bob\n"
    assert (await each.logs(quiet)).json()["stdout"] == "hi Bob\n"


async def test_7_a_command_that_is_waited_for_has_no_input(each: Place) -> None:
    assert await each.out("cat") == ""


async def test_8_the_shells_end_is_the_commands_and_the_sessions(each: Place) -> None:
    assert (await each.run("exit 3"))["exitCode"] == 3
    assert (await each.exec("exit 3")).failure == (410, "SESSION_ENDED")
    assert [told["exitCode"] for told in await each.all()] == [3]


async def test_9_a_background_child_holds_up_nothing_and_ends_with_the_session(
    each: Place,
) -> None:
    began = time.monotonic()
    told = await each.out("sleep 60 & echo $!")
    took_s = time.monotonic() - began
    child = int(told.split()[-1])

    assert took_s < 5
    assert alive(child)
    assert (await each.delete()).status == 204
    assert wait_gone(child, 0.1)


async def test_10_a_follower_gets_each_piece_as_it_comes(each: Place) -> None:
    command = await each.start("printf 'a'; sleep 0.5; printf 'b' >&2")

    followed = await each.follow(command)

    assert (followed.messages, followed.code) == ([OUT + b"a", ERR + b"b"], 1000)
    assert followed.reason == ""
    assert (await each.told(command))["exitCode"] == 0


async def test_11_an_unknown_command_is_told_before_the_upgrade(desk: Desk) -> None:
    place = await desk.create()
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for path in (place.at("none", "/logs"), "/none/command/none/logs"):
        told = await desk.ask("GET", path, headers=upgrade, follow="true")

        assert told.failure == (404, "PROCESS_NOT_FOUND")


async def test_12_the_first_client_follows_by_a_chunked_body(each: Place) -> None:
    command = await each.start("printf 'a'; sleep 0.5; printf 'b' >&2")

    told = await each.logs(command, version=FIRST, follow="true")

    assert told.body == b"ab"
    assert told.headers["Transfer-Encoding"] == "chunked"
    assert told.headers["Content-Type"] == "application/octet-stream"
    assert (await each.told(command))["exitCode"] == 0


async def test_13_one_of_two_of_the_same_name_wins(desk: Desk) -> None:
    answers = await asyncio.gather(
        *(desk.ask("POST", "", {"sessionId": "same"}) for _ in range(20))
    )

    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    refused = next(answer for answer in answers if answer.status == 409)
    assert refused.failure == (409, "CONFLICT")
    assert "session already exists" in refused.json()["message"]


async def test_14_an_open_quote_costs_that_command_only(each: Place) -> None:
    assert (await each.run("echo 'unterminated"))["exitCode"] != 0
    assert await each.out("echo ok") == "ok\n"


async def test_15_input_for_what_has_ended_is_refused_as_such(each: Place) -> None:
    command = await each.start("exit_code() { return 7; }; exit_code")
    await each.follow(command)

    told = await each.send(command, "late")

    assert told.failure == (410, "COMMAND_ALREADY_COMPLETED")
    assert "already completed with exit code 7" in told.json()["message"]
