"""Bulk downloads, byte by byte."""

import asyncio
import json
import os
import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.files.downloads import INLINE_BYTES

from .conftest import Agent, failure

SIZES = [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 3 * 1024 * 1024 + 7]


@dataclass
class Part:
    """One part of an answer."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> Message:
        """Its header lines."""
        return BytesHeaderParser().parsebytes(self.head)

    @property
    def path(self) -> str:
        """The path that it names."""
        found = re.search(rb"filename\*=utf-8''(\S*)", self.head)
        assert found is not None
        return unquote(found[1].decode())

    @property
    def error(self) -> dict[str, Any]:
        """The failure that it tells; checks that it is such a part."""
        assert b'form-data; name="error"; filename=' in self.head
        assert b"Content-Type: application/json; charset=utf-8" in self.head
        assert b"Content-Length" not in self.head
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


def parts_of(body: bytes, mark: str) -> list[Part]:
    """Cut an answer into its parts; fails when its end is missing."""
    assert body.endswith(f"\r\n--{mark}--\r\n".encode())
    pieces = (b"\r\n" + body).split(f"\r\n--{mark}".encode())
    assert pieces[0] == b""
    return [Part(*each[2:].split(b"\r\n\r\n", 1)) for each in pieces[1:-1]]


async def ask(agent: Agent, *paths: object) -> list[Part]:
    async with agent.client.post(
        agent.at("/files/bulk-download"), json={"paths": [str(path) for path in paths]}
    ) as response:
        assert response.status == 200
        media_type, _, mark = response.headers["Content-Type"].partition("; boundary=")
        assert media_type == "multipart/form-data"
        assert "Content-Length" not in response.headers
        return parts_of(await response.read(), mark)


async def test_every_path_has_a_part_in_the_order_asked(agent: Agent) -> None:
    contents = {f"f{size}": os.urandom(size) for size in SIZES}
    for name, content in contents.items():
        (agent.work_dir / name).write_bytes(content)

    parts = await ask(agent, *contents, *reversed(contents))

    assert [part.path for part in parts] == [*contents, *reversed(contents)]
    for part in parts:
        assert part.body == contents[part.path]
        assert part.headers["Content-Length"] == str(len(part.body))


async def test_the_head_of_a_part_is_that_of_the_contract(agent: Agent) -> None:
    path = agent.work_dir / 'é "漢.txt'
    path.write_bytes(b"12345")

    part = (await ask(agent, path))[0]

    latin = str(path).replace('"', '\\"').replace("漢", "_").encode("latin-1")
    escaped = str(path).replace("/", "%2F").replace(" ", "%20").replace('"', "%22")
    escaped = escaped.replace("é", "%C3%A9").replace("漢", "%E6%BC%A2")
    assert part.head == (
        b'Content-Disposition: form-data; name="file"; filename="' + latin
        + f"\"; filename*=utf-8''{escaped}\r\n".encode()
        + b"Content-Type: text/plain\r\nContent-Length: 5"
    )  # fmt: skip


async def test_the_requested_path_is_echoed_verbatim(agent: Agent) -> None:
    (agent.work_dir / "a.txt").write_bytes(b"x")
    wanted = ["a.txt", "./a.txt", "../work/a.txt", f"{agent.work_dir}//a.txt"]

    assert [part.path for part in await ask(agent, *wanted)] == wanted


async def test_a_failure_is_a_part_of_its_own(agent: Agent) -> None:
    (agent.work_dir / "d").mkdir()
    os.mkfifo(agent.work_dir / "fifo")
    (agent.work_dir / "good").write_bytes(b"good")
    wanted = {
        "nowhere": (404, "FILE_NOT_FOUND", "file not found: nowhere"),
        "": (400, "INVALID_FILE_PATH", "invalid file path: path is empty"),
        "d": (
            400,
            "INVALID_FILE_PATH",
            "invalid file path: path points to a directory: d",
        ),
        "fifo": (
            400,
            "INVALID_FILE_PATH",
            "invalid file path: not a regular file: fifo",
        ),
        "a\0b": (400, "INVALID_FILE_PATH", "invalid file path: it contains a NUL byte"),
    }

    parts = await ask(agent, *wanted, "good")

    assert parts[-1].body == b"good"
    for part, (path, (status, code, message)) in zip(
        parts, wanted.items(), strict=False
    ):
        error = part.error
        assert part.path == path
        assert error.pop("timestamp").endswith("Z")
        assert error == {
            "statusCode": status,
            "message": message,
            "source": "DAYTONA_DAEMON",
            "code": code,
            "path": path,
            "method": "POST",
        }


@pytest.mark.root
async def test_a_file_that_may_not_be_read_is_told(agent: Agent) -> None:
    (agent.work_dir / "secret").touch(0o600)
    for each in (agent.work_dir, *agent.work_dir.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        part = (await ask(agent, "secret"))[0]
    finally:
        os.seteuid(0)
        os.setegid(0)

    assert (part.error["statusCode"], part.error["code"], part.error["message"]) == (
        403,
        "FILE_ACCESS_DENIED",
        "permission denied: secret",
    )


async def test_a_file_that_cannot_be_read_otherwise_is_a_failed_read(
    agent: Agent,
) -> None:
    # Reading one's own memory from its beginning is an input/output error.
    part = (await ask(agent, "/proc/self/mem"))[0]

    assert (part.error["statusCode"], part.error["code"]) == (500, "FILE_READ_FAILED")


@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/kallsyms", "/sys/kernel/uevent_seqnum"])  # fmt: skip
async def test_virtual_files_come_to_their_end(agent: Agent, path: str) -> None:
    part = (await ask(agent, path))[0]

    length = part.headers["Content-Length"]
    assert part.body[:5] == first_bytes(path)
    assert length is None or int(length) == len(part.body)


def first_bytes(path: str) -> bytes:
    return Path(path).read_bytes()[:5]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"paths":[]}', b'{"paths":null}', b'{"paths":"a"}', b'{"paths":[1]}', b"junk"])  # fmt: skip
async def test_a_bad_body_is_told_whole(agent: Agent, body: bytes) -> None:
    async with agent.client.post(
        agent.at("/files/bulk-download"), data=body
    ) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (400, "INVALID_REQUEST_BODY")


async def test_boundaries_differ_from_answer_to_answer(agent: Agent) -> None:
    marks = set()
    for _ in range(3):
        async with agent.client.post(
            agent.at("/files/bulk-download"), json={"paths": ["x"]}
        ) as response:
            marks.add(response.headers["Content-Type"])

    assert len(marks) == 3


async def test_a_file_that_becomes_shorter_ends_the_answer_without_its_mark(
    agent: Agent,
) -> None:
    size = 64 * 1024 * 1024
    with (agent.work_dir / "f").open("wb") as file:
        file.truncate(size)
    body = b'{"paths":["f","f"]}'
    head = agent.head(
        "POST",
        agent.at("/files/bulk-download"),
        Content_Length=len(body),
        Connection="close",
    )

    async with agent.connection() as (reader, writer):
        writer.write(head + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        mark = re.search(rb"boundary=(\S+)", answer)
        assert mark is not None
        # The head of the first part: the file is open from here on.
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(agent.work_dir / "f", 1000)
        answer = await reader.read()

    # The chunks end as they should, so the client gets to see the missing mark.
    assert answer.endswith(b"0\r\n\r\n")
    assert b"--" + mark[1] + b"--" not in answer
    assert len(answer) < size


async def test_clients_that_leave_half_way_cost_nothing(agent: Agent) -> None:
    (agent.work_dir / "f").write_bytes(os.urandom(8 * 1024 * 1024))
    body = b'{"paths":["f","f","f"]}'
    head = agent.head(
        "POST", agent.at("/files/bulk-download"), Content_Length=len(body)
    )

    for _ in range(10):
        async with agent.connection() as (reader, writer):
            writer.write(head + body)
            await reader.readexactly(5000)
            writer.transport.abort()

    assert len(await ask(agent, "f")) == 1


async def test_many_small_files_come_together(agent: Agent) -> None:
    for number in range(500):
        (agent.work_dir / f"{number}").write_bytes(b"%d" % number)

    parts = await asyncio.wait_for(ask(agent, *range(500)), 8)

    assert [part.body for part in parts] == [b"%d" % number for number in range(500)]


async def test_large_and_missing_files_come_among_the_small_ones(agent: Agent) -> None:
    small, large = b"s" * 700, os.urandom(INLINE_BYTES + 1)
    (agent.work_dir / "small").write_bytes(small)
    (agent.work_dir / "large").write_bytes(large)
    wanted = (["small"] * 400 + ["large", "missing", "large"]) * 2

    parts = await ask(agent, *wanted)

    contents = {"small": small, "large": large}
    assert [part.path for part in parts] == wanted
    for part in parts:
        if part.path == "missing":
            assert part.error["code"] == "FILE_NOT_FOUND"
        else:
            assert part.body == contents[part.path]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
        .filter(lambda name: name not in {".", ".."} and not name.startswith("~") and len(name.encode()) < 200),
        min_size=1, max_size=4, unique=True,
    ),
    content=st.binary(max_size=200),
)  # fmt: skip
async def test_any_name_comes_back_as_it_was_asked(
    agent: Agent, names: list[str], content: bytes
) -> None:
    for name in names:
        (agent.work_dir / name).write_bytes(content)

    parts = await ask(agent, *names)

    assert [part.path for part in parts] == names
    assert [part.body for part in parts] == [content] * len(names)
    for name in names:
        (agent.work_dir / name).unlink()
