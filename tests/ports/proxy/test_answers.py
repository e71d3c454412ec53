"""What a client sees of an application's answer."""

import asyncio
import gzip
import io
from collections.abc import Callable

import pytest
from aiohttp import ClientPayloadError, web
from yarl import URL

from tests.ports.proxy.conftest import Serve, Speak, Talk, reset
from tests.support.serving import Served, settled

ENOUGH_BYTES = 32 * 1024 * 1024
"""More than all buffers between an application and a client hold."""


def saying(answer: bytes, *, close: bool = False) -> Talk:
    """Return a server that gives every request the same bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            if close:
                await writer.drain()
                writer.close()
                return

    return talk


async def ask(served: Served, port: int, method: str = "GET", **headers: str) -> bytes:
    """Return all bytes of an answer, after which the connection is closed."""
    url = URL(f"/proxy/{port}/")
    return await served.raw(served.head(method, url, Connection="close", **headers))


async def test_status_reason_and_headers_are_passed_on(
    served: Served, speak: Speak
) -> None:
    port = await speak(
        saying(
            b"HTTP/1.1 299 Quite Fine\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
            b"Location: http://localhost/else\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: timeout=9\r\nContent-Length: 2\r\n\r\nhi"
        )
    )

    head, _, body = (await ask(served, port)).partition(b"\r\n\r\n")

    assert head.split(b"\r\n") == [
        b"HTTP/1.1 299 Quite Fine",
        b"Set-Cookie: a=1",
        b"set-cookie: b=2",
        b"Location: http://localhost/else",
        b"Content-Length: 2",
        b"Connection: close",
    ]
    assert body == b"hi"


async def test_a_compressed_answer_is_left_compressed(
    served: Served, speak: Speak
) -> None:
    packed = gzip.compress(b"text")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    port = await speak(saying(head % len(packed) + packed))

    assert (await ask(served, port)).endswith(b"\r\n\r\n" + packed)


@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified"])
async def test_an_answer_without_a_body_keeps_its_length(
    served: Served, speak: Speak, status: bytes
) -> None:
    port = await speak(saying(b"HTTP/1.1 %b\r\nContent-Length: 1234\r\n\r\n" % status))

    answer = await ask(served, port, "HEAD" if b"200" in status else "GET")

    assert b"\r\nContent-Length: 1234\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_range_is_answered_by_the_application(
    served: Served, serve: Serve
) -> None:
    async def part(request: web.Request) -> web.Response:
        piece = request.http_range
        return web.Response(
            status=206, body=b"0123456789"[piece], headers={"Content-Range": "x"}
        )

    app = web.Application()
    app.router.add_get("/", part)
    port = await serve(app)
    url = f"{served.url}/proxy/{port}/"

    async with served.client.get(url, headers={"Range": "bytes=2-4"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"234")


async def test_a_redirect_is_neither_followed_nor_rewritten(
    served: Served, serve: Serve
) -> None:
    async def move(_: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere?x=1")

    app = web.Application()
    app.router.add_get("/", move)
    port = await serve(app)
    url = f"{served.url}/proxy/{port}/"

    async with served.client.get(url, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere?x=1")


async def test_each_piece_of_a_stream_arrives_at_once(
    served: Served, serve: Serve
) -> None:
    taken = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(3):
            await response.write(b"data: %d\n\n" % number)
            # The next one is sent only when this one has arrived.
            await taken.wait()
            taken.clear()
        return response

    app = web.Application()
    app.router.add_get("/", events)
    port = await serve(app)

    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        for number in range(3):
            assert await answer.content.readuntil(b"\n\n") == b"data: %d\n\n" % number
            taken.set()
        assert await answer.content.read() == b""


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    ],
)
async def test_a_body_that_ends_with_its_connection_gets_an_end_of_its_own(
    served: Served, speak: Speak, answer: bytes
) -> None:
    port = await speak(saying(answer, close=True))

    for _ in range(2):
        async with served.client.get(f"{served.url}/proxy/{port}/") as response:
            assert await response.read() == b"until the end"
            assert response.headers["Transfer-Encoding"] == "chunked"


async def test_a_client_of_http_1_0_gets_no_chunks(
    served: Served, speak: Speak
) -> None:
    port = await speak(
        saying(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        )
    )
    head = served.head("GET", URL(f"/proxy/{port}/")).replace(b"HTTP/1.1", b"HTTP/1.0")

    answer = await served.raw(head)

    assert b"chunked" not in answer
    assert answer.endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 100\r\n\r\nsome",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n64\r\nsome",
    ],
)
@pytest.mark.parametrize("by_reset", [False, True])
async def test_an_application_that_dies_in_its_answer_cuts_the_clients_connection(
    served: Served, speak: Speak, head: bytes, *, by_reset: bool
) -> None:
    goes = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await goes.wait()
        reset(writer) if by_reset else writer.close()

    port = await speak(talk)
    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        assert await answer.content.readexactly(4) == b"some"
        goes.set()
        with pytest.raises(ClientPayloadError):
            await answer.content.read()


async def test_an_application_reset_in_a_body_without_a_length_is_no_clean_end(
    served: Served, speak: Speak
) -> None:
    goes = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nsome")
        await goes.wait()
        reset(writer)

    port = await speak(talk)
    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        assert await answer.content.readexactly(4) == b"some"
        goes.set()
        with pytest.raises(ClientPayloadError):
            await answer.content.read()


async def test_a_client_that_knows_no_chunks_is_told_of_a_broken_answer_by_a_reset(
    served: Served, speak: Speak
) -> None:
    goes = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
        )
        await goes.wait()
        writer.close()

    port = await speak(talk)
    head = served.head("GET", URL(f"/proxy/{port}/")).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with served.connection() as (reader, writer):
        writer.write(head)
        await reader.readuntil(b"\r\n\r\nsome")
        goes.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()


@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 20"])
async def test_an_application_that_says_nothing_is_a_bad_gateway(
    served: Served, speak: Speak, last: bytes
) -> None:
    port = await speak(saying(last, close=True))

    async with served.client.post(f"{served.url}/proxy/{port}/") as answer:
        assert answer.status == 502
        assert (await answer.json())["source"] == "DAYTONA_DAEMON"


HOSTILE = {
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "one length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a length with a sign": b"Content-Length: +2\r\n\r\nhi",
    "a negative length": b"Content-Length: -2\r\n\r\nhi",
    "length and coding": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "another coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a lone line feed": b"X-A: 1\nContent-Length: 2\r\n\r\nhi",
    "only line feeds": b"Content-Length: 2\n\nhi",
    "a lone carriage return": b"X-A: 1\rContent-Length: 2\r\n\r\nhi",
    "a folded line": b"X-A: 1\r\n Content-Length: 2\r\n\r\nhi",
    "a null": b"X-A: \0\r\nContent-Length: 2\r\n\r\nhi",
    "a space before the colon": b"Content-Length : 2\r\n\r\nhi",
    "an upgrade nobody asked for": b"",
}


@pytest.mark.parametrize("rest", HOSTILE.values(), ids=HOSTILE)
async def test_an_answer_with_two_readings_is_refused(
    served: Served, speak: Speak, rest: bytes
) -> None:
    status = b"200 OK" if rest else b"101 Switching Protocols"
    rest = rest or b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\nhi"
    port = await speak(saying(b"HTTP/1.1 %b\r\n%b" % (status, rest)))

    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        assert answer.status == 502
        told = await answer.json()

    assert told["message"] == "the service's answer is malformed"


@pytest.mark.parametrize(
    "extra",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled", b"garbage", b"HTTP/1."],
)
async def test_what_follows_an_answer_is_nobodys_answer(
    served: Served, speak: Speak, extra: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"
    port = await speak(saying(answer + extra))

    for _ in range(4):
        async with served.client.get(f"{served.url}/proxy/{port}/") as response:
            assert (response.status, await response.read()) == (200, b"mine")


async def test_a_head_without_end_is_refused(served: Served, speak: Speak) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Line: %b\r\n" % (b"x" * 1000))
            await writer.drain()

    port = await speak(talk)
    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        assert answer.status == 502


async def test_informational_answers_come_before_the_answer(
    served: Served, speak: Speak
) -> None:
    port = await speak(
        saying(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        )
    )

    answer = await ask(served, port)

    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP")
    assert answer.endswith(b"\r\n\r\nhi")


async def test_the_application_says_whether_it_wants_the_body(
    served: Served, speak: Speak
) -> None:
    heard = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        heard.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = await speak(talk)
    head = served.head(
        "POST", URL(f"/proxy/{port}/"), Expect="100-continue", Content_Length=4
    )
    async with served.connection() as (reader, writer):
        writer.write(head)
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"body")
        second = await reader.readuntil(b"\r\n\r\n")

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard[1] == b"body"


async def test_a_refusal_of_the_body_comes_before_it(
    served: Served, speak: Speak
) -> None:
    port = await speak(saying(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"))
    head = served.head(
        "POST", URL(f"/proxy/{port}/"), Expect="100-continue", Content_Length=4
    )

    answer = await served.raw_head(head)

    assert answer.startswith(b"HTTP/1.1 413 No\r\n")
    assert b"\r\nConnection: close\r\n" in answer


async def test_an_early_answer_to_an_upload_is_received(
    served: Served, speak: Speak
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")

    port = await speak(talk)
    body = io.BytesIO(bytes(ENOUGH_BYTES))
    async with served.client.post(f"{served.url}/proxy/{port}/", data=body) as answer:
        assert (answer.status, await answer.read()) == (403, b"no")


async def test_a_slow_client_holds_the_application_back(
    served: Served, speak: Speak
) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ENOUGH_BYTES)
        while sent < ENOUGH_BYTES:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    port = await speak(talk)
    async with served.connection() as (reader, writer):
        writer.write(served.head("GET", URL(f"/proxy/{port}/")))
        await reader.readuntil(b"\r\n\r\n")
        await stays(lambda: sent)
        assert sent < ENOUGH_BYTES

        left = ENOUGH_BYTES
        while left:
            left -= len(await reader.read(left))

    assert sent == ENOUGH_BYTES


async def test_a_slow_application_holds_the_client_back(
    served: Served, speak: Speak
) -> None:
    goes = asyncio.Event()
    received = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        await goes.wait()
        while received < ENOUGH_BYTES:
            received += len(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    port = await speak(talk)
    sent = 0
    async with served.connection() as (reader, writer):
        head = served.head("POST", URL(f"/proxy/{port}/"), Content_Length=ENOUGH_BYTES)
        writer.write(head)

        async def send() -> None:
            nonlocal sent
            while sent < ENOUGH_BYTES:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

        sending = asyncio.create_task(send())
        await stays(lambda: sent)
        assert sent < ENOUGH_BYTES
        goes.set()
        await sending
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

    assert received == ENOUGH_BYTES


async def stays(count: Callable[[], int]) -> None:
    """Return once a count that grew has not grown for a while."""
    last = -1
    while last != count() or not last:
        last = count()
        await asyncio.sleep(0.1)


async def test_a_client_that_leaves_ends_the_applications_connection(
    served: Served, speak: Speak
) -> None:
    left = asyncio.Event()
    begun = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        try:
            await reader.read()
        finally:
            left.set()

    port = await speak(talk)
    async with served.connection() as (_, writer):
        writer.write(served.head("GET", URL(f"/proxy/{port}/")))
        await begun.wait()

    await left.wait()
    await settled(lambda: served.dispatcher.in_flight == 0)


async def test_a_stream_of_events_does_not_keep_the_agent_from_ending(
    served: Served, speak: Speak
) -> None:
    port = await speak(
        saying(
            b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n"
        )
    )
    async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
        assert await answer.content.readexactly(8) == b"data: 1\n"
        await served.dispatcher.drain()
        with pytest.raises(ClientPayloadError):
            await answer.content.read()


async def test_what_is_being_answered_is_answered_while_the_agent_ends(
    served: Served, serve: Serve
) -> None:
    asked, goes = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await goes.wait()
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    port = await serve(app)

    async def ask_slowly() -> str:
        async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
            return await answer.text()

    asking = asyncio.create_task(ask_slowly())
    await asked.wait()
    draining = asyncio.create_task(served.dispatcher.drain())
    await asyncio.sleep(0)
    goes.set()

    assert await asking == "done"
    await draining


async def test_many_streams_at_once_all_go_on(served: Served, serve: Serve) -> None:
    count = 100
    waiting = 0
    everybody = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal waiting
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        waiting += 1
        if waiting == count:
            everybody.set()
        await everybody.wait()
        await response.write(b" and ended")
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    port = await serve(app)

    async def one() -> bytes:
        async with served.client.get(f"{served.url}/proxy/{port}/") as answer:
            return await answer.read()

    answers = await asyncio.gather(*(one() for _ in range(count)))

    assert set(answers) == {b"begun and ended"}
