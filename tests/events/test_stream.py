"""GET /events over a real agent: the stream, the pages, who may ask and how."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.events.conftest import Client, Said, Stream
from tests.support.agent import Agent

COMMANDS = "command.*"


def of_type(kind: str) -> Any:
    return lambda said: said["type"] == kind


def ids(events: list[Said]) -> list[int]:
    return [event["id"] for event in events]


def jobs(events: list[Said], kind: str) -> list[str]:
    return [event["job"] for event in events if event["type"] == kind]


async def hello(stream: Stream) -> Said:
    said = await stream.next()
    assert said is not None
    assert said["type"] == "hello"
    return said


# -- order ------------------------------------------------------------------------


async def mixed(client: Client, number: int) -> int:
    """Run one of several kinds of commands; return the exit code it has to have."""
    code = number % 7
    if number % 5 == 0:
        body = {"command": f"exit {code}", "runAsync": False}
        # In a shell of its own, since `exit` would end the session's.
        body["command"] = f"(exit {code})"
        answer = await client.post("/process/session/s/exec", body)
    elif number % 11 == 0:
        answer = await client.execute("kill -9 $$")
        code = 137
    else:
        answer = await client.execute(f"exit {code}")
    assert answer["exitCode"] == code, answer
    return code


@pytest.mark.timeout(60)
async def test_the_order_is_that_of_reality(client: Client) -> None:
    await client.post("/process/session", {"sessionId": "s"})
    async with client.follow(types=COMMANDS) as stream:
        await hello(stream)
        # One after the other, then many at once.
        codes = [await mixed(client, number) for number in range(150)]
        gate = asyncio.Semaphore(8)

        async def one(number: int) -> int:
            async with gate:
                return await mixed(client, number)

        many = await asyncio.gather(*(one(number) for number in range(350)))
        told = [
            said
            for _ in range(2 * 500)
            if (said := await stream.next()) and said["type"] != "overflow"
        ]
    page = await client.page(types=COMMANDS)

    assert page["events"] == told
    assert ids(told) == sorted(set(ids(told)))
    ended = [each for each in told if each["type"] == "command.ended"]
    assert [each["exitCode"] for each in ended[:150]] == codes
    assert Counter(each["exitCode"] for each in ended[150:]) == Counter(many)
    started: set[str] = set()
    for each in told:
        if each["type"] == "command.started":
            assert each["job"] not in started
            started.add(each["job"])
        else:
            assert each["job"] in started
    assert len(started) == len(ended) == 500
    # One after the other means: each ended before the next one began.
    firsts = [each["type"] for each in told[:300]]
    assert firsts == ["command.started", "command.ended"] * 150


async def test_who_has_the_answer_finds_the_end(client: Client) -> None:
    for _ in range(20):
        before = (await client.page())["newest"]
        await client.execute("true")

        events = (await client.page(since=before))["events"]

        assert [each["type"] for each in events] == ["command.started", "command.ended"]


async def test_how_a_command_ended_is_told(client: Client) -> None:
    await client.execute("exit 7")
    await client.execute("kill -TERM $$")
    await client.execute("sleep 30", timeout=1)
    await client.execute("true", cwd="/not/there")

    page = await client.page(types="command.ended,command.failed")
    plain, killed, late, never = page["events"]

    assert (plain["exitCode"], plain["reason"]) == (7, "exited")
    assert (killed["exitCode"], killed["signal"]) == (143, "SIGTERM")
    assert late["reason"] == "timeout"
    assert late["durationMs"] >= 1000
    assert (never["type"], never["reason"]) == ("command.failed", "start-failed")


async def test_sessions_are_told(client: Client) -> None:
    await client.post("/process/session", {"sessionId": "s"})
    await client.post("/process/session/s/exec", {"command": "echo x"})
    await client.post("/process/session/s/exec", {"command": "exit 4"})
    url = f"{client.agent.url}/process/session/s"
    async with client.session.delete(url) as answer:
        assert answer.status < 300

    events = (await client.page(types="session.*,command.*"))["events"]

    assert [each["type"] for each in events] == [
        "session.created",
        *["command.started", "command.ended"] * 2,
        "session.ended",
        "session.deleted",
    ]
    assert {each["session"] for each in events} == {"s"}
    assert [each.get("exitCode") for each in events] == [
        *(None, None, 0, None, 4, 4, None)
    ]
    assert events[1]["program"] == "echo"


async def test_commands_that_a_dead_session_never_ran_have_no_end(
    client: Client,
) -> None:
    await client.post("/process/session", {"sessionId": "s"})
    run = {"runAsync": True}
    await client.post("/process/session/s/exec", {"command": "sleep 30", **run})
    await client.post("/process/session/s/exec", {"command": "echo never", **run})
    url = f"{client.agent.url}/process/session/s"
    async with client.session.delete(url) as answer:
        assert answer.status < 300

    events = (await client.page(types="command.*"))["events"]

    assert Counter(each["type"] for each in events) == {
        "command.started": 1,
        "command.ended": 1,
        "command.failed": 1,
    }
    assert events[-1]["reason"] == "deleted"


# -- asking -----------------------------------------------------------------------


async def test_without_since_only_what_comes_is_told(client: Client) -> None:
    await client.execute("true")
    newest = (await client.page())["newest"]
    async with client.follow() as stream:
        first = await hello(stream)
        await client.execute("exit 3")
        told = await stream.until(of_type("command.ended"))

    assert first == {"type": "hello", "since": newest, "oldest": 1, "newest": newest}
    assert ids(told) == [newest + 1, newest + 2]


async def test_last_event_id_wins_over_since(client: Client) -> None:
    await client.execute("true")
    newest = (await client.page())["newest"]
    async with client.follow(last=str(newest - 1), since=1) as stream:
        first = await hello(stream)
        said = await stream.next()

    assert first["since"] == newest - 1
    assert said is not None
    assert said["id"] == newest


async def test_a_stream_can_be_taken_up_after_its_first_word(client: Client) -> None:
    async with client.follow(since=0) as stream:
        await hello(stream)
        last = stream.last
    async with client.follow(last=last) as stream:
        await hello(stream)
        said = await stream.next()

    assert last == "0"
    assert said is not None
    assert (said["id"], said["type"]) == (1, "agent.started")


async def test_types_are_chosen_by_globs(client: Client) -> None:
    await client.execute("true")
    await client.post("/env", {"set": {"A": "1"}})

    chosen = (await client.page(types="environment.*, *.ended"))["events"]
    one = (await client.page(types="api.read?"))["events"]

    kinds = [each["type"] for each in chosen]
    assert kinds == ["command.ended", "environment.changed"]
    assert [each["type"] for each in one] == ["api.ready"]
    assert (await client.page(types="nothing.*"))["events"] == []


async def test_pages_together_are_the_whole(client: Client) -> None:
    for _ in range(20):
        await client.execute("true")
    whole = await client.page()
    found: list[Said] = []
    page: Any = {"next": 0, "more": True}
    while page["more"]:
        page = await client.page(since=page["next"], limit=7)
        assert len(page["events"]) <= 7
        found += page["events"]

    assert found == whole["events"]
    assert (whole["more"], whole["lost"]) == (False, 0)
    assert page["next"] == whole["next"] == whole["newest"]


@pytest.mark.parametrize(
    "query",
    [
        "since=-1",
        "since=x",
        "types=$",
        "types=" + "a" * 65,
        "types=" + "a,b," * 33,
        "follow=false&limit=0",
        "follow=false&limit=10001",
    ],
)
async def test_odd_questions_are_refused(client: Client, query: str) -> None:
    async with client.session.get(f"{client.agent.url}/events?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "BAD_REQUEST"


async def test_only_who_has_the_token_may_ask(client: Client) -> None:
    ask = client.agent.request
    none = await asyncio.to_thread(ask, "GET", "/events", auth=False)
    odd = {"Last-Event-ID": "x"}
    wrong = await asyncio.to_thread(ask, "GET", "/events", headers=odd)
    head = await asyncio.to_thread(ask, "HEAD", "/events")
    posted = await asyncio.to_thread(ask, "POST", "/events")

    assert (none.status, wrong.status, head.status, posted.status) == (
        *(401, 400, 200, 405),
    )


# -- gaps -------------------------------------------------------------------------


async def test_what_is_gone_is_told_before_what_there_is(small: Client) -> None:
    await small.fill(100)
    page = await small.page()
    async with small.follow(since=2) as stream:
        await hello(stream)
        over, *told = await stream.until(lambda said: said.get("id") == page["newest"])

    oldest = page["oldest"]
    assert oldest > 20
    assert over == {
        "type": "overflow",
        "since": 2,
        "oldest": oldest,
        "lost": oldest - 3,
    }
    assert told == page["events"]
    later = await small.page(since=2)
    assert (later["lost"], later["events"]) == (oldest - 3, page["events"])


async def test_a_number_of_another_journal_is_told_to_be_none(client: Client) -> None:
    async with client.follow(since=10**9) as stream:
        first = await hello(stream)
        over = await stream.next()
        said = await stream.next()

    assert over is not None
    assert over["type"] == "overflow"
    assert first["since"] == 0
    assert said is not None
    assert said["id"] == 1


# -- a killed api -----------------------------------------------------------------


async def follow_on(client: Client) -> list[Said]:
    """Follow, and come back whenever the connection breaks, until the last event."""
    found: list[Said] = []
    last = "0"
    while True:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            async with client.follow(last=last) as stream:
                await hello(stream)
                while said := await stream.next():
                    found.append(said)
                    last = stream.last
                    if said["type"] == "environment.changed":
                        return found


async def work(client: Client) -> None:
    for number in range(100):
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            await client.execute(f"sleep 0.0{number % 5}")


@pytest.mark.timeout(90)
async def test_a_killed_api_leaves_neither_gap_nor_double(client: Client) -> None:
    following = asyncio.create_task(follow_on(client))
    working = [asyncio.create_task(work(client)) for _ in range(3)]
    for _ in range(3):
        await asyncio.to_thread(client.agent.execute, "true")
        os.kill(await asyncio.to_thread(client.agent.api_pid), signal.SIGKILL)
        await asyncio.to_thread(answered, client.agent)
    await asyncio.gather(*working)
    # Those whose api was killed go on without anybody to answer.
    while open_jobs(await client.page(limit=10_000)):
        """Each ends within a moment."""
    await client.post("/env", {"set": {"LAST": "1"}})
    found = await following

    assert ids(found) == list(range(1, found[-1]["id"] + 1))
    kinds = Counter(each["type"] for each in found)
    assert kinds["api.started"] == kinds["api.ready"] == 4
    assert kinds["api.ended"] == 3
    ends = [each for each in found if each["type"] == "api.ended"]
    assert {(each["signal"], each["reason"]) for each in ends} == {
        ("SIGKILL", "signalled")
    }
    assert kinds["command.started"] == kinds["command.ended"] >= 250
    assert sorted(jobs(found, "command.started")) == sorted(
        jobs(found, "command.ended")
    )


def answered(agent: Agent) -> None:
    """Wait until the next api answers."""
    while True:
        with contextlib.suppress(OSError):
            agent.request("GET", "/work-dir")
            return


def open_jobs(page: Any) -> set[str]:
    events = page["events"]
    return {*jobs(events, "command.started")} - {*jobs(events, "command.ended")}


# -- many, and slow ---------------------------------------------------------------


async def test_two_hundred_listeners_hear_the_same(client: Client) -> None:
    async def listen(number: int, ready: asyncio.Barrier) -> list[int]:
        # Some have to catch up, the others are there from the beginning.
        since = 0 if number % 2 else newest
        async with client.follow(since=since) as stream:
            await hello(stream)
            await ready.wait()
            told = await stream.until(of_type("environment.changed"))
            return [each["id"] for each in told if each["id"] > newest]

    newest = (await client.page())["newest"]
    ready = asyncio.Barrier(201)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        headers=client.agent.auth, connector=connector
    ) as session:
        client.session, before = session, client.session
        listening = [asyncio.create_task(listen(n, ready)) for n in range(200)]
        await ready.wait()
        for _ in range(20):
            await client.execute("true")
        await client.post("/env", {"set": {"LAST": "1"}})

        heard = await asyncio.gather(*listening)
        client.session = before

    assert set(map(tuple, heard)) == {tuple(range(newest + 1, newest + 42))}


def stopped_reader(agent: Agent, query: str) -> socket.socket:
    """Return the connection of a listener that has read nothing yet."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((agent.host, agent.port))
    connection.sendall(
        f"GET /events?{query} HTTP/1.1\r\nHost: {agent.host}\r\n"
        f"Authorization: Bearer {agent.token}\r\n\r\n".encode()
    )
    return connection


