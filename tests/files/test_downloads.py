"""The download route, through a client and byte by byte."""

import asyncio
import os
import socket
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.files.downloads import INLINE_BYTES

from .conftest import Agent, failure

SIZES = [0, 1, 5, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 3 * 1024 * 1024 + 7]


def make(agent: Agent, size: int, name: str = "f") -> bytes:
    data = os.urandom(size)
    (agent.work_dir / name).write_bytes(data)
    return data


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.mark.parametrize("size", SIZES)
async def test_the_content_comes_whole(agent: Agent, size: int) -> None:
    data = make(agent, size)

    async with agent.client.get(agent.at("/files/download", "f")) as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(size)
        assert await response.read() == data


@pytest.mark.parametrize("size", [0, 5, INLINE_BYTES + 1])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_headers_are_those_of_the_contract(
    agent: Agent, size: int, method: str
) -> None:
    make(agent, size, "name with space.txt")
    path = agent.work_dir / "name with space.txt"
    os.utime(path, ns=(0, 1_700_000_000_900_000_000))

    async with agent.client.request(
        method, agent.at("/files/download", path)
    ) as response:
        found = response.headers
        body = await response.read()

    assert len(body) == (size if method == "GET" else 0)
    assert {
        name: found[name]
        for name in found
        if name.lower() not in {"etag", "date", "server", "x-request-id"}
    } == {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment; filename=\"name with space.txt\"; filename*=utf-8''name%20with%20space.txt",
        "Content-Length": str(size),
        "Accept-Ranges": "bytes",
        "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "Content-Description": "File Transfer",
        "Content-Transfer-Encoding": "binary",
        "Cache-Control": "must-revalidate",
        "Pragma": "public",
        "Expires": "0",
        "X-Content-Type-Options": "nosniff",
    }  # fmt: skip


@pytest.mark.parametrize("size", [5, INLINE_BYTES + 1])
async def test_names_travel_in_latin1_and_in_utf8(agent: Agent, size: int) -> None:
    make(agent, size, 'é"漢\r\nX: y')
    url = agent.at("/files/download", 'é"漢\r\nX: y')

    answer = await agent.raw(agent.head("HEAD", url, Connection="close"))

    assert (
        b'Content-Disposition: attachment; filename="\xe9\\"_X: y"; '
        b"filename*=utf-8''%C3%A9%22%E6%BC%A2%0D%0AX%3A%20y\r\n"
    ) in answer
    assert b"\r\nX:" not in answer


@pytest.mark.parametrize("size", [1000, INLINE_BYTES + 1000])
@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("0-0", 0, 1), ("10-99", 10, 100), ("990-", 990, None), ("-7", -7, None), ("5-999999999", 5, None)],
)  # fmt: skip
async def test_a_range_is_a_part(
    agent: Agent, size: int, wanted: str, start: int, end: int | None
) -> None:
    data = make(agent, size)
    headers = {"Range": f"bytes={wanted}"}

    for method in ("GET", "HEAD"):
        url = agent.at("/files/download", "f")
        async with agent.client.request(method, url, headers=headers) as response:
            body = await response.read()
            first, last, _ = slice(start, end).indices(size)
            assert response.status == 206
            assert (
                response.headers["Content-Range"] == f"bytes {first}-{last - 1}/{size}"
            )
            assert response.headers["Content-Length"] == str(last - first)
            assert body == (data[start:end] if method == "GET" else b"")


@pytest.mark.parametrize("size", [1000, INLINE_BYTES + 1000])
async def test_many_ranges_come_as_parts(agent: Agent, size: int) -> None:
    data = make(agent, size)
    headers = {"Range": "bytes=0-9,500-509,-10"}

    async with agent.client.get(
        agent.at("/files/download", "f"), headers=headers
    ) as response:
        body = await response.read()
        mark = response.headers["Content-Type"].partition("boundary=")[2]

    assert response.status == 206
    assert response.headers["Content-Type"] == f"multipart/byteranges; boundary={mark}"
    assert response.headers["Content-Length"] == str(len(body))
    expected = b"".join(
        (b"\r\n" if start else b"")
        + f"--{mark}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Range: bytes {start}-{start + 9}/{size}\r\n\r\n".encode()
        + data[start : start + 10]
        for start in (0, 500, size - 10)
    )
    assert body == expected + f"\r\n--{mark}--\r\n".encode()


@pytest.mark.parametrize("size", [1000, INLINE_BYTES + 1000])
async def test_a_range_outside_is_not_satisfiable(agent: Agent, size: int) -> None:
    make(agent, size)
    headers = {"Range": f"bytes={size}-"}

    async with agent.client.get(
        agent.at("/files/download", "f"), headers=headers
    ) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (416, "REQUESTED_RANGE_NOT_SATISFIABLE")
    assert response.headers["Content-Range"] == f"bytes */{size}"


