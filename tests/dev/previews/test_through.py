"""Previews of real servers through a real agent: what arrives, what never does."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.dev.previews.apps import KEY, App, Previewed, previewed, serving_app
from tests.support.agent import Answer, StartAgent, read_answer
from tests.support.processes import alive

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
WEBSOCKET_ID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@pytest.fixture
def dev(start_agent: StartAgent) -> Previewed:
    return previewed(start_agent)


@contextmanager
def visiting(
    dev: Previewed, url: str, *lines: str | bytes, method: str = "GET"
) -> Iterator[socket.socket]:
    """Ask for an address as a browser does, on a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    target = url.partition(parts.netloc)[2] or "/"
    head = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *lines]
    raw = [each.encode() if isinstance(each, str) else each for each in head]
    with socket.create_connection(("127.0.0.1", dev.port), timeout=20) as connection:
        connection.sendall(b"\r\n".join([*raw, b"", b""]))
        yield connection


def visit(dev: Previewed, url: str, *lines: str | bytes) -> Answer:
    """Return what an address answers."""
    with visiting(dev, url, *lines) as connection:
        return read_answer(connection)


def sign(dev: Previewed, port: int) -> tuple[str, str]:
    """Return a signed token of a port, and the address that opens it."""
    path = f"/sandbox/{dev.name}/ports/{port}/signed-preview-url?expiresInSeconds=600"
    token = dev.ask("GET", path)["token"]
    return token, dev.url(port, token)


