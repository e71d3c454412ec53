"""The life of a request: forms of paths, arguments, failures and their envelope."""

import asyncio
import json
from typing import Annotated, Any

import pytest
from aiohttp import ClientPayloadError, web
from msgspec import Meta

from agent import wire
from agent.errors import (
    ConflictError,
    GoneError,
    InvalidPathError,
    StorageFullError,
    TimeLimitError,
    TooManyError,
    UnavailableError,
)
from agent.web.routes import Encoded, PositiveInt, Routes
from agent.web.websockets import WEBSOCKETS, Websockets

from .conftest import TOKEN, Serve, Served


class Body(wire.Model, frozen=True, kw_only=True):
    """A body with one of each."""

    name: str
    time_limit: Annotated[float, Meta(ge=0)] | None = None


class Seen(wire.Model, frozen=True, kw_only=True):
    """What a handler was given."""

    text: str
    number: int = 0
    flag: bool = False


routes = Routes("test")
FAILURES: dict[str, BaseException] = {
    "conflict": ConflictError("it is there"),
    "gone": GoneError("it has ended", code="SESSION_ENDED"),
    "path": InvalidPathError("invalid file path: x"),
    "full": StorageFullError("no space"),
    "time": TimeLimitError("too long"),
    "many": TooManyError("too many"),
    "unavailable": UnavailableError("not now"),
    "enoent": FileNotFoundError(2, "No such file or directory", "/a/b"),
    "eacces": PermissionError(13, "Permission denied", "/a/b"),
    "enospc": OSError(28, "No space left on device"),
    "bug": RuntimeError("a secret: s3cret"),
}


@routes.get("/things/{thing_id}")
async def thing(thing_id: str, number: PositiveInt = 1, *, flag: bool = False) -> Seen:
    """Tell what came."""
    return Seen(text=wire.printable(thing_id), number=number, flag=flag)


@routes.get("/text")
async def text(path: str, limit: int | None = None) -> Seen:
    """Tell the bytes of a path."""
    return Seen(text=path.encode("utf-8", "surrogateescape").hex(), number=limit or 0)


@routes.post("/bodies", status=201)
async def bodies(body: Body) -> Encoded[Seen]:
    """Take a body."""
    return Encoded(wire.encode(Seen(text=body.name, number=int(body.time_limit or 0))))


@routes.post("/maybe")
async def maybe(body: Body | None = None) -> Seen:
    """Take a body or none."""
    return Seen(text=body.name if body else "none")


@routes.delete("/things", status=204)
async def remove() -> None:
    """Remove nothing."""


@routes.get("/fail/{how}")
async def fail(how: str) -> None:
    """Fail in some way."""
    raise FAILURES[how]


@routes.get("/breaks")
async def breaks(request: web.Request) -> web.StreamResponse:
    """Fail after the answer began."""
    response = web.StreamResponse()
    response.content_length = 100
    await response.prepare(request)
    await response.write(b"half")
    raise OSError(5, "Input/output error", "/a")


async def fetch(
    served: Served, method: str, path: str, **options: Any
) -> tuple[int, Any, Any]:
    """Return status, headers and decoded body."""
    async with served.client.request(
        method, served.url + path, headers=served.auth, **options
    ) as answer:
        data = await answer.read()
        return answer.status, answer.headers, json.loads(data) if data else None


