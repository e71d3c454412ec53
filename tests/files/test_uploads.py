"""The routes that take one file: as a form, or as it is."""

import asyncio
import io
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from aiohttp import FormData

from agent.files import routes
from agent.web.server import DISPATCHER

from .conftest import Agent, failure, read_or_reset, serve, settled, strays

pytestmark = pytest.mark.usefixtures("any_receiver")

ROUTES = ["/files/upload", "/files/upload-v2"]
FORM_TYPE = "multipart/form-data; boundary=XX"
LARGE = 3 * 1024 * 1024 + 17


def form(content: bytes, name: str = "file") -> bytes:
    head = (
        f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="ignored"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"


END = b"--XX--\r\n"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [0, 5, LARGE])
async def test_a_raw_body_is_stored(agent: Agent, route: str, size: int) -> None:
    data = os.urandom(size)

    async with agent.client.post(
        agent.at(route, "new/sub/f"), data=io.BytesIO(data)
    ) as response:
        assert response.status == 200
        body = await response.read()

    assert (agent.work_dir / "new/sub/f").read_bytes() == data
    assert stat.S_IMODE((agent.work_dir / "new").stat().st_mode) == 0o755
    assert stat.S_IMODE((agent.work_dir / "new/sub/f").stat().st_mode) == 0o644
    if route == "/files/upload":
        assert body == b""
    else:
        assert body == b'{"name":"f","path":"new/sub/f","type":"file"}'


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("size", [0, 5, LARGE])
async def test_the_file_of_a_form_is_stored(
    agent: Agent, route: str, size: int
) -> None:
    data = os.urandom(size)
    sent = FormData()
    sent.add_field("other", "ignored")
    sent.add_field("file", io.BytesIO(data), filename="elsewhere.txt")
    sent.add_field("file", b"a second one", filename="ignored")

    async with agent.client.post(agent.at(route, "f"), data=sent) as response:
        assert response.status == 200

    assert (agent.work_dir / "f").read_bytes() == data
    assert [each.name for each in agent.work_dir.iterdir()] == ["f"]


