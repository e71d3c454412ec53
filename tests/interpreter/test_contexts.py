"""Contexts: making, listing, deleting; queues, interrupts, and lives past the api's."""

import asyncio
import contextlib
import json
import os
import re
import signal
import uuid
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.interpreter.conftest import Desk, Talk, asking, running
from tests.support.agent import Agent
from tests.support.serving import settled

MEMORY = re.compile(r"VmRSS:\s+(\d+) kB")


async def test_a_context_is_made_listed_used_and_deleted(
    desk: Desk, agent: Agent
) -> None:
    status, made = await desk.ask("POST", "context", {})
    listed = await desk.contexts()
    ran = await desk.run("import os\nprint(os.getcwd())", made["id"])
    gone = await desk.ask("DELETE", f"context/{made['id']}")
    after = await desk.run("1", made["id"])

    assert status == 200
    assert made.keys() == {"id", "cwd", "createdAt", "active", "language"}
    assert uuid.UUID(made["id"]).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z", made["createdAt"])
    assert (made["cwd"], made["active"], made["language"]) == (
        str(agent.work_dir),
        True,
        "python",
    )
    assert listed == [made]
    assert ran.stdout == f"{agent.work_dir}\n"
    assert gone == (200, {"message": "Context deleted successfully"})
    assert await desk.contexts() == []
    assert (after.code, after.reason) == (1008, f"context not found: {made['id']}")


async def test_an_empty_body_makes_a_context_too(desk: Desk) -> None:
    url = f"{desk.url}/context"
    async with desk.session.post(url) as answer:
        assert answer.status == 200


async def test_contexts_share_nothing_but_the_files(desk: Desk, agent: Agent) -> None:
    (agent.work_dir / "sub").mkdir()
    first = await desk.create()
    second = await desk.create(cwd="sub")

    await desk.run("x = 1\nopen('f', 'w').write('seen')", first)
    ran = await desk.run("print(open('../f').read(), 'x' in globals())", second)

    assert ran.stdout == "seen False\n"


async def test_the_default_context_is_not_listed_and_cannot_be_deleted(
    desk: Desk,
) -> None:
    await desk.run("x = 1")
    named = await desk.run("print(x)", "default")
    status, told = await desk.ask("DELETE", "context/default")

    assert named.stdout == "1\n"
    assert await desk.contexts() == []
    assert status == 400
    assert told["code"] == "BAD_REQUEST"
    assert "cannot delete default context" in told["message"]


async def test_parallel_first_runs_share_one_default_context(desk: Desk) -> None:
    show = "import os\nprint(os.getpid())"

    ran = await asyncio.gather(*(desk.run(show) for _ in range(8)))

    assert len({each.stdout for each in ran}) == 1
    assert all(each.ended_well for each in ran)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"language": "cobol"}, 400, "BAD_REQUEST"),
        ({"cwd": 3}, 400, "INVALID_REQUEST_BODY"),
        ([], 400, "INVALID_REQUEST_BODY"),
        ({"cwd": "/no/such"}, 500, "INTERNAL_SERVER_ERROR"),
    ],
)
async def test_what_cannot_be_made_is_refused(
    desk: Desk, body: object, status: int, code: str
) -> None:
    got, told = await desk.ask("POST", "context", body)

    assert (got, told["code"]) == (status, code)
    assert await desk.contexts() == []