PREFIXES = ["", "/toolbox/box/toolbox", "/toolbox/box", "/box"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_form_of_a_path_reaches_the_route(
    serve: Serve, prefix: str, slash: str
) -> None:
    served = await serve([routes])

    status, _, body = await fetch(served, "GET", f"{prefix}/things/x{slash}")

    assert (status, body["text"]) == (200, "x")


async def test_an_encoded_slash_stays_in_its_segment(serve: Serve) -> None:
    served = await serve([routes])

    answer = await served.raw(
        b"GET /box/things/a%2Fb%20c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    )

    assert b'"text":"a/b c"' in answer


async def test_a_route_name_is_never_taken_for_a_sandbox(serve: Serve) -> None:
    served = await serve([routes])

    status, _, body = await fetch(served, "GET", "/text/things/x")

    assert (status, body["code"]) == (404, "NOT_FOUND")


async def test_a_sandbox_may_be_called_like_a_route(serve: Serve) -> None:
    served = await serve([routes])

    status, _, _ = await fetch(served, "GET", "/toolbox/things/things/x")

    assert status == 200


@pytest.mark.parametrize(
    ("query", "status", "number", "flag"),
    [
        ("", 200, 1, False),
        ("?number=5&flag=true", 200, 5, True),
        ("?flag=True&number=", 200, 1, False),
        ("?flag=1&unknown=x&signature=y", 200, 1, False),
        ("?number=0", 400, 0, False),
        ("?number=x", 400, 0, False),
        ("?number=1.5", 400, 0, False),
    ],
)
async def test_query_parameters_are_typed(
    serve: Serve, query: str, status: int, number: int, flag: bool
) -> None:
    served = await serve([routes])

    got, _, body = await fetch(served, "GET", "/things/x" + query)

    assert got == status
    if status == 200:
        assert (body["number"], body["flag"]) == (number, flag)
    else:
        assert body["code"] == "BAD_REQUEST"
        assert "number" in body["message"]


async def test_a_path_parameter_keeps_every_byte(serve: Serve) -> None:
    served = await serve([routes])

    answer = await served.raw(
        b"GET /text?path=%FF%FEa+b%20c%2B HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    )

    assert b"\xff\xfea b c+".hex().encode() in answer


async def test_a_missing_or_empty_parameter_is_told_by_name(serve: Serve) -> None:
    served = await serve([routes])

    for query in ("", "?path=", "?limit=3"):
        status, _, body = await fetch(served, "GET", "/text" + query)
        assert (status, body["code"]) == (400, "BAD_REQUEST")
        assert body["message"] == "path is required"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b'{"name":"a"}', 201, None),
        (b'{"name":"a","timeLimit":null,"more":1}', 201, None),
        (b'{"name":"a","timeLimit":2.0}', 201, None),
        (b"", 400, "INVALID_REQUEST_BODY"),
        (b"  ", 400, "INVALID_REQUEST_BODY"),
        (b"{", 400, "INVALID_REQUEST_BODY"),
        (b"[]", 400, "INVALID_REQUEST_BODY"),
        (b"null", 400, "INVALID_REQUEST_BODY"),
        (b"{}", 400, "INVALID_REQUEST_BODY"),
        (b'{"name":1}', 400, "INVALID_REQUEST_BODY"),
        (b'{"name":"a","timeLimit":-1}', 400, "INVALID_REQUEST_BODY"),
        (b'{"name":"\xff"}', 400, "INVALID_REQUEST_BODY"),
    ],
)
async def test_bodies_are_typed_whatever_their_content_type(
    serve: Serve, data: bytes, status: int, code: str | None
) -> None:
    served = await serve([routes])

    got, headers, body = await fetch(served, "POST", "/bodies", data=data)

    assert got == status
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert body.get("code") == code


async def test_an_optional_body_may_be_missing(serve: Serve) -> None:
    served = await serve([routes])

    assert (await fetch(served, "POST", "/maybe"))[2]["text"] == "none"
    assert (await fetch(served, "POST", "/maybe", data=b"{}"))[0] == 400