def read_until(connection: socket.socket, wanted: str) -> list[Said]:
    """Read the stream at last, up to an event that has a certain word in it."""
    connection.settimeout(20)
    found: list[Said] = []
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        while line := response.readline():
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if wanted in line.decode():
                    return found
    raise AssertionError(found[-3:])


async def test_who_stops_reading_misses_nothing_that_is_kept(client: Client) -> None:
    connection = stopped_reader(client.agent, "since=0")
    with contextlib.closing(connection):
        # More than the api holds, and less than the journal.
        await client.fill(350)
        await client.post("/env", {"set": {"LAST": "1"}})
        newest = (await client.page(since=340))["newest"]

        _, *told = await asyncio.to_thread(read_until, connection, "LAST")

    assert ids(told) == list(range(1, newest + 1))


@pytest.mark.timeout(90)
async def test_who_stops_reading_is_told_what_it_missed(small: Client) -> None:
    connection = stopped_reader(small.agent, "since=0")
    with contextlib.closing(connection):
        await small.fill(1500)
        await small.post("/env", {"set": {"LAST": "1"}})

        newest = (await small.page(since=1400))["newest"]

        _, *told = await asyncio.to_thread(read_until, connection, "LAST")

    gaps = [each for each in told if each["type"] == "overflow"]
    events = [each for each in told if each["type"] != "overflow"]
    assert sum(each["lost"] for each in gaps) + len(events) == newest
    assert gaps
    assert ids(events) == sorted(set(ids(events)))


async def test_a_stream_ends_when_the_agent_stops(client: Client) -> None:
    async with client.follow(types="agent.*") as stream:
        await hello(stream)
        await asyncio.to_thread(client.agent.stop)
        said = await stream.next()

        assert said is not None
        assert said["type"] == "agent.stopping"
        assert await stream.next() is None