async def test_deleting_what_is_not_there_is_404(desk: Desk) -> None:
    status, told = await desk.ask("DELETE", "context/nope")

    assert (status, told["code"]) == (404, "PROCESS_NOT_FOUND")
    assert "not found" in told["message"]


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("not json", 1002, "invalid JSON payload"),
        ("[]", 1002, "invalid JSON payload"),
        ('{"code": 1}', 1002, "invalid JSON payload"),
        ('{"timeout": 1}', 1008, "code is required"),
        ('{"code": ""}', 1008, "code is required"),
        (
            '{"code": "1", "timeout": -1}',
            1008,
            "timeout must be greater than or equal to 0",
        ),
        ('{"code": "1", "contextId": "nope"}', 1008, "context not found: nope"),
        ('{"code": "1", "timeout": 0, "envs": null}', 1000, ""),
        ('{"code": "1", "timeout": 2.5, "other": []}', 1000, ""),
    ],
)
async def test_requests_are_checked(
    desk: Desk, message: str, code: int, reason: str
) -> None:
    async with desk.connect() as talk:
        await talk.socket.send_bytes(message.encode())
        ran = await talk.end()

    assert (ran.code, ran.reason) == (code, reason)
    assert ran.controls == (["completed"] if code == 1000 else [])


async def test_runs_of_one_context_queue_and_answer_pings_meanwhile(
    desk: Desk,
) -> None:
    started = "print('started', flush=True)\nimport time\ntime.sleep(60)"
    async with desk.start(started) as first:
        await first.until("started")
        async with desk.start("print('second')") as second:
            pongs = second.socket._writer
            await second.socket.ping(b"there?")
            assert pongs is not None
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second.step(), 0.2)
            assert (await desk.ask("POST", "context/default/interrupt"))[0] == 200
            stopped = await first.end()
            ran = await second.end()

    assert stopped.controls == ["interrupted"]
    assert ran.stdout == "second\n"


async def test_runs_go_in_the_order_they_came_in(desk: Desk) -> None:
    await desk.run("seen = []\nimport time")
    async with contextlib.AsyncExitStack() as stack:
        code = "time.sleep(0.3)"
        talks = [await stack.enter_async_context(desk.start(code))]
        for number in range(20):
            code = f"seen.append({number})"
            talks.append(await stack.enter_async_context(desk.start(code)))
            # Submitted when the upgrade is answered and the message was read.
            await desk.contexts()
        for talk in talks:
            assert (await talk.end()).ended_well

    assert (await desk.run("print(seen)")).stdout == f"{list(range(20))}\n"


async def test_contexts_run_side_by_side(desk: Desk, agent: Agent) -> None:
    first, second = await desk.create(), await desk.create()
    os.mkfifo(agent.work_dir / "pipe")

    # Each waits for the other.
    ran = await asyncio.gather(
        desk.run("print(open('pipe').read())", first),
        desk.run("print(open('pipe', 'w').write('met'))", second),
    )

    assert [each.stdout for each in ran] == ["met\n", "3\n"]


async def test_an_interrupt_ends_the_run_and_keeps_the_state(desk: Desk) -> None:
    context = await desk.create()
    code = "x = 1\nprint('on', flush=True)\nwhile True: pass"
    async with desk.start(code, context) as talk:
        await talk.until("on")
        asked = await desk.ask("POST", f"context/{context}/interrupt")
        ran = await talk.end()

    assert asked == (200, {"message": "Context interrupted"})
    assert ran.error is not None
    assert ran.error["name"] == "KeyboardInterrupt"
    assert (ran.code, ran.controls) == (1000, ["interrupted"])
    assert (await desk.run("print(x)", context)).stdout == "1\n"


async def test_an_interrupt_of_nothing_is_a_conflict(desk: Desk) -> None:
    context = await desk.create()
    await desk.run("x = 1", context)

    status, _ = await desk.ask("POST", f"context/{context}/interrupt")

    assert status == 409
    assert (await desk.run("print(x)", context)).stdout == "1\n"
    assert (await desk.ask("POST", "context/nope/interrupt"))[0] == 404