async def test_a_range_of_an_empty_file_is_the_empty_file(agent: Agent) -> None:
    make(agent, 0)

    async with agent.client.get(
        agent.at("/files/download", "f"), headers={"Range": "bytes=0-5"}
    ) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_conditions_save_the_transfer(agent: Agent) -> None:
    data = make(agent, 1000)
    url = agent.at("/files/download", "f")
    async with agent.client.get(url) as response:
        tag, date = response.headers["ETag"], response.headers["Last-Modified"]
    assert parsedate_to_datetime(date).timestamp() == int(
        (agent.work_dir / "f").stat().st_mtime
    )

    async def ask(**headers: str) -> tuple[int, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with agent.client.get(url, headers=sent) as response:
            if response.status == 304:
                assert response.headers["ETag"] == tag
                assert "Content-Type" not in response.headers
            return response.status, await response.read()

    assert await ask(If_None_Match=tag) == (304, b"")
    assert await ask(If_Modified_Since=date) == (304, b"")
    assert await ask(If_None_Match='"other"') == (200, data)
    assert (await ask(If_Match='"other"'))[0] == 412
    assert await ask(If_Match=tag) == (200, data)
    assert await ask(Range="bytes=0-4", If_Range=tag) == (206, data[:5])
    assert await ask(Range="bytes=0-4", If_Range=date) == (206, data[:5])
    assert await ask(Range="bytes=0-4", If_Range='"other"') == (200, data)


async def test_a_change_is_another_version(agent: Agent) -> None:
    make(agent, 1000)
    url = agent.at("/files/download", "f")
    async with agent.client.get(url) as response:
        tag = response.headers["ETag"]

    async with agent.client.post(
        agent.at("/files/upload-v2", "f"), data=b"x" * 1000
    ) as response:
        assert response.status == 200
    async with agent.client.get(url, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (200, b"x" * 1000)


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("nowhere", 404, "FILE_NOT_FOUND", "file not found: nowhere"),
        ("d", 400, "INVALID_FILE_PATH", "invalid file path: is a directory: d"),
        ("fifo", 400, "INVALID_FILE_PATH", "invalid file path: not a regular file: fifo"),
        ("socket", 400, "INVALID_FILE_PATH", "invalid file path: not a regular file: socket"),
        ("/dev/zero", 400, "INVALID_FILE_PATH", "invalid file path: not a regular file: /dev/zero"),
        ("/dev/tty", 400, "INVALID_FILE_PATH", "invalid file path: not a regular file: /dev/tty"),
        ("f/", 400, "INVALID_FILE_PATH", "invalid file path: not a directory: f/"),
    ],
)  # fmt: skip
async def test_what_is_no_file_is_told(
    agent: Agent, path: str, status: int, code: str, message: str
) -> None:
    make(agent, 5)
    (agent.work_dir / "d").mkdir()
    os.mkfifo(agent.work_dir / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(agent.work_dir / "socket"))

    async with agent.client.get(agent.at("/files/download", path)) as response:
        assert await failure(response) == (status, code, message)


async def test_many_fifos_wedge_nothing(agent: Agent) -> None:
    data = make(agent, 5 * 1024 * 1024, "big")
    for number in range(64):
        os.mkfifo(agent.work_dir / f"fifo{number}")

    async def ask(number: int) -> int:
        url = agent.at("/files/download", f"fifo{number}")
        async with agent.client.get(url) as response:
            return response.status

    assert set(await asyncio.gather(*map(ask, range(64)))) == {400}
    async with agent.client.get(agent.at("/files/download", "big")) as response:
        assert await response.read() == data


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/self/maps"])
async def test_virtual_files_come_to_their_end(agent: Agent, path: str) -> None:
    async with agent.client.get(agent.at("/files/download", path)) as response:
        body = await response.read()

    assert response.status == 200
    assert len(body) > 1000
    assert body[:5] == content_of(path)[:5]


async def test_a_virtual_file_that_claims_a_size_is_not_padded(agent: Agent) -> None:
    path = "/sys/kernel/uevent_seqnum"
    assert os.stat(path).st_size > len(content_of(path))  # noqa: PTH116

    async with agent.client.get(agent.at("/files/download", path)) as response:
        assert await response.read() == content_of(path)


async def test_a_large_virtual_file_is_streamed(agent: Agent) -> None:
    path = "/proc/kallsyms"
    expected = content_of(path)
    assert len(expected) > INLINE_BYTES

    async with agent.client.get(agent.at("/files/download", path)) as response:
        body = await response.read()

    assert "Content-Length" not in response.headers
    assert body == expected


