"""Rooms open when they are first asked for, and those with something to clear up before."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web

from agent.app import ROOMS
from agent.settings import Settings
from agent.web.rooms import Room, Rooms
from agent.web.server import DISPATCHER
from tests.support.agent import StartAgent
from tests.support.serving import AUTH, TOKEN, Served, serving
from tests.web.rooms import EVENTS

FIRST = Room(module="tests.web.rooms.first", under=("/first",))
SECOND = Room(
    module="tests.web.rooms.second", under=("/first/second",), after=(FIRST.module,)
)
FAILING = Room(module="tests.web.rooms.failing", under=("/failing",))

Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve rooms that nobody has opened yet."""
    EVENTS.clear()

    @contextlib.asynccontextmanager
    async def start(*rooms: Room, generation: int = 1) -> AsyncIterator[Served]:
        found = Rooms(rooms)

        async def context(app: web.Application) -> AsyncIterator[None]:
            await found.open_for_recovery(
                app, app[DISPATCHER].router, str(tmp_path), generation
            )
            yield
            await found.aclose()

        settings = Settings(token=TOKEN)
        async with serving([], [context], settings, rooms=found, headers=AUTH) as it:
            yield it

    return start


async def text(served: Served, path: str) -> tuple[int, str]:
    """Return the status and the text of a GET."""
    async with served.client.get(served.at(path)) as answer:
        return answer.status, await answer.text()


async def test_a_room_opens_at_its_first_request_and_closes_at_the_end(
    serve: Serve,
) -> None:
    async with serve(FIRST, SECOND) as served:
        assert EVENTS == []
        assert await text(served, "/first") == (200, "first")
        assert await text(served, "/first") == (200, "first")
        assert EVENTS == ["opening first", "opened first"]

    assert EVENTS == ["opening first", "opened first", "closed first"]


async def test_what_a_room_needs_opens_before_it_and_closes_after_it(
    serve: Serve,
) -> None:
    async with serve(FIRST, SECOND) as served:
        assert await text(served, "/first/second") == (200, "second after first")

    assert EVENTS[1:] == [
        "opened first",
        "opened second",
        "closed second",
        "closed first",
    ]


async def test_many_first_requests_at_once_open_a_room_once(serve: Serve) -> None:
    async with serve(FIRST, SECOND) as served:
        paths = ["/first", "/first/second"] * 10
        answers = await asyncio.gather(*(text(served, path) for path in paths))

    assert set(answers) == {(200, "first"), (200, "second after first")}
    assert EVENTS.count("opening first") == 1
    assert EVENTS.count("opened second") == 1


async def test_a_room_that_could_not_open_is_tried_again(serve: Serve) -> None:
    async with serve(FAILING) as served:
        status, _ = await text(served, "/failing")
        assert status == 500
        assert await text(served, "/failing") == (200, "failing no more")


@pytest.mark.parametrize("prefix", ["", "/toolbox/box", "/toolbox/box/toolbox", "/box"])
async def test_the_first_request_may_come_with_any_prefix_and_a_body(
    serve: Serve, prefix: str
) -> None:
    async with (
        serve(FIRST) as served,
        served.client.post(
            served.at(f"{prefix}/first/word/deeper/"),
            data=b"body",
            headers={"Expect": "100-continue"},
        ) as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "word 4")


async def test_a_wrong_method_or_path_is_told_as_of_any_route(serve: Serve) -> None:
    async with serve(FIRST, SECOND) as served:
        async with served.client.put(served.at("/first/second")) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert (await text(served, "/first/nothing"))[0] == 404
        assert (await text(served, "/nothing"))[0] == 404


async def test_a_room_with_leftovers_opens_before_the_first_answer(
    serve: Serve, tmp_path: Path
) -> None:
    room = Room(module=FIRST.module, under=FIRST.under, leaves="journal")
    (tmp_path / "journal").mkdir()
    async with serve(room):
        assert EVENTS == []

    (tmp_path / "journal/entry").touch()
    async with serve(room):
        assert EVENTS == ["opening first", "opened first"]


@pytest.mark.parametrize("leaves", ["", "journal"])
async def test_after_a_killed_api_whatever_leaves_something_opens(
    serve: Serve, leaves: str
) -> None:
    room = Room(module=FIRST.module, under=FIRST.under, leaves=leaves)
    async with serve(room, SECOND, generation=2):
        assert EVENTS == ["opening first", "opened first"]


def test_every_room_of_the_agent_serves_what_it_is_said_to() -> None:
    rooms = Rooms(ROOMS)
    found = {
        route.path: each.module
        for each, table in zip(ROOMS, rooms.tables(), strict=True)
        for route in table
        if rooms.room(route.path) is not each
    }

    assert not found


def anything(path: str) -> dict[str, object]:
    """Return something for most bodies, so that most handlers are reached."""
    return {
        "branch": "x",
        "code": "1",
        "command": "true",
        "conditions": [{"kind": "exit", "pid": 1}],
        "edits": [],
        "files": [path],
        "id": "x",
        "languageId": "python",
        "name": "x",
        "path": path,
        "paths": [path],
        "pathToProject": path,
        "sessionId": "x",
        "uri": "x.py",
        "url": path,
    }


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.module)
def test_a_room_opened_alone_has_all_that_its_routes_use(
    start_agent: StartAgent, room: Room
) -> None:
    agent = start_agent()
    nowhere = str(agent.work_dir / "nowhere")
    body = json.dumps(anything(nowhere))
    table = Rooms([room]).tables()[0]
    for route in table:
        path = "/" + "/".join(
            "x" if segment.startswith("{") else segment for segment in route.segments
        )
        method = route.method.replace("*", "PATCH")
        head = [
            f"{method} {path}?path={nowhere}&pattern=x HTTP/1.1",
            f"Host: 127.0.0.1:{agent.port}",
            f"Authorization: Bearer {agent.token}",
            "Idempotency-Key: once",
            f"Content-Length: {len(body)}",
        ]
        with agent.connection() as connection:
            connection.sendall("\r\n".join([*head, "", body]).encode())
            # No more than its beginning: the answers of some have no end.
            assert connection.recv(12).startswith(b"HTTP/1.1 ")

    assert "Traceback" not in agent.log()