async def test_a_deleted_context_ends_its_runs_and_its_children(desk: Desk) -> None:
    context = await desk.create()
    code = (
        "import subprocess, time\n"
        "print(subprocess.Popen(['setsid', 'sleep', '60']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    async with (
        desk.start(code, context) as talk,
        desk.start("print('never')", context) as queued,
    ):
        await talk.until("\n")
        assert (await desk.ask("DELETE", f"context/{context}"))[0] == 200
        ends = [await talk.end(), await queued.end()]

    for ran in ends:
        assert (ran.code, ran.reason) == (1001, "context shutdown")
        assert not ran.controls
    assert not running(int(ends[0].stdout))


async def test_a_client_that_leaves_does_not_end_its_run(desk: Desk) -> None:
    code = "import time\nprint('on', flush=True)\ntime.sleep(0.2)\nx = 2\nprint('x' * 10**6)"
    async with desk.start(code) as talk:
        await talk.until("on")

    assert (await desk.run("print(x)")).stdout == "2\n"


async def test_a_client_that_leaves_the_queue_is_skipped(
    desk: Desk, agent: Agent
) -> None:
    code = "import time, os\nwhile not os.path.exists('go'): time.sleep(0.01)"
    async with desk.start(code) as first:
        async with desk.start("open('ran', 'w')"):
            await desk.contexts()
        await desk.contexts()
        (agent.work_dir / "go").touch()
        assert (await first.end()).ended_well

    await desk.run("pass")
    assert not (agent.work_dir / "ran").exists()


async def test_a_slow_client_makes_its_worker_wait_and_nobody_else(
    desk: Desk,
) -> None:
    context = await desk.create()
    code = "import os\nfor _ in range(400): os.write(1, b'x' * 65536)\nprint('end')"
    async with desk.start(code, context) as talk:
        await talk.step()
        assert (await desk.run("print(1)")).stdout == "1\n"
        ran = await talk.end()

    assert len(ran.stdout) == 400 * 65536 + 4
    assert ran.ended_well


async def test_a_killed_worker_shows_in_the_list_until_the_next_run(
    desk: Desk,
) -> None:
    context = await desk.create()
    pid = int((await desk.run("import os\nprint(os.getpid())", context)).stdout)
    os.kill(pid, signal.SIGKILL)

    async def is_active() -> bool:
        return (await desk.contexts())[0]["active"] is True

    while await is_active():
        """The next look is another question to the agent."""
    await desk.run("pass", context)

    assert await is_active()


# -- past the api's life ----------------------------------------------------------


async def kill_api(agent: Agent) -> None:
    """Kill the api, and wait until its successor answers."""
    old = await asyncio.to_thread(agent.api_pid)
    os.kill(old, signal.SIGKILL)
    await settled(lambda: not running(old))
    answer = await asyncio.to_thread(agent.request, "GET", "/version")
    assert answer.status == 200


async def test_state_outlives_the_api(agent: Agent) -> None:
    async with asking(agent) as desk:
        await desk.run("x = 'default'")
        contexts = [await desk.create(), await desk.create()]
        for number, context in enumerate(contexts):
            await desk.run(f"x = {number}", context)
        listed = await desk.contexts()
        dead = await desk.create()
        await desk.run("import os\nos._exit(1)", dead)

    await kill_api(agent)

    async with asking(agent) as desk:
        assert (await desk.contexts())[:2] == listed
        assert [each["active"] for each in await desk.contexts()] == [True, True, False]
        assert (await desk.run("print(x)")).stdout == "default\n"
        for number, context in enumerate(contexts):
            assert (await desk.run("print(x)", context)).stdout == f"{number}\n"
        assert (await desk.run("print(1)", dead)).stdout == "1\n"
        assert (await desk.ask("DELETE", f"context/{contexts[0]}"))[0] == 200


async def test_a_run_under_way_goes_on_while_the_api_is_replaced(agent: Agent) -> None:
    code = (
        "import os, time\n"
        "print('on', flush=True)\n"
        "while not os.path.exists('go'):\n"
        "    print('x' * 50000)\n"
        "    time.sleep(0.01)\n"
        "x = 'done'"
    )
    async with asking(agent) as desk, desk.start(code) as talk:
        await talk.until("on")
        await kill_api(agent)

    async with asking(agent) as desk, desk.start("print(x)") as talk:
        # Behind the old run, and with nothing of its output.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk.step(), 0.2)
        (agent.work_dir / "go").touch()
    async with asking(agent) as desk:
        assert (await desk.run("print(x)")).stdout == "done\n"