async def test_a_chunked_body_is_stored(agent: Agent) -> None:
    head = agent.head(
        "POST", agent.at("/files/upload-v2", "f"), Transfer_Encoding="chunked"
    )

    async with agent.connection() as (reader, writer):
        writer.write(head + b"3\r\nabc\r\n1\r\n-\r\n0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

    assert (agent.work_dir / "f").read_bytes() == b"abc-"


async def test_a_body_without_length_is_an_empty_file(agent: Agent) -> None:
    async with agent.client.post(agent.at("/files/upload-v2", "f")) as response:
        assert response.status == 200

    assert (agent.work_dir / "f").read_bytes() == b""


async def test_a_body_with_a_json_type_is_stored_as_it_is(agent: Agent) -> None:
    async with agent.client.post(
        agent.at("/files/upload-v2", "f"),
        data=b'{"a": 1}',
        headers={"Content-Type": "application/json"},
    ) as response:
        assert response.status == 200

    assert (agent.work_dir / "f").read_bytes() == b'{"a": 1}'


async def test_names_of_any_bytes_are_stored(agent: Agent) -> None:
    for name in (b"\xff\xfe", "é 漢".encode(), b"a+b&c=d%20", b" outer "):
        async with agent.client.post(
            agent.at("/files/upload-v2", name), data=io.BytesIO(name)
        ) as response:
            assert response.status == 200
        assert (agent.work_dir / os.fsdecode(name)).read_bytes() == name


async def test_an_uploaded_file_is_there_at_once(agent: Agent) -> None:
    for number in range(100):
        content = f"{number}".encode()
        async with agent.client.post(
            agent.at("/files/upload-v2", "f"), data=io.BytesIO(content)
        ) as response:
            assert response.status == 200
        assert (agent.work_dir / "f").read_bytes() == content


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        (FORM_TYPE, form(b"x", "other") + END, "multipart field file is missing"),
        (FORM_TYPE, END, "multipart field file is missing"),
        (FORM_TYPE, b"", "malformed multipart form: it ends too early"),
        (FORM_TYPE, b"junk", "malformed multipart form: "),
        (FORM_TYPE, form(b"x"), "malformed multipart form: it ends too early"),
        (FORM_TYPE, form(b"x") + b"--XX\r\nbad", "malformed multipart form: it ends too early"),
        (FORM_TYPE, form(b"x") + b"--XX\r\nb@d: x\r\n\r\n", "malformed multipart form: "),
        (FORM_TYPE, form(b"x" * LARGE)[:-9], "malformed multipart form: it ends too early"),
        ("multipart/form-data", form(b"x") + END, "malformed multipart form: it has no boundary"),
        ("multipart/form-data; boundary=" + "x" * 300, b"", "malformed multipart form: "),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_replaces_nothing(
    agent: Agent, content_type: str, body: bytes, message: str
) -> None:
    (agent.work_dir / "f").write_bytes(b"old")

    for route in ROUTES:
        async with agent.client.post(
            agent.at(route, "f"),
            data=io.BytesIO(body),
            headers={"Content-Type": content_type},
        ) as response:
            status, code, told = await failure(response)
        assert (status, code) == (400, "BAD_REQUEST")
        assert told.startswith(message)

    assert (agent.work_dir / "f").read_bytes() == b"old"
    assert strays(agent.work_dir) == []


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("d", 400, "INVALID_FILE_PATH", "invalid file path: is a directory: d"),
        ("d/", 400, "INVALID_FILE_PATH", "invalid file path: is a directory: d/"),
        ("file/f", 400, "INVALID_FILE_PATH", "invalid file path: not a directory: file/f"),
        ("fifo", 400, "INVALID_FILE_PATH", "invalid file path: not a regular file: fifo"),
        ("a\0b", 400, "INVALID_FILE_PATH", "invalid file path: it contains a NUL byte"),
        ("/dev/full", 507, "INSUFFICIENT_STORAGE", "no space left on device: /dev/full"),
    ],
)  # fmt: skip
async def test_what_cannot_be_stored_is_told(
    agent: Agent, size: int, path: str, status: int, code: str, message: str
) -> None:
    (agent.work_dir / "d").mkdir()
    (agent.work_dir / "file").touch()
    os.mkfifo(agent.work_dir / "fifo")
    data = b"x" * size

    for body, content_type in ((data, "text/plain"), (form(data) + END, FORM_TYPE)):
        answer = await agent.raw(
            agent.head(
                "POST",
                agent.at("/files/upload-v2", path),
                Content_Length=len(body),
                Content_Type=content_type,
                Connection="close",
            ),
            body,
        )
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert f'"code":"{code}"'.encode() in answer
        assert f'"message":"{message}"'.encode() in answer


async def test_an_early_refusal_of_a_large_upload_arrives(agent: Agent) -> None:
    (agent.work_dir / "d").mkdir()
    size = 50 * 1024 * 1024
    head = agent.head("POST", agent.at("/files/upload-v2", "d"), Content_Length=size)

    async with agent.connection() as (reader, writer):
        writer.write(head)
        # All of it before looking for an answer, as simple clients do.
        for _ in range(50):
            writer.write(b"x" * 1024 * 1024)
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_may_ask_before_it_sends(agent: Agent) -> None:
    head = agent.head(
        "POST",
        agent.at("/files/upload-v2", "f"),
        Content_Length=3,
        Expect="100-continue",
    )

    async with agent.connection() as (reader, writer):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

    assert (agent.work_dir / "f").read_bytes() == b"abc"


async def test_a_compressed_body_is_refused(agent: Agent) -> None:
    head = agent.head(
        "POST", agent.at("/files/upload-v2", "f"), Content_Length=0, Content_Encoding="gzip", Connection="close"
    )  # fmt: skip

    assert (await agent.raw(head)).startswith(b"HTTP/1.1 415 ")
    assert not (agent.work_dir / "f").exists()


def bodies(content: bytes) -> dict[str, tuple[dict[str, object], bytes]]:
    """Return one upload in every form in which it may come."""
    whole = form(content) + END
    half = len(content) // 2
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:half], content[half:])
    )
    return {
        "raw": ({"Content_Length": len(content)}, content),
        "chunked": ({"Transfer_Encoding": "chunked"}, chunks + b"0\r\n\r\n"),
        "form": ({"Content_Length": len(whole), "Content_Type": FORM_TYPE}, whole),
        "chunked form": (
            {"Transfer_Encoding": "chunked", "Content_Type": FORM_TYPE},
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole),
        ),
    }


