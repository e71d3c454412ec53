"""What an application sees of a request."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tests.ports.proxy.conftest import Serve, Speak
from tests.support.serving import TOKEN, Served

JAR = "daytona-sandbox-auth-sandbox"


async def tell(request: web.Request) -> web.Response:
    """Answer with what came."""
    body = await request.read()
    seen = {
        "method": request.method,
        "path": request.raw_path,
        "headers": [[name, value] for name, value in request.headers.items()],
        "body": body.decode("latin-1"),
    }
    return web.json_response(seen)


def teller() -> web.Application:
    """Return an application that tells what it saw."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell)
    return app


def values(seen: Any, name: str) -> list[str]:
    """Return the values that a header had."""
    return [value for key, value in seen["headers"] if key.lower() == name]


async def seen_raw(served: Served, head: list[str], body: bytes = b"") -> Any:
    """Send a request byte for byte; return what the application saw of it."""
    lines = [head[0], f"Host: 127.0.0.1:{served.port}", *head[1:]]
    lines += [f"Authorization: Bearer {TOKEN}", "Connection: close", "", ""]
    answer = await served.raw("\r\n".join(lines).encode("latin-1"), body)
    status, _, content = answer.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 200 "), answer
    return json.loads(content)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("", "/"),
        ("/", "/"),
        ("?x=1", "/?x=1"),
        ("/a%2Fb%40c/(d)//e/", "/a%2Fb%40c/(d)//e/"),
        ("//", "//"),
        ("/a?", "/a?"),
        ("/%7e/%c3%a9?q=%20+%zz&&=;", "/%7e/%c3%a9?q=%20+%zz&&=;"),
        ("/../x/./y", "/../x/./y"),
        ("/toolbox/s/toolbox/files", "/toolbox/s/toolbox/files"),
        ("/proxy/80/", "/proxy/80/"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/toolbox/s/toolbox", "/toolbox/s", "/s"])
async def test_the_path_arrives_byte_for_byte_under_every_prefix(
    served: Served, serve: Serve, prefix: str, sent: str, arrives: str
) -> None:
    port = await serve(teller())

    seen = await seen_raw(served, [f"GET {prefix}/proxy/{port}{sent} HTTP/1.1"])

    assert seen["path"] == arrives


@pytest.mark.parametrize(
    "method",
    ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"],
)
async def test_every_method_arrives(served: Served, serve: Serve, method: str) -> None:
    port = await serve(teller())

    seen = await seen_raw(served, [f"{method} /proxy/{port}/x HTTP/1.1"])

    assert seen["method"] == method


async def test_host_and_forwarding_headers_are_as_promised(
    served: Served, serve: Serve
) -> None:
    port = await serve(teller())

    plain = await seen_raw(served, [f"GET /proxy/{port}/ HTTP/1.1"])
    behind = await seen_raw(
        served,
        [
            f"GET /proxy/{port}/ HTTP/1.1",
            "X-Forwarded-For: 192.0.2.1",
            "X-Forwarded-For: 192.0.2.2",
            "X-Forwarded-Host: preview.example",
            "X-Forwarded-Proto: https",
        ],
    )

    assert values(plain, "host") == [f"localhost:{port}"]
    assert values(plain, "x-forwarded-for") == ["127.0.0.1"]
    assert values(plain, "x-forwarded-host") == [f"127.0.0.1:{served.port}"]
    assert values(plain, "x-forwarded-proto") == []
    assert values(behind, "x-forwarded-for") == ["192.0.2.1, 192.0.2.2, 127.0.0.1"]
    assert values(behind, "x-forwarded-host") == ["preview.example"]
    assert values(behind, "x-forwarded-proto") == ["https"]


async def test_no_header_is_invented_and_hop_by_hop_ones_are_dropped(
    served: Served, serve: Serve
) -> None:
    port = await serve(teller())

    seen = await seen_raw(
        served,
        [
            f"GET /proxy/{port}/ HTTP/1.1",
            "Connection: X-Mine, keep-alive, Content-Length",
            "X-Mine: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eDp5",
            "TE: gzip, trailers",
            "Trailer: X-Sum",
            "Accept-Encoding: br",
            "X-Kept: caf\xe9",
        ],
    )

    assert sorted(name.lower() for name, _ in seen["headers"]) == [
        "accept-encoding",
        "host",
        "te",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-kept",
    ]
    assert values(seen, "te") == ["trailers"]


async def test_the_agents_and_the_platforms_credentials_stay_behind(
    served: Served, serve: Serve
) -> None:
    port = await serve(teller())

    seen = await seen_raw(
        served,
        [
            f"GET /proxy/{port}/?a=%20&DAYTONA_SANDBOX_AUTH_KEY={TOKEN}&b=1 HTTP/1.1",
            f"X-Daytona-Preview-Token: {TOKEN}",
            "X-Daytona-Authorization: Bearer runner",
            f"Cookie: a=1; {JAR}=secret; b=2",
            f"Cookie: {JAR}=secret",
            f"Sec-WebSocket-Protocol: chat, {TOKEN}",
        ],
    )

    assert seen["path"] == "/?a=%20&b=1"
    assert values(seen, "cookie") == ["a=1; b=2"]
    assert values(seen, "sec-websocket-protocol") == ["chat"]
    assert TOKEN not in json.dumps(seen)
    assert "secret" not in json.dumps(seen)
    assert "runner" not in json.dumps(seen)


async def test_the_applications_own_credentials_arrive(
    served: Served, serve: Serve
) -> None:
    port = await serve(teller())
    url = f"{served.url}/proxy/{port}/?DAYTONA_SANDBOX_AUTH_KEY=mine"
    headers = {
        "Authorization": "Basic eDp5",
        "X-Daytona-Preview-Token": TOKEN,
        "Cookie": "session=1",
    }

    async with served.client.get(URL(url, encoded=True), headers=headers) as answer:
        seen = await answer.json()

    assert seen["path"] == "/?DAYTONA_SANDBOX_AUTH_KEY=mine"
    assert values(seen, "authorization") == ["Basic eDp5"]
    assert values(seen, "cookie") == ["session=1"]


async def test_bodies_arrive_in_the_form_in_which_they_were_sent(
    served: Served, serve: Serve
) -> None:
    port = await serve(teller())
    url = f"{served.url}/proxy/{port}/"

    async def pieces() -> Any:
        yield b"one,"
        yield b"two"

    async with served.client.post(url, data=b"\x1f\x8bnot gzip") as answer:
        whole = await answer.json()
    async with served.client.put(
        url, data=pieces(), headers={"Content-Encoding": "gzip"}
    ) as answer:
        chunked = await answer.json()

    assert whole["body"] == "\x1f\x8bnot gzip"
    assert values(whole, "content-length") == ["10"]
    assert chunked["body"] == "one,two"
    assert values(chunked, "transfer-encoding") == ["chunked"]
    assert values(chunked, "content-encoding") == ["gzip"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_both_loopback_addresses_are_found(
    served: Served, serve: Serve, host: str
) -> None:
    port = await serve(teller(), host)

    for _ in range(2):
        async with served.client.post(f"{served.url}/proxy/{port}/") as answer:
            assert answer.status == 200


@pytest.mark.parametrize("port", ["0", "65536", "x", "80x", "-1", "%38%30%3a"])
async def test_what_is_no_port_is_refused(served: Served, port: str) -> None:
    url = URL(f"{served.url}/proxy/{port}/", encoded=True)
    async with served.client.get(url) as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "BAD_REQUEST"


async def test_nobody_listens_is_told_in_the_envelope(served: Served) -> None:
    async with served.client.get(f"{served.url}/proxy/1/x/?y=z") as answer:
        told = await answer.json()

    assert answer.status == 502
    assert told["message"] == "no service is listening on port 1"
    assert told["source"] == "DAYTONA_DAEMON"
    assert "z" not in told["path"]


async def test_a_stranger_reaches_no_application(served: Served, speak: Speak) -> None:
    connections = []

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        connections.append(await reader.read())

    port = await speak(talk)
    head = f"GET /proxy/{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n"

    assert (await served.raw_head(head.encode())).startswith(b"HTTP/1.1 401 ")
    assert connections == []


SMUGGLED = {
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "one length twice": ["Content-Length: 5", "Content-Length: 5"],
    "a list of lengths": ["Content-Length: 5, 5"],
    "a length with a sign": ["Content-Length: +5"],
    "a hexadecimal length": ["Content-Length: 0x5"],
    "length and coding": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "coding and length": ["Transfer-Encoding: chunked", "Content-Length: 5"],
    "two codings": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    "another coding": ["Transfer-Encoding: gzip, chunked"],
    "chunked not last": ["Transfer-Encoding: chunked, identity"],
    "a folded line": ["X-A: 1", " Content-Length: 5"],
    "a space before the colon": ["Content-Length : 5"],
    "a lone line feed": ["X-A: 1\nContent-Length: 5"],
    "a lone carriage return": ["X-A: 1\rContent-Length: 5"],
    "a null": ["X-A: 1\0"],
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
async def test_a_request_with_two_readings_is_refused(
    served: Served, speak: Speak, lines: list[str]
) -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = await speak(talk)
    head = [
        f"POST /proxy/{port}/ HTTP/1.1",
        f"Host: 127.0.0.1:{served.port}",
        f"Authorization: Bearer {TOKEN}",
        *lines,
        "",
        "",
    ]
    answer = await served.raw_head(
        "\r\n".join(head).encode(), b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
    )

    assert answer.split(b" ")[1] == b"400", answer
    assert heard == []


async def test_a_chunked_body_that_breaks_off_is_not_ended_for_the_application(
    served: Served, speak: Speak
) -> None:
    begun = asyncio.Event()
    heard = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"abc\r\n")
        begun.set()
        heard.set_result(await reader.read())

    port = await speak(talk)
    head = served.head("POST", URL(f"/proxy/{port}/"), Transfer_Encoding="chunked")
    async with served.connection() as (reader, writer):
        writer.write(head + b"3\r\nabc\r\n")
        await begun.wait()
        writer.write(b"zz\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert await heard == b""