async def test_a_time_limit_outlives_the_api(agent: Agent) -> None:
    code = "x = 1\nprint('on', flush=True)\nwhile True: pass"
    async with asking(agent) as desk, desk.start(code, timeout=1) as talk:
        await talk.until("on")
        await kill_api(agent)

    async with asking(agent) as desk:
        assert (await desk.run("print(x)")).stdout == "1\n"


async def test_deleting_ends_a_worker_that_an_earlier_api_has_made(
    agent: Agent,
) -> None:
    async with asking(agent) as desk:
        context = await desk.create()
        pid = int((await desk.run("import os\nprint(os.getpid())", context)).stdout)

    await kill_api(agent)

    async with asking(agent) as desk:
        assert (await desk.ask("DELETE", f"context/{context}"))[0] == 200
    assert not running(pid)


# -- many -------------------------------------------------------------------------


async def test_twenty_contexts_work_side_by_side(desk: Desk) -> None:
    contexts = await asyncio.gather(*(desk.create() for _ in range(20)))

    await asyncio.gather(
        *(desk.run(f"x = {n}", context) for n, context in enumerate(contexts))
    )
    ran = await asyncio.gather(*(desk.run("print(x)", each) for each in contexts))

    assert [each.stdout for each in ran] == [f"{n}\n" for n in range(20)]
    assert [each["id"] for each in await desk.contexts()] == contexts


def memory_kib(pid: int) -> int:
    found = MEMORY.search(Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


async def grown_kib(agent: Agent, desk: Desk, runs: int) -> list[int]:
    """Return by how much keeper, api and worker have grown after so many runs."""
    worker = int((await desk.run("import os\nprint(os.getpid())")).stdout)
    pids = [agent.pid, await asyncio.to_thread(agent.api_pid), worker]
    code = "print('x' * 1000)\nimport sys\nsys.stderr.write('y')\ntry: 1/0\nexcept Exception: pass"
    for _ in range(300):
        await desk.run(code)
    before = [memory_kib(pid) for pid in pids]
    for _ in range(runs):
        await desk.run(code)
    return [memory_kib(pid) - was for pid, was in zip(pids, before, strict=True)]


@pytest.mark.timeout(30)
async def test_memory_does_not_grow_with_the_runs(desk: Desk, agent: Agent) -> None:
    grown = await grown_kib(agent, desk, 1000)

    assert max(grown) < 2048, grown


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_memory_does_not_grow_with_ten_thousand_runs(
    desk: Desk, agent: Agent
) -> None:
    grown = await grown_kib(agent, desk, 10_000)

    assert max(grown) < 4096, grown


async def test_a_request_in_time_is_waited_for(desk: Desk) -> None:
    async with desk.connect() as talk:
        await talk.socket.send_str(json.dumps({"code": "print(1)"}))
        await talk.socket.send_str("ignored")
        assert (await talk.end()).stdout == "1\n"


async def test_a_browser_offers_its_version_as_a_subprotocol(
    desk: Desk, agent: Agent
) -> None:
    token = "X-Daytona-SDK-Version~0.218.0"
    url = f"{desk.url}/execute?DAYTONA_SANDBOX_AUTH_KEY={agent.token}"
    async with (
        ClientSession() as browser,
        browser.ws_connect(
            url, protocols=[token, "X-Daytona-Other"], origin=agent.url
        ) as socket,
    ):
        await socket.send_str(json.dumps({"code": "print(1)"}))
        ran = await Talk(socket).end()

    assert socket.protocol == token
    assert ran.stdout == "1\n"
