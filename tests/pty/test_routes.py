"""Terminals over real connections to a real agent: the rules of contract 32."""

import asyncio
import json
import re
from datetime import datetime
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from tests.pty.conftest import (
    CONNECTED,
    EXIT_CONTROL,
    PROMPT,
    Desk,
    environment_token,
)
from tests.support.agent import Agent
from tests.support.processes import alive, children


async def failure(desk: Desk, path: str, *offers: str) -> tuple[int, dict[str, Any]]:
    """Return how an upgrade was refused."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if offers:
        headers["Sec-WebSocket-Protocol"] = ", ".join(offers)
    async with desk.session.get(f"{desk.url}/{path}", headers=headers) as answer:
        return answer.status, await answer.json()


# -- REST -------------------------------------------------------------------------


async def test_created_terminal_has_its_size_and_is_told_of(
    agent: Agent, desk: Desk
) -> None:
    async with desk.create("a", cols=100, rows=30) as screen:
        assert screen.socket.protocol == EXIT_CONTROL
        status, told = await desk.ask("GET", "/a")

        assert status == 200
        assert datetime.fromisoformat(told.pop("createdAt")).tzinfo is not None
        assert told == {
            "id": "a",
            "cwd": str(agent.work_dir),
            "envs": {"TERM": "xterm-256color"},
            "cols": 100,
            "rows": 30,
            "active": True,
            "lazyStart": False,
        }
        assert b"30 100" in await screen.run("stty size; echo do''ne", b"done")


async def test_terminals_are_listed_in_the_order_they_were_created_in(
    desk: Desk,
) -> None:
    names = ["b", "ü/x", "a", " "]
    for name in names:
        assert (await desk.ask("POST", "", {"id": name}))[0] == 201

    assert await desk.ids() == names
    assert (await desk.ask("GET", "/%C3%BC%2Fx"))[1]["id"] == "ü/x"


async def test_post_opens_a_terminal_that_runs_at_once(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "sub").mkdir()
    body = {"id": "a", "cwd": "sub", "envs": {"TERM": "", "A": "b c"}, "cols": 0}

    assert await desk.ask("POST", "", body) == (201, {"sessionId": "a"})
    _, told = await desk.ask("GET", "/a")

    assert told["cwd"] == str(agent.work_dir / "sub")
    assert told["envs"] == {"TERM": "xterm-256color", "A": "b c"}
    assert (told["cols"], told["rows"], told["active"]) == (80, 24, True)
    async with desk.connect("a") as screen:
        shown = await screen.run("echo $PWD $TERM \"$A\" do''ne", b"done")
        assert f"{agent.work_dir}/sub xterm-256color b c done".encode() in shown


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, "BAD_REQUEST", "session ID is required"),
        ({"id": ""}, "BAD_REQUEST", "session ID is required"),
        ({"id": "create-connect"}, "BAD_REQUEST", "session ID"),
        ({"id": "a", "cols": 1001}, "BAD_REQUEST", "cols"),
        ({"id": "a", "rows": 1001}, "BAD_REQUEST", "rows"),
        ({"id": "a", "rows": -1}, "BAD_REQUEST", "rows"),
        ({"id": "a", "cwd": "a\0b"}, "BAD_REQUEST", "NUL"),
        ({"id": "a", "envs": {"A": "\0"}}, "BAD_REQUEST", "NUL"),
        ({"id": 1}, "INVALID_REQUEST_BODY", "id"),
        ({"id": "a", "cols": "80"}, "INVALID_REQUEST_BODY", "cols"),
        ({"id": "a", "envs": {"A": 1}}, "INVALID_REQUEST_BODY", "envs"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    desk: Desk, body: dict[str, Any], code: str, words: str
) -> None:
    status, told = await desk.ask("POST", "", body)

    assert (status, told["code"]) == (400, code)
    assert words in told["message"]
    assert await desk.ids() == []


async def test_a_shell_that_cannot_start_is_told_and_leaves_nothing(desk: Desk) -> None:
    status, told = await desk.ask("POST", "", {"id": "a", "cwd": "/nowhere"})

    assert (status, told["code"]) == (500, "INTERNAL_SERVER_ERROR")
    assert "failed to start PTY session: chdir /nowhere" in told["message"]
    assert await desk.ids() == []
    assert (await desk.ask("POST", "", {"id": "a"}))[0] == 201


async def test_unknown_terminals_are_not_found_or_gone(desk: Desk) -> None:
    size = {"cols": 80, "rows": 24}

    for method, path, body, status, code in (
        ("GET", "/x", None, 404, "PROCESS_NOT_FOUND"),
        ("DELETE", "/x", None, 404, "PROCESS_NOT_FOUND"),
        ("POST", "/x/resize", size, 410, "SESSION_ENDED"),
    ):
        told = await desk.ask(method, path, body)
        assert (told[0], told[1]["code"]) == (status, code), method


async def test_resize_reaches_the_program(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        status, told = await desk.ask("POST", "/a/resize", {"cols": 120, "rows": 40})

        assert (status, told["cols"], told["rows"]) == (200, 120, 40)
        assert b"40 120" in await screen.run("stty size; echo do''ne", b"done")


@pytest.mark.parametrize(("cols", "rows"), [(0, 24), (80, 0), (1001, 24), (80, 1001)])
async def test_sizes_beyond_the_bounds_are_refused(
    desk: Desk, cols: int, rows: int
) -> None:
    await desk.ask("POST", "", {"id": "a"})

    status, _ = await desk.ask("POST", "/a/resize", {"cols": cols, "rows": rows})

    assert status == 400
    assert (await desk.ask("GET", "/a"))[1]["cols"] == 80


async def test_the_largest_size_is_taken(desk: Desk) -> None:
    assert (await desk.ask("POST", "", {"id": "a", "cols": 1000, "rows": 1000}))[
        0
    ] == 201

    body = {"cols": 1000, "rows": 1000}
    assert (await desk.ask("POST", "/a/resize", body))[0] == 200


async def test_delete_kills_what_came_of_the_shell(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        # One that the shell knows nothing of any more, and one out of its session.
        shown = await screen.run(
            "sleep 321 & A=$!; disown; setsid sh -c 'echo $$ >pid; exec sleep 322' &"
            " until [ -s pid ]; do sleep 0.02; done; echo pids $A $(cat pid) fini''shed",
            b"finished",
        )
        found = re.search(rb"pids (\d+) (\d+) finished", shown)
        assert found is not None

        assert await desk.ask("DELETE", "/a") == (
            200,
            {"message": "PTY session deleted"},
        )

        assert await screen.until_closed() == (
            1011,
            '{"exitCode":137,"exitReason":"SIGKILL"}',
        )
        assert screen.controls[-1]["exitReason"] == "SIGKILL"
    assert await desk.ids() == []
    assert (await desk.ask("DELETE", "/a"))[0] == 404
    for pid in found.groups():
        assert not alive(int(pid))


async def test_an_id_is_free_again_once_its_shell_has_exited(desk: Desk) -> None:
    for mark in ("one", "two"):
        async with desk.create("a") as screen:
            await screen.type(f"echo {mark}; exit\n")
            assert await screen.until_closed() == (1000, '{"exitCode":0}')
            assert mark.encode() in screen.output


# -- lazy terminals -----------------------------------------------------------------


async def test_lazy_terminal_starts_with_its_first_client(desk: Desk) -> None:
    body = {"id": "a", "lazyStart": True, "cols": 90}
    assert (await desk.ask("POST", "", body))[0] == 201
    _, told = await desk.ask("GET", "/a")
    assert (told["active"], told["lazyStart"]) == (False, True)
    assert (await desk.ask("POST", "", {"id": "a"}))[0] == 409
    _, told = await desk.ask("POST", "/a/resize", {"cols": 100, "rows": 50})
    assert (told["cols"], told["rows"], told["active"]) == (100, 50, False)

    async with desk.connect("a") as screen:
        assert screen.controls == [CONNECTED]
        assert b"50 100" in await screen.run("stty size; echo do''ne", b"done")
    _, told = await desk.ask("GET", "/a")
    assert (told["active"], told["lazyStart"]) == (True, True)


async def test_many_first_clients_start_one_shell(desk: Desk, agent: Agent) -> None:
    await desk.ask("POST", "", {"id": "a", "lazyStart": True})

    async def visit() -> None:
        async with desk.connect("a") as screen:
            assert screen.controls == [CONNECTED]

    await asyncio.gather(*(visit() for _ in range(8)))

    assert len(children(agent.pid)) == 2  # the api and the shell


async def test_lazy_terminal_can_be_deleted_before_it_runs(desk: Desk) -> None:
    await desk.ask("POST", "", {"id": "a", "lazyStart": True})

    assert (await desk.ask("DELETE", "/a"))[0] == 200

    assert await desk.ids() == []
    async with desk.connect("a") as screen:
        assert screen.controls[0]["status"] == "error"


async def test_lazy_shell_that_cannot_start_is_told_to_its_client(desk: Desk) -> None:
    await desk.ask("POST", "", {"id": "a", "lazyStart": True, "cwd": "/nowhere"})

    async with desk.connect("a") as screen:
        assert "failed to start PTY session" in screen.controls[0]["error"]
        code, reason = await screen.until_closed()

    assert (code, "failed to start" in reason) == (1011, True)
    assert await desk.ids() == []


# -- create-connect -----------------------------------------------------------------


async def test_environment_and_directory_come_with_the_upgrade(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "sub dir").mkdir()
    async with desk.create("a", envs={"FOO": "bär; $x"}, cwd="sub dir") as screen:
        assert screen.socket.protocol == EXIT_CONTROL
        shown = await screen.run("echo $FOO $PWD do''ne", b"done")

        assert f"bär; $x {agent.work_dir}/sub dir done".encode() in shown
        _, told = await desk.ask("GET", "/a")
        assert told["envs"] == {"FOO": "bär; $x", "TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ([], None),
        ([EXIT_CONTROL], EXIT_CONTROL),
        (["X-Daytona-SDK-Version~1.2.3", EXIT_CONTROL], "X-Daytona-SDK-Version~1.2.3"),
        ([environment_token({}), EXIT_CONTROL], EXIT_CONTROL),
        ([environment_token({})], environment_token({})),
        (["something"], None),
    ],
)
async def test_one_of_the_offered_subprotocols_is_chosen(
    desk: Desk, offers: list[str], chosen: str | None
) -> None:
    async with desk.create("a", offers=offers) as screen:
        assert screen.socket.protocol == chosen


@pytest.mark.parametrize("padding", ["", "="])
async def test_environment_token_may_be_padded(desk: Desk, padding: str) -> None:
    token = environment_token({"A": "12"}, padding)
    assert ("=" in token) == bool(padding)

    async with desk.create("a", offers=[token, EXIT_CONTROL]):
        assert (await desk.ask("GET", "/a"))[1]["envs"]["A"] == "12"


async def test_large_environment_fits_into_the_header(desk: Desk) -> None:
    envs = {f"NAME_{number}": "v" * 100 for number in range(200)}

    async with desk.create("a", envs=envs) as screen:
        await screen.run("echo n''=$(env | grep -c ^NAME_)", b"n=200")


@pytest.mark.parametrize(
    ("query", "offers", "words"),
    [
        ("", [], "id is required"),
        ("id=", [], "id is required"),
        ("id=%FF", [], "session ID"),
        ("id=a&cols=1001", [], "cols"),
        ("id=a&rows=1001", [], "rows"),
        ("id=a", ["X-Daytona-Pty-Envs~!!!"], "environment token"),
        ("id=a", ["X-Daytona-Pty-Envs~W10"], "environment token"),
        ("id=a", ["X-Daytona-Pty-Envs~eyJBIjoxfQ"], "environment token"),
        ("id=a", ["X-Daytona-Pty-Envs~/-8"], "environment token"),
    ],
)
async def test_malformed_upgrades_are_refused_before_any_shell(
    desk: Desk, query: str, offers: list[str], words: str
) -> None:
    status, told = await failure(desk, f"create-connect?{query}", *offers)

    assert (status, told["code"]) == (400, "BAD_REQUEST")
    assert words in told["message"]
    assert await desk.ids() == []


async def test_sizes_that_are_no_numbers_are_the_usual_ones(desk: Desk) -> None:
    async with desk.create("a", cols="wide", rows="-3"):
        _, told = await desk.ask("GET", "/a")

    assert (told["cols"], told["rows"]) == (80, 24)


async def test_what_is_no_upgrade_starts_no_shell(desk: Desk) -> None:
    status, told = await desk.ask("GET", "/create-connect?id=a")

    assert (status, told["code"]) == (400, "BAD_REQUEST")
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    url = f"{desk.url}/create-connect?id=a"
    async with desk.session.get(url, headers=headers) as answer:
        assert answer.status == 400
    assert await desk.ids() == []


async def test_second_of_one_id_is_a_conflict(desk: Desk) -> None:
    async with desk.create("a"):
        status, told = await failure(desk, "create-connect?id=a")

        assert (status, told["code"]) == (409, "CONFLICT")
        assert "already exists" in told["message"]


async def test_parallel_creates_give_one_shell(desk: Desk, agent: Agent) -> None:
    async def attempt() -> int:
        try:
            async with desk.create("a") as screen:
                await screen.until(PROMPT)
                return 101
        except WSServerHandshakeError as refused:
            return refused.status

    codes = await asyncio.gather(*(attempt() for _ in range(16)))

    assert sorted(codes) == [101] + [409] * 15
    assert len(children(agent.pid)) == 2  # the api and the shell


async def test_directory_that_is_missing_is_told_before_the_upgrade(desk: Desk) -> None:
    status, told = await failure(desk, "create-connect?id=a&cwd=/nowhere")

    assert (status, told["code"]) == (500, "INTERNAL_SERVER_ERROR")
    assert "failed to start PTY session" in told["message"]


# -- the end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "exit_code", "why"),
    [
        ("exit", 1000, 0, None),
        ("exit 1", 1011, 1, "non-zero exit"),
        ("exit 7", 1011, 7, "non-zero exit"),
        ("exit 130", 1011, 130, "Ctrl+C"),
        ("exit 255", 1011, 255, "signal 127"),
        ("kill -9 $$", 1011, 137, "SIGKILL"),
        ("exec sh -c 'kill -TERM $$'", 1011, 143, "SIGTERM"),
        ("exec sh -c 'kill -SEGV $$'", 1011, 139, "signal 11"),
    ],
)
async def test_exits_are_told_by_message_and_close(
    desk: Desk, line: str, code: int, exit_code: int, why: str | None
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type(f"printf X''Y; {line}\n")

        closed = await screen.until_closed()

    reason = f',"exitReason":"{why}"' if why else ""
    assert closed == (code, f'{{"exitCode":{exit_code}{reason}}}')
    told = {"type": "control", "status": "exited", "exitCode": exit_code}
    assert screen.controls[1:] == [told | ({"exitReason": why} if why else {})]
    assert b"XY" in screen.output


async def test_clients_that_do_not_know_it_are_not_sent_the_exit(desk: Desk) -> None:
    async with desk.create("a", offers=()) as screen:
        await screen.type("exit 3\n")

        code, reason = await screen.until_closed()

    assert (code, reason) == (1011, '{"exitCode":3,"exitReason":"non-zero exit"}')
    assert screen.controls == [CONNECTED]


async def test_all_output_comes_before_the_close(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("stty -opost; exec seq 1 200000\n")

        await screen.until_closed()

    whole = b"".join(b"%d\n" % number for number in range(1, 200001))
    assert screen.output.endswith(whole)
    assert screen.controls[-1]["exitCode"] == 0


async def test_output_that_others_hold_open_does_not_hold_up_the_end(
    desk: Desk,
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        # By name: what it inherited is cut off by the hang-up.
        await screen.type(
            "(trap '' HUP; T=$(tty); setsid sh -c \"sleep 1; exec sleep 60 <$T\" &);"
            " sleep 0.1; exit\n"
        )

        assert (await screen.until_closed())[0] == 1000


# -- several clients, and coming back -----------------------------------------------


async def test_all_clients_see_all_and_type_together(desk: Desk) -> None:
    async with desk.create("a") as one, desk.connect("a") as two:
        assert two.controls == [CONNECTED]
        await one.until(PROMPT)
        await one.type("echo fr''om one\n")
        await two.until(b"from one")
        await two.type("echo fr''om two\n")
        await one.until(b"from two")
        await one.type("exit 4\n")

        assert (await one.until_closed()) == (await two.until_closed())


async def test_text_and_json_are_input_like_bytes(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("cat >f; echo do''ne\n")
        await screen.socket.send_str('{"type":"resize","cols":5}ü\n')
        await screen.type(b"\x04")
        await screen.until(b"done")

        assert b'{"type":"resize","cols":5}\xc3\xbc' in await screen.run(
            "cat f; echo en''d", b"end"
        )


async def test_interrupt_is_a_byte(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("sh -c 'echo $((6*7)); exec sleep 99'", b"42")
        start = len(screen.output)
        await screen.type(b"\x03")
        await screen.until(PROMPT, start)

        await screen.run("echo code''=$?", b"code=130")


async def test_what_was_missed_comes_once(desk: Desk, agent: Agent) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("sleep 0.2; echo mis''sed; touch done\n")
    waiting = "until [ -e done ]; do sleep 0.05; done"
    await asyncio.to_thread(agent.execute, waiting)
    assert await desk.connect_until("a", b"missed")

    async with desk.connect("a") as screen:
        shown = await screen.run("echo no''w", b"now")
        assert b"missed" not in shown


async def test_output_before_the_first_client_is_kept(desk: Desk) -> None:
    await desk.ask("POST", "", {"id": "a"})

    async with desk.connect("a") as screen:
        await screen.until(PROMPT)


async def test_a_client_that_comes_later_does_not_see_what_others_have_seen(
    desk: Desk,
) -> None:
    async with desk.create("a") as one:
        await one.until(PROMPT)
        await one.run("echo fir''st", b"first\r\n" + PROMPT)

        async with desk.connect("a") as two:
            assert b"first" not in await two.run("echo se''cond", b"second")


async def test_only_the_last_part_of_long_output_is_kept(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("sleep 0.2; stty -opost; seq 1 100000; touch done\n")
    waiting = "until [ -e done ]; do sleep 0.05; done"
    await asyncio.to_thread(agent.execute, waiting)

    async with desk.connect("a") as screen:
        while PROMPT not in screen.output[-100:]:
            assert await screen.step()
    numbers = [int(each) for each in screen.output.split(b"\n") if each.isdigit()]

    assert len(screen.output) <= 256 * 1024
    assert numbers[-1] == 100000
    assert numbers[1:] == list(range(numbers[1], 100001))


async def test_a_client_can_go_on_from_an_offset(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.run("echo fir''st", b"first\r\n" + PROMPT)
        before = bytes(screen.output)

        async with desk.connect("a", since=0) as again:
            assert again.controls == [CONNECTED | {"offset": 0}]
            await again.until_size(len(before))
            assert again.output == before
        async with desk.connect("a", since=10) as again:
            assert again.controls == [CONNECTED | {"offset": 10}]
            await again.until_size(len(before) - 10)
            assert again.output == before[10:]


async def test_an_offset_that_has_fallen_off_is_told(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        await screen.type("stty -opost; seq 1 100000; echo en''d\n")
        await screen.until(b"end" + b"\n")
        total = len(screen.output)

        async with desk.connect("a", since=5) as again:
            offset = again.controls[0]["offset"]
            assert offset >= total - 256 * 1024
            await again.until_size(total - offset)
            assert again.output[: total - offset] == screen.output[offset:]


async def test_the_end_can_be_had_from_an_offset_for_a_while(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        offset = len(screen.output)
        await screen.type("exit 5\n")
        await screen.until_closed()
        rest = screen.output[offset:]

    async with desk.connect("a", since=offset) as screen:
        assert screen.controls == [CONNECTED | {"offset": offset}]
        assert (await screen.until_closed())[0] == 1011
        assert screen.output == rest
        assert screen.controls[-1]["exitCode"] == 5
    async with desk.connect("a") as screen:
        assert screen.controls[0]["status"] == "error"


async def test_unknown_terminal_is_told_over_the_websocket(desk: Desk) -> None:
    name = "no such terminal, and a long name " + "ü" * 100

    async with desk.connect(name) as screen:
        text = f"Failed to connect to PTY session: PTY session {name} not found"
        assert screen.controls == [
            {"type": "control", "status": "error", "error": text}
        ]
        code, reason = await screen.until_closed()

    assert code == 1011
    assert len(reason.encode()) <= 123
    assert text.startswith(json.loads(reason)["error"])


@pytest.mark.parametrize("since", ["-1", "-2", "x"])
async def test_offsets_that_are_none_are_refused(desk: Desk, since: str) -> None:
    assert (await failure(desk, f"a/connect?since={since}"))[0] == 400


async def test_offset_of_the_future_is_told(desk: Desk) -> None:
    await desk.ask("POST", "", {"id": "a"})

    async with desk.connect("a", since=10**9) as screen:
        assert "has only" in screen.controls[0]["error"]


async def test_an_agent_that_stops_closes_with_going_away(
    desk: Desk, agent: Agent
) -> None:
    async with desk.create("a") as screen:
        await screen.until(PROMPT)
        stopping = asyncio.create_task(asyncio.to_thread(agent.stop))

        assert (await screen.until_closed())[0] == 1001

    assert await stopping == 0
