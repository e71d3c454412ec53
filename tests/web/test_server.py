"""What the connection itself promises: limits, malformed input, drained bodies."""

import asyncio
import io
import json
import socket
import struct

from aiohttp import web

from agent import wire
from agent.web.routes import Routes

from .conftest import TOKEN, Serve

routes = Routes("test")
AUTH = b"Host: x\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n"


class Body(wire.Model, frozen=True, kw_only=True):
    """Any body."""

    name: str


@routes.get("/open", public=True)
async def open_route() -> None:
    """Answer anybody."""


@routes.post("/bodies")
async def bodies(body: Body) -> Body:
    """Take a body."""
    return body


@routes.post("/early", upload=True)
async def early() -> None:
    """Refuse before the body was read."""
    raise PermissionError(13, "Permission denied", "/a")


async def test_headers_that_dribble_are_cut_off(serve: Serve) -> None:
    served = await serve([routes], header_timeout_s=0.05)

    async with served.connection() as (reader, writer):
        writer.write(b"GET /open HTTP/1.1\r\nHost: x\r\n")
        assert await reader.read() == b""


async def test_dribbled_headers_on_a_used_connection_are_cut_off_too(
    serve: Serve,
) -> None:
    served = await serve([routes], header_timeout_s=0.05)

    async with served.connection() as (reader, writer):
        writer.write(b"GET /open HTTP/1.1\r\n" + AUTH + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /op")
        assert await reader.read() == b""


async def test_a_slow_body_is_no_slow_header(serve: Serve) -> None:
    served = await serve([routes], header_timeout_s=0.05)

    async with served.connection() as (reader, writer):
        writer.write(
            b"POST /bodies HTTP/1.1\r\nContent-Length: 12\r\n" + AUTH + b"\r\n"
        )
        for piece in (b'{"na', b'me":', b'"a"}'):
            writer.write(piece)
            # Longer than the limit in all, which is what is tested.
            await asyncio.sleep(0.03)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_an_idle_connection_is_closed_after_its_time(serve: Serve) -> None:
    served = await serve([routes], keepalive_s=0.05)

    async with served.connection() as (reader, writer):
        writer.write(b"GET /open HTTP/1.1\r\n" + AUTH + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""


async def test_what_is_no_http_gets_the_envelope(serve: Serve) -> None:
    served = await serve([routes])

    for request in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: a b\x00\r\n\r\n",
        b"POST /open HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /open HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    ):
        head, _, body = (await served.raw(request)).partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"400"
        envelope = json.loads(body)
        assert envelope["code"] == "BAD_REQUEST"
        assert envelope["source"] == "DAYTONA_DAEMON"


async def test_a_header_past_the_limit_is_refused_and_one_below_is_not(
    serve: Serve,
) -> None:
    served = await serve([routes])

    async def ask(size: int) -> bytes:
        return await served.raw_head(
            b"GET /open HTTP/1.1\r\n" + AUTH + b"X-Big: " + b"x" * size + b"\r\n\r\n"
        )

    assert (await ask(60_000)).startswith(b"HTTP/1.1 200")
    assert (await ask(80_000)).split(b" ")[1] in {b"400", b"431"}


async def test_a_refused_body_is_read_to_its_end_so_that_the_client_sees_why(
    serve: Serve,
) -> None:
    served = await serve([routes])

    async with served.client.post(
        served.url + "/early", data=io.BytesIO(b"x" * 20_000_000), headers=served.auth
    ) as answer:
        body = await answer.json()

    assert (answer.status, body["code"]) == (403, "FILE_ACCESS_DENIED")


async def test_an_unauthorised_upload_is_answered_too(serve: Serve) -> None:
    served = await serve([routes])

    async with served.client.post(
        served.url + "/early", data=io.BytesIO(b"x" * 20_000_000)
    ) as answer:
        assert answer.status == 401


async def test_expect_continue_is_answered_before_the_body(serve: Serve) -> None:
    served = await serve([routes])

    async with served.connection() as (reader, writer):
        writer.write(
            b"POST /bodies HTTP/1.1\r\nContent-Length: 12\r\n"
            b"Expect: 100-continue\r\n" + AUTH + b"\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"name":"a"}')
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(12) == b'{"name":"a"}'


async def test_expect_continue_without_a_token_never_asks_for_the_body(
    serve: Serve,
) -> None:
    served = await serve([routes])

    head = await served.raw_head(
        b"POST /bodies HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )

    assert head.split(b" ")[1] in {b"401", b"421"}


async def test_a_broken_chunk_is_400(serve: Serve) -> None:
    served = await serve([routes])

    answer = await served.raw_head(
        b"POST /bodies HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        + AUTH
        + b"\r\nxyz\r\n"
    )

    assert answer.split(b" ")[1] == b"400"


async def test_connections_past_the_limit_get_503(serve: Serve) -> None:
    served = await serve([routes], max_connections=2)

    async with served.connection() as (reader, writer), served.connection():
        writer.write(b"GET /open HTTP/1.1\r\n" + AUTH + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        head, _, body = (await served.raw(b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert json.loads(body)["code"] == "SERVICE_UNAVAILABLE"
    answer = await served.raw_head(b"GET /open HTTP/1.1\r\n" + AUTH + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_post_in_flight_would_end_in_a_reset_and_an_answered_one_not(
    serve: Serve,
) -> None:
    seen: list[bytes] = []
    looking = Routes("test")

    def linger(request: web.Request) -> bytes:
        assert request.transport is not None
        sock = request.transport.get_extra_info("socket")
        return bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))

    @looking.post("/post")
    async def post(request: web.Request) -> None:
        """Look at the socket's option."""
        seen.append(linger(request))

    @looking.get("/get")
    async def get(request: web.Request) -> None:
        """Look at the socket's option."""
        seen.append(linger(request))

    served = await serve([looking])
    for method in ("POST", "GET"):
        async with served.client.request(
            method, f"{served.url}/{method.lower()}", headers=served.auth
        ):
            pass

    assert seen == [struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)]