@pytest.mark.parametrize("size", [50, LARGE])
@pytest.mark.parametrize("kind", ["raw", "chunked", "form", "chunked form"])
@pytest.mark.parametrize("reset", [True, False])
async def test_an_upload_cut_at_any_byte_replaces_nothing(
    agent: Agent, size: int, kind: str, reset: bool
) -> None:
    (agent.work_dir / "f").write_bytes(b"old")
    headers, body = bodies(b"n" * size)[kind]
    head = agent.head("POST", agent.at("/files/upload-v2", "f"), **headers)
    step = 1 if size == 50 else len(body) // 12

    for cut in [*range(0, len(body), step), len(body) - 1]:
        async with agent.connection() as (reader, writer):
            writer.write(head + body[:cut])
            await writer.drain()
            if reset:
                writer.transport.abort()
            else:
                writer.write_eof()
                answer = await read_or_reset(reader)
                assert not answer.startswith(b"HTTP/1.1 200")
    await settled(lambda: agent.app[DISPATCHER].in_flight == 0)

    assert (agent.work_dir / "f").read_bytes() == b"old"
    assert [each.name for each in agent.work_dir.iterdir()] == ["f"]


async def test_a_client_that_sends_nothing_more_is_given_up(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "BODY_STALL_LIMIT_S", 0.1)
    head = agent.head("POST", agent.at("/files/upload-v2", "f"), Content_Length=100)

    async with agent.connection() as (reader, writer):
        writer.write(head + b"abc")
        answer = await reader.readuntil(b"}")

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in answer
    assert not (agent.work_dir / "f").exists()


async def test_a_long_upload_outlives_the_limit_on_headers(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "work").mkdir()
    options = {"header_timeout_s": 0.2}
    async with serve(tmp_path / "work", tmp_path / "state", **options) as agent:
        head = agent.head(
            "POST", agent.at("/files/upload-v2", "f"), Content_Length=101_000_000
        )

        def upload() -> bytes:
            # From a thread, so that more is always there when the request is taken up.
            with socket.create_connection(("127.0.0.1", agent.port)) as sock:
                sock.sendall(head)
                for _ in range(100):
                    sock.sendall(b"x" * 1_000_000)
                threading.Event().wait(0.3)
                sock.sendall(b"x" * 1_000_000)
                return sock.recv(12)

        answers = [await asyncio.to_thread(upload) for _ in range(3)]

    assert answers == [b"HTTP/1.1 200"] * 3


async def test_writers_of_one_path_never_mix(agent: Agent) -> None:
    contents = [bytes([number]) * LARGE for number in range(10)]

    async def upload(content: bytes) -> None:
        async with agent.client.post(
            agent.at("/files/upload-v2", "f"), data=io.BytesIO(content)
        ) as response:
            assert response.status == 200

    await asyncio.gather(*map(upload, contents))

    assert (agent.work_dir / "f").read_bytes() in contents


async def test_writers_of_one_hard_linked_file_never_mix(agent: Agent) -> None:
    (agent.work_dir / "f").touch()
    (agent.work_dir / "g").hardlink_to(agent.work_dir / "f")
    contents = [bytes([number]) * (LARGE - number) for number in range(6)]

    async def upload(content: bytes) -> None:
        async with agent.client.post(
            agent.at("/files/upload-v2", "f"), data=io.BytesIO(content)
        ) as response:
            assert response.status == 200

    await asyncio.gather(*map(upload, contents))

    assert (agent.work_dir / "g").read_bytes() in contents


async def test_fifty_uploads_into_one_new_directory_all_succeed(agent: Agent) -> None:
    async def upload(number: int) -> int:
        url = agent.at("/files/upload-v2", f"a/b/c/d/{number}")
        async with agent.client.post(url, data=b"x") as response:
            return response.status

    assert set(await asyncio.gather(*map(upload, range(50)))) == {200}
    assert len(list((agent.work_dir / "a/b/c/d").iterdir())) == 50


async def test_an_upload_that_outlives_the_server_leaves_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "work").mkdir()
    async with serve(tmp_path / "work", tmp_path / "state", linger_s=0) as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        url = agent.at("/files/upload-v2", "f")
        writer.write(agent.head("POST", url, Content_Length=2 * LARGE) + b"x" * LARGE)
        await settled(lambda: strays(tmp_path / "work"))
        # The server waits for its requests a moment; this one ends with its client.
        writer.transport.abort()
    assert await reader.read() == b""
    assert list((tmp_path / "work").iterdir()) == []