async def test_never_more_is_sent_than_was_announced(agent: Agent) -> None:
    size = 8 * 1024 * 1024
    data = make(agent, size)
    url = agent.at("/files/download", "f")

    async with agent.connection() as (reader, writer):
        writer.write(
            agent.head("GET", url) + agent.head("GET", agent.at("/files/info", "f"))
        )
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        with (agent.work_dir / "f").open("ab") as file:
            file.write(b"more" * 1000)
        body = await reader.readexactly(size)
        following = await reader.readuntil(b"\r\n\r\n")

    assert body == data
    assert following.startswith(b"HTTP/1.1 200 OK")


async def test_a_file_that_becomes_shorter_breaks_the_connection(agent: Agent) -> None:
    size = 64 * 1024 * 1024
    with (agent.work_dir / "f").open("wb") as file:
        file.truncate(size)
    url = agent.at("/files/download", "f")

    async with agent.connection() as (reader, writer):
        writer.write(agent.head("GET", url))
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(agent.work_dir / "f", 1000)
        received = await _read_to_the_end(reader)

    assert received < size


async def _read_to_the_end(reader: asyncio.StreamReader) -> int:
    received = 0
    try:
        while data := await reader.read(2**20):
            received += len(data)
    except ConnectionResetError:
        pass
    return received


async def test_a_file_replaced_while_it_is_sent_stays_the_old_one(agent: Agent) -> None:
    data = make(agent, 8 * 1024 * 1024)
    url = agent.at("/files/download", "f")

    async with agent.connection() as (reader, writer):
        writer.write(agent.head("GET", url))
        await reader.readuntil(b"\r\n\r\n")
        async with agent.client.post(
            agent.at("/files/upload-v2", "f"), data=b"new"
        ) as response:
            assert response.status == 200
        assert await reader.readexactly(len(data)) == data


async def test_a_range_of_a_sparse_terabyte(agent: Agent) -> None:
    with (agent.work_dir / "f").open("wb") as file:
        file.truncate(2**40)
        file.seek(2**39)
        file.write(b"here")
    headers = {"Range": f"bytes={2**39 - 2}-{2**39 + 5}"}

    async with agent.client.get(
        agent.at("/files/download", "f"), headers=headers
    ) as response:
        assert await response.read() == b"\0\0here\0\0"


async def test_clients_that_leave_half_way_cost_nothing(agent: Agent) -> None:
    data = make(agent, 8 * 1024 * 1024)
    url = agent.at("/files/download", "f")

    for _ in range(20):
        async with agent.connection() as (reader, writer):
            writer.write(agent.head("GET", url))
            await reader.readexactly(5000)
            writer.transport.abort()

    async with agent.client.get(url) as response:
        assert await response.read() == data


async def test_a_signed_url_needs_no_token(tmp_path: Path) -> None:
    from agent.web.guard import sign  # noqa: PLC0415

    from .conftest import serve  # noqa: PLC0415

    (tmp_path / "state").mkdir(0o700)
    async with serve(tmp_path, tmp_path / "state", signing_key="key") as agent:
        (tmp_path / "f").write_bytes(b"signed")
        for method, signature, status in (
            ("GET", sign(b"key", "GET", "f", "0"), 200),
            ("HEAD", sign(b"key", "GET", "f", "0"), 200),
            ("GET", sign(b"key", "GET", "other", "0"), 401),
        ):
            url = agent.at("/files/download", "f", expires="0", signature=signature)
            async with agent.client.request(
                method, url, headers={"Authorization": ""}
            ) as response:
                assert response.status == status
        url = agent.at(
            "/files/upload-v2",
            "g",
            expires="0",
            signature=sign(b"key", "POST", "g", "0"),
        )
        async with agent.client.post(
            url, data=b"x", headers={"Authorization": ""}
        ) as response:
            assert response.status == 200
    (tmp_path / "f").unlink()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    size=st.sampled_from([0, 1, 10, 1000, INLINE_BYTES + 10]),
    first=st.integers(0, 1100) | st.none(),
    last=st.integers(0, INLINE_BYTES + 100) | st.none(),
)
def test_ranges_agree_with_slices(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    first: int | None,
    last: int | None,
) -> None:
    from agent.errors import RangeError  # noqa: PLC0415
    from agent.files.content import open_content  # noqa: PLC0415
    from agent.files.downloads import plan_download  # noqa: PLC0415

    path = tmp_path_factory.getbasetemp() / f"slices{size}"
    if not path.exists():
        path.write_bytes(os.urandom(size))
    data = path.read_bytes()
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    content = open_content(str(path), "f")
    try:
        plan = plan_download(content, "f", {"Range": header})
    except RangeError:
        plan = None
    content.close()

    if first is None:
        expected = data[-last:] if last else b""
    else:
        expected = data[first : None if last is None else last + 1]
    if plan is None or size == 0:
        assert not expected
    else:
        assert plan.size_bytes == len(expected)
        assert plan.status == 206