async def test_a_body_past_the_limit_is_413(serve: Serve) -> None:
    served = await serve([routes], body_max_bytes=1000)

    status, _, body = await fetch(served, "POST", "/bodies", data=b"x" * 1001)

    assert (status, body["code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")


async def test_an_encoded_body_is_415(serve: Serve) -> None:
    served = await serve([routes])

    async with served.client.post(
        served.url + "/bodies",
        data=b"x",
        headers={**served.auth, "Content-Encoding": "gzip"},
    ) as answer:
        body = await answer.json()

    assert (answer.status, body["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_an_answer_without_a_body_has_none(serve: Serve) -> None:
    served = await serve([routes])

    status, headers, body = await fetch(served, "DELETE", "/things")

    assert (status, body) == (204, None)
    assert "Content-Type" not in headers


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("conflict", 409, "CONFLICT"),
        ("gone", 410, "SESSION_ENDED"),
        ("path", 400, "INVALID_FILE_PATH"),
        ("full", 507, "INSUFFICIENT_STORAGE"),
        ("time", 408, "REQUEST_TIMEOUT"),
        ("many", 429, "TOO_MANY_REQUESTS"),
        ("unavailable", 503, "SERVICE_UNAVAILABLE"),
        ("enoent", 404, "FILE_NOT_FOUND"),
        ("eacces", 403, "FILE_ACCESS_DENIED"),
        ("enospc", 507, "INSUFFICIENT_STORAGE"),
        ("bug", 500, "INTERNAL_SERVER_ERROR"),
    ],
)
async def test_every_failure_has_its_status_and_the_envelope(
    serve: Serve, how: str, status: int, code: str
) -> None:
    served = await serve([routes])

    got, headers, body = await fetch(served, "GET", f"/toolbox/b/fail/{how}?q=1")

    assert got == status
    assert headers["Content-Type"].startswith("application/json")
    assert set(body) == {
        "statusCode", "message", "source", "code", "timestamp", "path", "method",
    }  # fmt: skip
    assert body["statusCode"] == status
    assert body["code"] == code
    assert body["source"] == "DAYTONA_DAEMON"
    assert body["path"] == f"/fail/{how}"
    assert body["method"] == "GET"
    assert body["timestamp"].endswith("Z")
    assert "s3cret" not in body["message"]


async def test_a_wrong_method_names_the_right_ones(serve: Serve) -> None:
    served = await serve([routes])

    status, headers, body = await fetch(served, "PUT", "/things/x")

    assert (status, body["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert headers["Allow"] == "GET, HEAD"


async def test_options_is_no_way_in(serve: Serve) -> None:
    served = await serve([routes])

    status, headers, _ = await fetch(served, "OPTIONS", "/things/x")

    assert status == 405
    assert not [name for name in headers if name.startswith("Access-Control")]
    async with served.client.options(served.url + "/things/x") as answer:
        assert answer.status == 401


async def test_head_answers_like_get_without_the_body(serve: Serve) -> None:
    served = await serve([routes])

    status, headers, body = await fetch(served, "HEAD", "/things/x")

    assert (status, body) == (200, None)
    assert int(headers["Content-Length"]) > 0


async def test_an_answer_that_breaks_off_is_a_broken_connection(serve: Serve) -> None:
    served = await serve([routes])

    with pytest.raises((ClientPayloadError, ConnectionResetError)):
        await fetch(served, "GET", "/breaks")


async def test_every_answer_has_an_id_of_its_own(serve: Serve) -> None:
    served = await serve([routes])

    ids = [
        (await fetch(served, "GET", path))[1]["X-Request-Id"]
        for path in ("/things/x", "/things/x", "/nothing")
    ]

    assert len(set(ids)) == 3


async def test_draining_ends_websockets_and_refuses_new_work(serve: Serve) -> None:
    open_routes = Routes("test")

    @open_routes.get("/alive", public=True)
    async def alive() -> None:
        """Answer always."""

    @open_routes.get("/socket", websocket="only")
    async def sockets(request: web.Request) -> web.StreamResponse:
        """Stay open."""
        opened = await request.app[WEBSOCKETS].accept(request)
        async for _ in opened:
            pass
        request.app[WEBSOCKETS].forget(opened)
        return opened

    served = await serve([open_routes, routes])
    opened = await served.client.ws_connect(
        served.url + "/socket",
        headers=served.auth,
        protocols=("X-Daytona-SDK-Version~1",),
    )
    assert opened.protocol == "X-Daytona-SDK-Version~1"
    drained = asyncio.create_task(served.dispatcher.drain())
    await asyncio.sleep(0)
    assert not drained.done()

    websockets: Websockets = served.app[WEBSOCKETS]
    closing = asyncio.create_task(websockets.close_all())
    message = await opened.receive()
    await closing
    await drained

    assert (message.type, opened.close_code) == (web.WSMsgType.CLOSE, 1001)
    assert (await fetch(served, "GET", "/things/x"))[0] == 503
    assert (await fetch(served, "GET", "/alive"))[0] == 200
