"""Every refusal of contract 31, with its status and code."""

import pytest

from tests.sessions.conftest import VERSION_HEADER, Desk, Place

BAD_BODY = (400, "INVALID_REQUEST_BODY")
BAD = (400, "BAD_REQUEST")
UNKNOWN = (404, "PROCESS_NOT_FOUND")
ENDED = (410, "SESSION_ENDED")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"{}", b"\xff"),
        *(b'{"sessionId":1}', b'{"sessionId":""}', b'{"sessionId":null}'),
    ],
)
async def test_a_session_needs_a_name(desk: Desk, body: bytes) -> None:
    async with desk.client.post(desk.url(""), data=body) as answer:
        told = await answer.json()

    assert (answer.status, told["code"]) == BAD_BODY


async def test_the_entrypoints_name_is_reserved(desk: Desk) -> None:
    told = await desk.ask("POST", "", {"sessionId": "entrypoint"})

    assert told.failure == BAD
    assert "reserved" in told.json()["message"]


@pytest.mark.parametrize(
    "fields",
    [
        *({}, {"command": None}, {"command": 1}, {"command": ["a"]}),
        *({"command": "a", "runAsync": "yes"}, {"command": "a", "async": 1}),
        *({"command": "a", "suppressInputEcho": []}, {"command": "a", "timeout": -1}),
        {"command": "a", "timeout": "1"},
    ],
)
async def test_a_command_of_the_wrong_shape_is_refused(
    place: Place, fields: dict[str, object]
) -> None:
    told = await place.desk.ask("POST", f"{place.path}/exec", fields)

    assert told.failure == BAD_BODY
    assert await place.all() == []


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_blank_command_is_refused(
    place: Place, text: str, is_async: bool
) -> None:
    told = await place.exec(text, runAsync=is_async)

    assert told.failure == BAD
    assert "command cannot be empty" in told.json()["message"]


async def test_a_command_with_a_nul_is_refused(place: Place) -> None:
    assert (await place.exec("echo a\0b")).failure == BAD


async def test_nulls_are_as_if_absent_and_unknown_keys_are_ignored(
    place: Place,
) -> None:
    told = await place.run(
        "echo ok", runAsync=None, suppressInputEcho=None, timeout=None, unknown=1
    )

    assert told["stdout"] == "ok\n"


async def test_the_old_name_of_run_async_works(place: Place) -> None:
    path = f"{place.path}/exec"
    for more in ({}, {"runAsync": False}):
        body = {"command": "echo ok", "async": True, **more}
        assert (await place.desk.ask("POST", path, body)).status == 202


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/exec", {"command": "echo"}),
        ("POST", "/exec", {"command": "echo", "runAsync": True}),
        ("GET", "/command/x", None),
        ("GET", "/command/x/logs", None),
        ("GET", "/command/x/logs?follow=true", None),
        ("GET", "/command/x/logs?offset=0", None),
        ("POST", "/command/x/input", {"data": "x"}),
        ("POST", "/command/x/eof", None),
        ("POST", "/command/x/signal", {"signal": "TERM"}),
    ],
)
async def test_an_unknown_session_is_told_as_such(
    desk: Desk, method: str, path: str, body: object
) -> None:
    told = await desk.ask(method, f"/nobody{path}", body)

    assert told.failure == UNKNOWN
    assert told.json()["message"] == "session not found"
    assert told.json()["method"] == method


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("GET", "", None),
        ("GET", "/logs", None),
        ("GET", "/logs?follow=true", None),
        ("GET", "/logs?offset=0", None),
        ("POST", "/input", {"data": "x"}),
        ("POST", "/eof", None),
        ("POST", "/signal", {"signal": "TERM"}),
    ],
)
async def test_an_unknown_command_is_told_as_such(
    place: Place, method: str, what: str, body: object
) -> None:
    other = await place.desk.create()
    elsewhere = await other.start("echo of another session")

    for command in ("none", "entrypoint_command", "..%2F..", elsewhere):
        told = await place.desk.ask(method, place.at(command, what), body)

        assert told.failure == UNKNOWN
        assert told.json()["message"] == "command not found"


async def test_an_ended_session_runs_nothing_and_still_tells_all(place: Place) -> None:
    running = await place.start("read x; echo last; exit 9")
    queued = [await place.start("echo never") for _ in range(2)]
    await place.send(running, "go")
    assert await place.code(running) == 9

    assert (await place.exec("echo no")).failure == ENDED
    assert (await place.exec("echo no", runAsync=True)).failure == ENDED
    assert (await place.send(queued[0], "x")).failure == ENDED
    assert (await place.post(queued[1], "eof")).failure == ENDED
    assert (await place.post(queued[1], "signal", {"signal": 15})).failure == ENDED
    assert [told["exitCode"] for told in await place.all()] == [9, -1, -1]
    listed = (await place.desk.ask("GET")).json()
    assert [told["sessionId"] for told in listed] == [place.name]
    assert (await place.told(queued[0]))["exitCode"] == -1
    assert (await place.logs(running)).json()["stdout"] == "go\nlast\n"
    assert (await place.logs(queued[0])).json()["output"] == ""
    assert (await place.follow(queued[0])).code == 1000
    assert (await place.delete()).status == 204


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"data":1}', b'{"data":null}', b'"x"', b"{"]
)
async def test_input_of_the_wrong_shape_is_refused(place: Place, body: bytes) -> None:
    command = await place.start("read x; echo got $x")

    async with place.desk.client.post(
        place.desk.url(place.at(command, "/input")), data=body
    ) as answer:
        told = await answer.json()

    assert (answer.status, told["code"]) == BAD_BODY
    await place.send(command, "this")
    assert await place.code(command) == 0
    assert (await place.logs(command)).json()["stdout"] == "this\ngot this\n"


@pytest.mark.parametrize(
    "signal", ["SIGNONE", "", "TERM ", 65, -1, "0x9", "\u0661", 10**30]
)
async def test_no_signal_of_that_name_or_number(
    place: Place, signal: str | int
) -> None:
    command = await place.start("sleep 60")

    told = await place.post(command, "signal", {"signal": signal})

    assert told.status == 400
    assert "exitCode" not in await place.told(command)


async def test_offsets_of_the_wrong_shape_are_refused(place: Place) -> None:
    command = await place.start("echo ok")
    await place.follow(command)

    for query in ("offset=-1", "offset=x", "stream=both"):
        told = await place.desk.ask("GET", place.at(command, f"/logs?{query}"))
        assert told.status == 400, query


@pytest.mark.parametrize("query", ["offset=4", "offset=4&follow=true"])
async def test_an_offset_past_the_end_is_416_with_the_size(
    place: Place, query: str
) -> None:
    command = await place.start("echo ok")
    await place.follow(command)

    told = await place.desk.ask("GET", place.at(command, f"/logs?{query}"))

    assert told.status == 416
    assert "3 bytes" in told.json()["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("GET", "/a/exec"),
        ("DELETE", "/a/command/x"),
        ("POST", "/a/command/x/logs"),
        ("GET", "/a/command/x/input"),
    ],
)
async def test_a_wrong_method_is_405_and_says_the_right_one(
    desk: Desk, method: str, path: str
) -> None:
    told = await desk.ask(method, path)

    assert told.status == 405
    assert told.headers["Allow"]


async def test_nothing_is_told_without_the_token(desk: Desk) -> None:
    place = await desk.create()

    async with desk.client.get(
        desk.url(place.path),
        headers={"Authorization": "Bearer no", VERSION_HEADER: "1"},
    ) as answer:
        assert answer.status == 401