@contextmanager
def echoing(*, limit_s: float = 20.0) -> Iterator[tuple[int, list[bytes]]]:
    """Serve websocket upgrades that choose `chat` and send back raw bytes; tell heads."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(limit_s)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(limit_s)
                    head = b""
                    while b"\r\n\r\n" not in head and (data := connection.recv(4096)):
                        head += data
                    heads.append(head)
                    found = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
                    key = found[1] if found else b""
                    digest = hashlib.sha1(key + WEBSOCKET_ID).digest()
                    connection.sendall(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n"
                        b"Sec-WebSocket-Accept: "
                        + base64.b64encode(digest)
                        + b"\r\n\r\n"
                    )
                    while data := connection.recv(4096):
                        connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], heads
        finally:
            # Shut down, because a close alone does not wake who accepts.
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol: chat, other",
)


def test_no_credential_in_any_place_reaches_an_app(dev: Previewed) -> None:
    with serving_app() as app:
        token, key = dev.token(app.port), dev.agent.token
        answer = visit(
            dev, dev.keyed(app.port), *(f"{k}: {v}" for k, v in PAGE.items())
        )
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"].partition(";")[0]

        for url, *lines in (
            (dev.url(app.port), f"Authorization: Bearer {key}"),
            (dev.url(app.port), f"Authorization: bearer {token}"),
            (dev.url(app.port), f"X-Daytona-Preview-Token: {token}"),
            (dev.url(app.port), f"Cookie: a=1; {cookie}; b=2"),
            (dev.url(app.port), f"Cookie: {cookie}"),
            (f"{dev.url(app.port)}/?{KEY}={token}&a=1",),
            (f"{dev.url(app.port)}/?a=1&{KEY}={token}", f"Cookie: {cookie}"),
            (sign(dev, app.port)[1], f"X-Daytona-Preview-Token: {key}"),
            (
                dev.url(app.port),
                f"X-Daytona-Preview-Token: {token}",
                "X-Daytona-Authorization: Bearer x",
            ),
        ):
            assert visit(dev, url, *lines).status == 200, lines

    assert len(app.asked) == 9
    for text in app.asked:
        heard = re.sub(r"(?i)x-forwarded-host: .*", "", text)
        assert "daytona" not in heard.lower()
        for secret in (token, key, cookie.partition("=")[2]):
            assert secret not in heard
    assert "Cookie: a=1; b=2" in app.asked[3]
    assert app.asked[5].startswith("/?a=1\n")


def test_headers_arrive_byte_by_byte_and_in_their_order(dev: Previewed) -> None:
    with serving_app() as app:
        token = dev.token(app.port)
        answer = visit(
            dev,
            dev.url(app.port) + "/asked",
            b"X-Bytes: \xff\xfe\xe9",
            "X-Twice: 1",
            f"X-Daytona-Preview-Token: {token}",
            "x-twice: 2",
            "X-Forwarded-Host: lied.example",
        )

    text = answer.body.decode("utf-8", "surrogateescape")
    assert "X-Twice: 1\nx-twice: 2\n" in text.replace("\r", "")
    assert f"X-Forwarded-Host: {dev.url(app.port).removeprefix('http://')}" in text
    assert "lied.example" not in text
    # The app shows in its own way that it saw the three bytes.
    assert "X-Bytes: =?utf-8?b?w7/DvsOp?=" in text


def test_websocket_goes_through_with_its_subprotocol(dev: Previewed) -> None:
    with echoing() as (port, heads):
        for url, *lines in (
            (sign(dev, port)[1],),
            (dev.url(port), f"X-Daytona-Preview-Token: {dev.token(port)}"),
            (f"{dev.url(port)}/live?{KEY}={dev.token(port)}&a",),
        ):
            with visiting(dev, url, *UPGRADE, *lines) as connection:
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 101 ")
                assert b"Sec-WebSocket-Protocol: chat\r\n" in answer
                connection.sendall(b"\x81\x85\0\0\0\0hello")
                echoed = b""
                while len(echoed) < 11:
                    echoed += connection.recv(4096)
                assert echoed == b"\x81\x85\0\0\0\0hello"

    assert heads[2].startswith(b"GET /live?a HTTP/1.1\r\n")
    assert all(dev.token(port).encode() not in head for head in heads)


def test_page_of_another_origin_opens_no_websocket_by_the_cookie(
    dev: Previewed,
) -> None:
    with echoing() as (port, heads):
        lines = [f"{name}: {value}" for name, value in PAGE.items()]
        made = visit(dev, dev.keyed(port), *lines).headers["Set-Cookie"]
        cookie = f"Cookie: {made.partition(';')[0]}"

        for origin in (dev.agent.url, dev.url(port + 1), "null", dev.listener):
            answer = visit(dev, dev.url(port), *UPGRADE, cookie, f"Origin: {origin}")
            assert answer.status == 403
        assert heads == []
        own = f"Origin: {dev.url(port)}"
        with visiting(dev, dev.url(port), *UPGRADE, cookie, own) as connection:
            assert connection.recv(12) == b"HTTP/1.1 101"


def test_links_hold_when_the_api_process_is_killed_and_revoked_ones_stay_so(
    dev: Previewed,
) -> None:
    with serving_app() as app:
        token, (kept, signed) = dev.token(app.port), sign(dev, app.port)
        gone, revoked = sign(dev, app.port)
        path = f"/sandbox/{dev.name}/ports/{app.port}/signed-preview-url/{gone}/expire"
        dev.ask("POST", path)
        killed = dev.agent.api_pid()

        os.kill(killed, signal.SIGKILL)

        assert visit(dev, signed).status == 200
        assert visit(dev, revoked).status == 401
        shown = f"X-Daytona-Preview-Token: {token}"
        assert visit(dev, dev.url(app.port), shown).status == 200
        assert not alive(killed)
        assert kept


@pytest.mark.parametrize("more", [[], ["Expect: 100-continue"]])
def test_large_body_arrives_whole(dev: Previewed, more: list[str]) -> None:
    body = json.dumps("x" * 3_000_000).encode()
    with serving_app() as app:
        _, url = sign(dev, app.port)
        lines = [f"Content-Length: {len(body)}", *more]
        with visiting(dev, url, *lines, method="POST") as connection:
            connection.sendall(body)

            assert read_answer(connection).status == 200
        assert len(app.told.get(timeout=20)) == 3_000_000


def test_python_http_server_is_listed_and_read(dev: Previewed) -> None:
    (dev.agent.work_dir / "a file.txt").write_text("content")
    ran = dev.agent.execute(
        "python3 -u -m http.server --bind 127.0.0.1 0 >log 2>&1 &"
        " until grep -q 'port [0-9]' log; do sleep .05; done; cat log"
    )
    found = re.search(r"port (\d+)", ran.json()["result"])
    assert found
    _, url = sign(dev, int(found[1]))

    assert "a%20file.txt" in visit(dev, f"{url}/").body.decode()
    assert visit(dev, f"{url}/a%20file.txt").body == b"content"
    assert visit(dev, f"{url}/none").status == 404


def test_port_where_nothing_listens_is_said_and_shown(dev: Previewed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _, url = sign(dev, port)

    answer = visit(dev, url)
    assert answer.status == 502
    assert answer.json()["message"] == f"no service is listening on port {port}"
    answer = visit(dev, url, *(f"{name}: {value}" for name, value in PAGE.items()))
    assert answer.status == 502
    assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "host",
    ["rebound.example", "3000-x.localhost.rebound.example", "3000-x.localhost"],
)
def test_names_that_were_made_to_lead_here_reach_no_app(
    dev: Previewed, host: str
) -> None:
    with serving_app() as app:
        url = f"http://{host}:{dev.port if 'rebound' in host else dev.agent.port}/"
        shown = f"X-Daytona-Preview-Token: {dev.token(app.port)}"

        assert visit(dev, url, shown).status == 421
        assert app.asked == []


def test_streams_are_passed_on_as_they_come(dev: Previewed) -> None:
    with serving_app(App().page) as app:
        _, url = sign(dev, app.port)
        with closing(socket.create_connection(("127.0.0.1", dev.port), 20)) as peer:
            host = url.removeprefix("http://")
            peer.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            received = b""
            # The app holds the connection open and sends nothing more.
            while b"data: 2\n\n" not in received:
                received += peer.recv(4096)
    assert b"text/event-stream" in received


def test_open_streams_and_websockets_do_not_keep_the_agent_from_stopping(
    dev: Previewed,
) -> None:
    with serving_app() as app, echoing() as (port, _):
        stream, socket_url = sign(dev, app.port)[1], sign(dev, port)[1]
        with (
            visiting(dev, f"{stream}/events") as events,
            visiting(dev, socket_url, *UPGRADE) as upgraded,
        ):
            for each in (events, upgraded):
                assert each.recv(9) == b"HTTP/1.1 "

            assert dev.agent.stop() == 0
