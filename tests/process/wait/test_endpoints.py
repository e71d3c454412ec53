"""Waiting for a port and for an HTTP status, against real listeners."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent.errors import InvalidRequestError
from agent.process.wait import endpoints
from tests.process.wait.conftest import Desk

Answer = Callable[[], bytes | None]


def port(number: int, **fields: Any) -> dict[str, Any]:
    """Return the condition that a port is open."""
    return {"port": {"port": number, **fields}}


def http(url: str, status: int = 200) -> dict[str, Any]:
    """Return the condition that a GET has a status."""
    return {"http": {"url": url, "status": status}}


@contextlib.contextmanager
def _bound(host: str = "127.0.0.1") -> Any:
    """Give a socket whose port nobody else can take, and which does not listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        yield sock, sock.getsockname()[1]


class Server:
    """Answers every request with what a function says.

    Attributes:
        heads: The requests that came.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.heads: list[bytes] = []
        self.port = 0
        self.came = asyncio.Event()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            self.came.set()
            answer = self._answer()
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
        writer.close()


@contextlib.asynccontextmanager
async def answering(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Serve on loopback while inside."""
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, host, 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


async def test_an_open_port_holds_at_once(desk: Desk) -> None:
    told = await desk.wait(port(desk.served.port))

    assert told["conditions"][0]["port"] == {"host": "127.0.0.1"}


async def test_a_port_is_open_once_somebody_listens(desk: Desk) -> None:
    with _bound() as (sock, number):
        async with desk.waiting(port(number), until=lambda d: d.waits) as wait:
            # Refused until now: it is tried at least once before it listens.
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", number)
            sock.listen()
            told = await wait

    assert told["satisfied"]


async def test_a_port_is_found_on_the_other_loopback(desk: Desk) -> None:
    with _bound("::1") as (sock, number):
        sock.listen()

        told = await desk.wait(port(number))
        only = await desk.wait(port(number, host="127.0.0.1"), limit_s=0.05)

    assert told["conditions"][0]["port"] == {"host": "::1"}
    assert only["timedOut"]


async def test_a_port_without_a_listener_is_pending(desk: Desk) -> None:
    with _bound() as (_, number):
        assert (await desk.wait(port(number), limit_s=0.1))["timedOut"]


async def test_a_connection_to_itself_is_none() -> None:
    with _bound() as (sock, number):
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", number))
        _, writer = await asyncio.open_connection(sock=sock.dup())

        assert endpoints._is_itself(writer)

        writer.close()
        await writer.wait_closed()


async def test_a_status_holds_once_the_server_is_ready(desk: Desk) -> None:
    answers = iter([b"HTTP/1.1 503 Busy\r\n\r\n", b"", b"nonsense\r\n"])

    def answer() -> bytes:
        return next(answers, b"HTTP/1.1 200 OK\r\n\r\nhello")

    async with answering(answer) as server:
        told = await desk.wait(http(f"http://127.0.0.1:{server.port}/health?deep=1"))

    assert told["conditions"][0]["http"] == {"status": 200}
    assert len(server.heads) == 4
    head = server.heads[0].split(b"\r\n")
    assert head[0] == b"GET /health?deep=1 HTTP/1.1"
    assert b"Host: 127.0.0.1:%d" % server.port in head


async def test_another_status_can_be_waited_for(desk: Desk) -> None:
    async with answering(lambda: b"HTTP/1.0 404 Not Found\r\n\r\n") as server:
        url = f"http://localhost:{server.port}"
        told = await desk.wait(http(url, 404))
        other = await desk.wait(http(url, 200), limit_s=0.1)

    assert told["satisfied"]
    assert other["timedOut"]


async def test_an_informational_answer_is_not_the_answer(desk: Desk) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    async with answering(lambda: early + b"HTTP/1.1 200 OK\r\n\r\n") as server:
        told = await desk.wait(http(f"http://127.0.0.1:{server.port}/"))

    assert told["satisfied"]


async def test_a_server_that_never_answers_is_left_at_the_limit(desk: Desk) -> None:
    async with answering(lambda: None) as server:
        url = f"http://127.0.0.1:{server.port}/"
        told = await desk.wait(http(url), limit_s=0.2)

        assert server.came.is_set()

    assert told["timedOut"]
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "http://10.0.0.1/",
        "http://example.org/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http:///nowhere",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/\t",
        "http://[::1/",
        "127.0.0.1",
        "",
        "http://127.0.0.1/" + "a" * 8192,
    ],
)
def test_a_url_that_is_not_waited_for_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"url|loopback"):
        endpoints.target_of(url)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", None])
def test_both_loopbacks_are_meant(host: str | None) -> None:
    assert endpoints.hosts_of(host) == ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org", ""])
async def test_a_host_elsewhere_is_refused(desk: Desk, host: str) -> None:
    status, told = await desk.ask({"conditions": [port(80, host=host)], "timeout": 5})

    assert status == 400
    assert "loopback" in told["message"]
